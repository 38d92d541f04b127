"""The extension under real uvicorn: what it offers, when it can't, and that it leaves nothing behind.

It leans on names inside uvicorn. When an upgrade moves one, these tests fail before anything else does.
"""

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from server.connection import Connection
from server.protocols import EXTENSION, Http, WebSocket

Application = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass
class Owner:
    lost_ones: asyncio.Event = field(default_factory=asyncio.Event)

    def paused(self) -> None: ...

    def received(self, text: str | bytes) -> None: ...

    def lost(self) -> None:
        self.lost_ones.set()


@dataclass
class Taking:
    """An application that takes each connection, where it gets it, and returns."""

    headers: list[tuple[bytes, bytes]] = field(default_factory=lambda: [(b"connection", b"close")])
    taken: list[Connection | None] = field(default_factory=list[Connection | None])
    protocols: list["weakref.ref[Any]"] = field(default_factory=list["weakref.ref[Any]"])
    owner: Owner = field(default_factory=Owner)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        offered = scope["extensions"][EXTENSION]
        self.protocols.append(weakref.ref(offered["take"].__self__))
        assert offered["take"](self.owner) is None, "before the response has begun there is nothing to take"
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        connection = offered["take"](self.owner)
        self.taken.append(connection)
        if connection is None:
            await send({"type": "http.response.body", "body": b"plain"})


@asynccontextmanager
async def serving(application: Application) -> AsyncGenerator[int]:
    config = uvicorn.Config(application, port=0, lifespan="off", http=Http, ws=WebSocket, log_config=None)
    server = uvicorn.Server(config)
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(server, "capture_signals", contextlib.nullcontext)
    task = asyncio.ensure_future(server.serve())
    while not server.started:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.001)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await task


async def _asked(port: int, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    return reader, writer


GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_the_rest_of_a_response_is_written_without_its_request() -> None:
    """The client sees one ordinary response in chunks; of the request nothing is left while it is being written."""
    application = Taking()
    gc.disable()
    try:
        async with serving(application) as port:
            reader, writer = await _asked(port, GET)
            await reader.readuntil(b"\r\n\r\n")
            connection = application.taken[0]
            assert connection is not None
            assert application.protocols[0]() is None
            connection.write(b"5\r\nhello\r\n0\r\n\r\n")
            connection.close()
            assert await reader.read() == b"5\r\nhello\r\n0\r\n\r\n"
            writer.close()
            await application.owner.lost_ones.wait()
    finally:
        gc.enable()


async def test_a_client_that_leaves_is_told_of() -> None:
    """And what it still said before that is nobody's business."""
    application = Taking()
    async with serving(application) as port:
        reader, writer = await _asked(port, GET)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"anything at all")
        writer.close()
        await application.owner.lost_ones.wait()


async def test_a_server_that_stops_closes_what_was_taken() -> None:
    """uvicorn knows of it, and doesn't wait for it."""
    application = Taking()
    async with serving(application) as port:
        reader, writer = await _asked(port, GET)
        await reader.readuntil(b"\r\n\r\n")
    assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize(
    ("request_bytes", "headers"),
    [
        (GET, []),
        (GET.replace(b"GET", b"HEAD"), [(b"connection", b"close")]),
        (GET, [(b"connection", b"close"), (b"content-length", b"5")]),
        (GET + GET, [(b"connection", b"close")]),
        (
            GET.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 9\r\n\r\n12"),
            [(b"connection", b"close")],
        ),
    ],
    ids=["kept alive", "HEAD", "a length", "another request waits", "a body that is still coming"],
)
async def test_a_connection_that_is_needed_otherwise_is_not_given(
    request_bytes: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    """ASGI's own way goes on as if nobody had asked."""
    application = Taking(headers=headers)
    async with serving(application) as port:
        reader, writer = await _asked(port, request_bytes)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200")
        assert application.taken[0] is None
        writer.close()


UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def test_a_websocket_outlives_its_request() -> None:
    """Accepted, taken, returned from; the connection stays, and only its sans-IO core is still there."""
    taken: list[Connection | None] = []
    protocols: list[weakref.ref[Any]] = []
    owner = Owner()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        take = scope["extensions"][EXTENSION]["take"]
        protocols.append(weakref.ref(take.__self__))
        await receive()
        assert take(owner) is None, "before it is accepted it is not a WebSocket"
        await send({"type": "websocket.accept"})
        taken.append(take(owner))

    gc.disable()
    try:
        async with serving(application) as port:
            reader, writer = await _asked(port, UPGRADE)
            await reader.readuntil(b"\r\n\r\n")
            while not taken or protocols[0]() is not None:  # noqa: ASYNC110 - its task ends in its own time
                await asyncio.sleep(0)
            assert taken[0] is not None
            taken[0].write(b"\x81\x02hi")
            assert await reader.readexactly(4) == b"\x81\x02hi"
            writer.close()
            await owner.lost_ones.wait()
    finally:
        gc.enable()
