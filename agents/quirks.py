"""Makes one form of the forms in which servers with OpenAI's API stream an answer. Pure: JSON in, JSON out.

Ollama and vLLM send thoughts as `reasoning`, Ollama gives all of an answer's tool calls the index 0, some servers
repeat a call's id and name in each piece, some count the usage in the last piece of text, and halves of a character
come in two pieces. AutoGen reads none of these.
"""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from askstream.server.events.unicode import PieceMender

Object = dict[str, Any]

_TEXTS = ("content", "reasoning_content")


class AnswerRepair:
    """The chunks of one answer, in AutoGen's form. `usage` is the last that a chunk had."""

    def __init__(self) -> None:
        self.usage: Object | None = None
        self._last: Object = {}
        self._texts = {name: PieceMender() for name in _TEXTS}
        self._calls = _Calls()

    def chunk(self, value: Object) -> Object:
        """Repair a chunk in place. Its usage is kept for `end`: AutoGen reads that of the last chunk only, and drops
        the finish reason that comes with it."""
        self.usage = value.pop("usage", None) or self.usage
        self._last = value
        for choice in _objects(value.get("choices"))[:1]:
            if isinstance(choice.get("delta"), dict):
                self._repair(choice["delta"])
        return value

    def end(self) -> Iterator[Object]:
        """The chunks to add behind the last: the rest of a text, and the usage."""
        rest = {name: text for name, mender in self._texts.items() if (text := mender.end())}
        if rest:
            yield {**self._last, "choices": [{"index": 0, "delta": rest, "finish_reason": None}]}
        if self.usage is not None:
            yield {**self._last, "choices": [], "usage": self.usage}

    def _repair(self, delta: Object) -> None:
        if delta.get("reasoning_content") is None and isinstance(delta.get("reasoning"), str):
            delta["reasoning_content"] = delta["reasoning"]
        for name, mender in self._texts.items():
            if isinstance(delta.get(name), str):
                delta[name] = mender.add(delta[name])
        if not delta.get("reasoning_content") and delta.get("content"):
            delta.pop("reasoning_content", None)  # an empty one beside the answer would keep the thoughts open
        if calls := _objects(delta.get("tool_calls")):
            delta["tool_calls"] = [self._calls.piece(piece) for piece in calls]


@dataclass(slots=True)
class _Call:
    """A tool call of which a piece has come."""

    call_id: str
    name: str = ""
    mender: PieceMender = field(default_factory=PieceMender)


class _Calls:
    """The tool calls of one answer. A call's place is its index for AutoGen, the server's own may be wrong."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._places: dict[int, int] = {}  # by the server's index, of its newest call

    def piece(self, given: Object) -> Object:
        function = cast(Object, given["function"]) if isinstance(given.get("function"), dict) else {}
        place, is_new = self._place(given, function)
        call = self._calls[place]
        arguments = function.get("arguments")
        text = arguments if isinstance(arguments, str) else "" if arguments is None else json.dumps(arguments)
        return {
            "index": place,
            "id": call.call_id if is_new else None,
            "type": "function",
            "function": {"name": _news(call, function.get("name")), "arguments": call.mender.add(text)},
        }

    def _place(self, given: Object, function: Object) -> tuple[int, bool]:
        """The place of a piece's call, and whether the call is new."""
        index, call_id = given.get("index"), str(given.get("id") or "")
        known = [place for place, call in enumerate(self._calls) if call_id and call.call_id == call_id]
        if known:
            return known[-1], False
        place = self._places.get(index) if isinstance(index, int) else len(self._calls) - 1 if self._calls else None
        begins = place is None or bool(call_id) or (index is None and bool(function.get("name")))
        if place is not None and not begins:
            return place, False
        self._calls.append(_Call(call_id or f"call_{uuid.uuid4().hex}"))
        self._places[index if isinstance(index, int) else 0] = len(self._calls) - 1
        return len(self._calls) - 1, True


def _news(call: _Call, name: object) -> str | None:
    """The part of a call's name that hasn't come yet: some servers repeat the whole in each piece."""
    if not isinstance(name, str) or not name or name == call.name:
        return None
    call.name += name
    return name


def _objects(value: object) -> list[Object]:
    return [item for item in cast("list[Any]", value) if isinstance(item, dict)] if isinstance(value, list) else []
