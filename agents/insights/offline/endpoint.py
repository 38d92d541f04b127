"""The analyst as a model endpoint: OpenAI's chat completions over HTTP on a loopback port, in the server's own loop.

So a run without a key takes the way of one with a key: the same client, the same wire, streaming, tool calls and usage.
"""

import asyncio
import hmac
import re
import secrets
import socket
import time
from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from askstream.agents.insights.offline.analyst import MODEL, reply
from askstream.agents.insights.offline.conversation import Act, Json, Reply, Say, call_id

# Usage is counted in word pieces: up to four letters or digits are one, and so is every other sign. It is the analyst's
# own measure, near to what tokenizers give for English.
_PIECE: Final = re.compile(r"[^\W_]{1,4}|[^\w\s]|_")
# Characters in a streamed chunk, about: a few words, so that text is seen to grow, at little cost for each.
_CHUNK: Final = 48
_MAX_BODY: Final = 4 * 1024 * 1024  # a conversation of forty messages with their tool results stays far below
_GRACE: Final = 1  # seconds for open answers when the endpoint closes
Finish = Literal["stop", "tool_calls"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    base_url: str
    api_key: str
    model: str = MODEL


@asynccontextmanager
async def serve() -> AsyncGenerator[Endpoint]:
    """The endpoint, open while the context is. It listens on 127.0.0.1 alone, on a free port, with a key of its own."""
    key = secrets.token_urlsafe(24)
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        application(key),
        log_config=None,  # the process has its own
        access_log=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=_GRACE,
    )
    server = _Server(config)
    # Owned by this context alone: a task group would wrap whatever ends the context into a group of errors.
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        await server.ready.wait()
        yield Endpoint(f"http://127.0.0.1:{listening.getsockname()[1]}/v1", key)
    finally:
        server.should_exit = True
        await serving


def application(key: str) -> Starlette:
    """The HTTP side alone; every request must bear the key."""

    async def completions(request: Request) -> Response:
        if refusal := _refusal(request, key):
            return refusal
        body = await _body(request)
        return body if isinstance(body, Response) else _complete(body)

    async def models(request: Request) -> Response:
        model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "askstream"}
        return _refusal(request, key) or _json({"object": "list", "data": [model]})

    return Starlette(
        routes=[
            Route("/v1/chat/completions", completions, methods=["POST"]),
            Route("/v1/models", models, methods=["GET"]),
        ]
    )


class _Server(uvicorn.Server):
    """A server that is a guest in its process: it takes no signals, and announces itself to nobody."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.ready.set()


def count_tokens(text: str) -> int:
    return len(_PIECE.findall(text))


def chunks_of(text: str) -> Iterator[str]:
    """The text in pieces that end where a word does; joined they are the text."""
    start = 0
    while start < len(text):
        end = start + _CHUNK
        while end < len(text) and not text[end - 1].isspace():
            end += 1
        yield text[start:end]
        start = end


# --- requests --------------------------------------------------------------------------------------------------------


def _refusal(request: Request, key: str) -> Response | None:
    given = request.headers.get("authorization", "")
    if hmac.compare_digest(given.encode(), f"Bearer {key}".encode()):
        return None
    return _error(401, "invalid_api_key", "The key is wrong.")


async def _body(request: Request) -> Json | Response:
    """The request's JSON object, or what to answer instead."""
    raw = bytearray()
    async for piece in request.stream():
        raw += piece
        if len(raw) > _MAX_BODY:
            return _error(413, "request_too_large", f"At most {_MAX_BODY:,} bytes are read.")
    try:
        body: Any = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return _error(400, "invalid_json", "The body isn't JSON.")
    match body:
        case {"messages": [*messages]} if all(isinstance(message, dict) for message in cast("list[object]", messages)):
            return cast("Json", body)
        case _:
            return _error(400, "invalid_request", "The body needs a list `messages`.")


def _asks_for_usage(body: Json) -> bool:
    match body:
        case {"stream_options": {"include_usage": True}}:
            return True
        case _:
            return False


def _complete(body: Json) -> Response:
    messages: Sequence[Json] = body["messages"]
    given: Any = body.get("tools")
    tools: Sequence[Json] = cast("list[Json]", given) if isinstance(given, list) else ()
    answer = reply(messages, tools)
    head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": MODEL}
    usage = _usage(body, answer)
    if body.get("stream"):
        told = usage if _asks_for_usage(body) else None
        # All of it is known by now: one write for all of its pieces, instead of one for each.
        return Response(b"".join(_stream(head, answer, len(messages), told)), media_type="text/event-stream")
    choice = {
        "index": 0,
        "message": _message(answer, len(messages)),
        "finish_reason": _finish(answer),
        "logprobs": None,
    }
    return _json({**head, "object": "chat.completion", "choices": [choice], "usage": usage})


# --- answers ---------------------------------------------------------------------------------------------------------


def _stream(head: Json, answer: Reply, position: int, usage: Json | None) -> Iterator[bytes]:
    frame = {**head, "object": "chat.completion.chunk"}
    for delta in _deltas(answer, position):
        yield _sse({**frame, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    yield _sse({**frame, "choices": [{"index": 0, "delta": {}, "finish_reason": _finish(answer)}]})
    if usage:
        yield _sse({**frame, "choices": [], "usage": usage})
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


def _usage(body: Json, answer: Reply) -> Json:
    """Pieces of all that was sent, tools included, and of all that is answered."""
    sent = orjson.dumps([body["messages"], body.get("tools") or []]).decode()
    told = _text(answer) + "".join(call["function"]["arguments"] for call in _calls(answer, 0))
    prompt, completion = count_tokens(sent), count_tokens(told)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _sse(value: Json) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


def _json(value: Json, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")


def _error(status: int, code: str, message: str) -> Response:
    return _json({"error": {"message": message, "type": "invalid_request_error", "code": code}}, status)
