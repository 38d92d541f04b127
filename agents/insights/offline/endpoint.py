"""The analyst as a model endpoint: OpenAI's chat completions over HTTP on a loopback port, in the server's own loop.

So a run without a key takes the way of one with a key: the same client, the same wire, streaming, tool calls and usage.
The analyst itself is imported by `load`, or else by the first request: a server that starts answers without it.
"""

import asyncio
import hmac
import logging
import secrets
import socket
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, cast

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

Json = Mapping[str, Any]

MODEL: Final = "offline-analyst (rules, no LLM)"
_MAX_BODY: Final = 4 * 1024 * 1024  # a conversation of forty messages with their tool results stays far below
_GRACE: Final = 1  # seconds for open answers when the endpoint closes
_is_ours: ContextVar[bool] = ContextVar("_is_ours", default=False)  # whether the offline endpoint's server is running


@dataclass(frozen=True, slots=True)
class Endpoint:
    base_url: str
    api_key: str
    model: str = MODEL


def load() -> None:
    """Import the analyst. Call it in a thread: it takes a tenth of a second."""
    import_module("askstream.agents.insights.offline.completions")


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
    with _quiet_logger():
        # Owned by this context alone: a task group would wrap whatever ends the context into a group of errors.
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            await server.ready.wait()
            yield Endpoint(f"http://127.0.0.1:{listening.getsockname()[1]}/v1", key)
        finally:
            server.should_exit = True
            await serving


@contextmanager
def _quiet_logger() -> Generator[None]:
    """Keeps this server's lines below WARNING out of uvicorn's logger. A host under uvicorn would see two starts."""

    def is_shown(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or not _is_ours.get()

    logger = logging.getLogger("uvicorn.error")
    logger.addFilter(is_shown)
    try:
        yield
    finally:
        logger.removeFilter(is_shown)


def application(key: str) -> Starlette:
    """The HTTP side alone; every request must bear the key."""

    async def completions(request: Request) -> Response:
        if refusal := _refusal(request, key):
            return refusal
        body = await _body(request)
        return body if isinstance(body, Response) else _completion(body)

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

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """In a task of its own, whose context says so."""
        _is_ours.set(True)
        await super().serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.ready.set()


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


def _completion(body: Json) -> Response:
    from askstream.agents.insights.offline.completions import complete

    content, media_type = complete(body, MODEL)
    return Response(content, media_type=media_type)


def _json(value: Json, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")


def _error(status: int, code: str, message: str) -> Response:
    return _json({"error": {"message": message, "type": "invalid_request_error", "code": code}}, status)
