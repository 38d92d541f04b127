"""A model that follows scripts: each agent's system message holds its own texts and tool calls.

It has no memory: an answer follows from the request alone, so a team says the same in process, served, and resumed.
"""

import json
import re
import threading
from asyncio import Event, new_event_loop
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeAlias

from tests.agents.fake_provider import Body, Provider, Reply, provider
from tests.timing import PATIENCE

Line: TypeAlias = str | list[Any] | dict[str, str]
"""A text; the tool calls of a round, each a name and its arguments; or a thought and the text behind it."""

_MARK = "SCRIPT "
_HISTORY = "HISTORY"


def scripted(kind: str, name: str, lines: tuple[Line, ...]) -> str:
    """A system message. `kind` is the team's: the model can hang at its Nth call."""
    return f"You are {name} of {kind}. {_MARK}{json.dumps(lines)}"


def chooses(kind: str, *names: str) -> str:
    """A selector's prompt: of the Nth message the next speaker follows."""
    return f"You choose for {kind}. {_MARK}{json.dumps(names)} {_HISTORY}\n{{history}}"


class Model:
    """Counts the calls since `reset`, and hangs in some of them."""

    fake: Provider  # its server

    def __init__(self) -> None:
        self.reset()

    def reset(self, **hangs_at: int) -> None:
        """Start to count anew. `hangs_at` has the number of a call by kind of team."""
        self._hangs_at, self._calls, self.usage = hangs_at, Counter[str](), (0, 0)
        self._awaited, self.hung = set(hangs_at), threading.Event()  # set when all of them hang
        self.asked_more = False  # a kind that hangs has asked again

    def answer(self, body: Body, _number: int) -> Reply:
        messages, text = body["messages"], json.dumps(body["messages"])
        reply = _from_script(messages) or _of_manager(messages)
        usage = (len(messages), len(str(reply)))
        self.usage = (self.usage[0] + usage[0], self.usage[1] + usage[1])
        found = re.search(r"You (?:are \w+ of|choose for) (\w+)\.", text)
        return replace(reply, usage=usage, hang=found is not None and self._hangs(found[1]))

    def _hangs(self, kind: str) -> bool:
        number, self._calls[kind] = self._calls[kind], self._calls[kind] + 1
        self.asked_more |= number > self._hangs_at.get(kind, number)
        if self._hangs_at.get(kind) != number:
            return False
        self._awaited.discard(kind)
        if not self._awaited:
            self.hung.set()
        return True


def _from_script(messages: list[Body]) -> Reply | None:
    said = sum(message["role"] == "assistant" for message in messages)
    for message in messages:
        text = str(message["content"])
        if _MARK in text:
            lines, end = json.JSONDecoder().raw_decode(text.partition(_MARK)[2])
            history = text.partition(_MARK)[2][end:].partition(_HISTORY)[2]
            place = said + max(0, len(re.findall(r"^\w+: ", history, re.MULTILINE)) - 1)
            return _reply(lines[min(place, len(lines) - 1)])
    return None


def _reply(line: Line) -> Reply:
    match line:
        case str():
            half = len(line) // 2
            return Reply(text=[line[:half], line[half:]])
        case dict():
            return Reply(thoughts=[line["thought"]], text=[line["text"]])
        case list():
            return Reply(calls=[(name, json.dumps(arguments)) for name, arguments in line])


def _of_manager(messages: list[Body]) -> Reply:
    """MagenticOne's manager: each member speaks once, in turn."""
    asked = str(messages[-1]["content"])
    if "is_request_satisfied" not in asked:
        return Reply(text=["The final answer." if "completed the task" in asked else "Some facts and a plan."])
    spoken = {message.get("name") for message in messages}
    silent = [name for name in ("writer", "critic") if name not in spoken]
    facts = {
        "is_request_satisfied": not silent,
        "is_in_loop": False,
        "is_progress_being_made": True,
        "next_speaker": (silent or ["critic"])[0],
        "instruction_or_question": "Go on.",
    }
    return Reply(text=[json.dumps({name: {"reason": "r", "answer": value} for name, value in facts.items()})])


@contextmanager
def served() -> Generator[Model]:
    """The model, behind a server in a thread: several tests, each with a loop of its own, use it."""
    model, loop, ready, stop = Model(), new_event_loop(), threading.Event(), Event()

    async def serve() -> None:
        async with provider(model.answer) as model.fake:
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(PATIENCE)
        yield model
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
