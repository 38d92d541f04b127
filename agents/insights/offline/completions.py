"""The analyst's answers in the shapes of OpenAI's chat completions: whole or as a stream, with tool calls.

They have no usage: rules read no tokens."""

import secrets
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, cast

import orjson

from askstream.agents.insights.offline.analyst import reply
from askstream.agents.insights.offline.conversation import Act, Json, Reply, Say, call_id

# Characters in a streamed chunk, about: a few words, so that text is seen to grow, at little cost for each.
_CHUNK: Final = 48
Finish = Literal["stop", "tool_calls"]


def complete(body: Json, model: str) -> tuple[bytes, str]:
    """The answer to a request whose `messages` are a list of objects: its content and its media type."""
    messages: Sequence[Json] = body["messages"]
    given: Any = body.get("tools")
    tools: Sequence[Json] = cast("list[Json]", given) if isinstance(given, list) else ()
    answer = reply(messages, tools)
    head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}
    if body.get("stream"):
        # All of it is known by now: one write for all of its pieces, instead of one for each.
        return b"".join(_stream(head, answer, len(messages))), "text/event-stream"
    choice = {
        "index": 0,
        "message": _message(answer, len(messages)),
        "finish_reason": _finish(answer),
        "logprobs": None,
    }
    whole = {**head, "object": "chat.completion", "choices": [choice]}
    return orjson.dumps(whole), "application/json"


def chunks_of(text: str) -> Iterator[str]:
    """The text in pieces that end where a word does; joined they are the text."""
    start = 0
    while start < len(text):
        end = start + _CHUNK
        while end < len(text) and not text[end - 1].isspace():
            end += 1
        yield text[start:end]
        start = end


def _stream(head: Json, answer: Reply, position: int) -> Iterator[bytes]:
    frame = {**head, "object": "chat.completion.chunk"}
    for delta in _deltas(answer, position):
        yield _sse({**frame, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    yield _sse({**frame, "choices": [{"index": 0, "delta": {}, "finish_reason": _finish(answer)}]})
    yield b"data: [DONE]\n\n"


def _deltas(answer: Reply, position: int) -> Iterator[Json]:
    yield {"role": "assistant", "content": ""}
    for piece in chunks_of(_text(answer)):
        yield {"content": piece}
    for index, call in enumerate(_calls(answer, position)):
        name = {"name": call["function"]["name"], "arguments": ""}
        yield {"tool_calls": [{"index": index, "id": call["id"], "type": "function", "function": name}]}
        yield {"tool_calls": [{"index": index, "function": {"arguments": call["function"]["arguments"]}}]}


def _message(answer: Reply, position: int) -> Json:
    message: dict[str, Any] = {"role": "assistant", "content": _text(answer), "refusal": None}
    calls = _calls(answer, position)
    return message | ({"tool_calls": calls} if calls else {})


def _text(answer: Reply) -> str:
    match answer:
        case Say(text):
            return text
        case Act(thought, _):
            return thought


def _calls(answer: Reply, position: int) -> list[dict[str, Any]]:
    match answer:
        case Say():
            return []
        case Act(_, calls):
            return [
                {
                    "id": call_id(call, position),
                    "type": "function",
                    "function": {"name": call.name, "arguments": orjson.dumps(call.arguments).decode()},
                }
                for call in calls
            ]


def _finish(answer: Reply) -> Finish:
    return "stop" if isinstance(answer, Say) else "tool_calls"


def _sse(value: Json) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"
