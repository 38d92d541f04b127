"""The extension under real uvicorn: what it offers, when it can't, and that it leaves nothing behind.

It leans on names inside uvicorn. When an upgrade moves one, these tests fail before anything else does.
"""

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from askstream.server.connections.direct import Connection, Socket
from askstream.server.connections.uvicorn import EXTENSION, Http, Upgrade, WebSocket, Welcome

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
async def serving(
    application: Application, welcomes: Mapping[bytes, Welcome] | None = None, **options: Any
) -> AsyncGenerator[int]:
    http = cast(Any, partial(Http, welcomes=welcomes))
    config = uvicorn.Config(application, port=0, lifespan="off", http=http, ws=WebSocket, log_config=None, **options)
    server = uvicorn.Server(config)
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(server, "capture_signals", contextlib.nullcontext)
    task = asyncio.ensure_future(server.serve())
    while not server.started:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.001)
    async with asyncio.timeout(20):
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


@dataclass
class Welcoming:
    """Takes in each WebSocket that it may, and holds nothing of its request."""

    sockets: list[Socket] = field(default_factory=list[Socket])
    protocols: list["weakref.ref[Any]"] = field(default_factory=list["weakref.ref[Any]"])
    offered: list[Sequence[str]] = field(default_factory=list[Sequence[str]])
    owner: Owner = field(default_factory=Owner)

    def __call__(self, upgrade: Upgrade) -> None:
        accept = cast(Any, upgrade.accept)
        self.protocols.append(weakref.ref(accept.func.__self__))
        self.offered.append(upgrade.subprotocols)
        self.sockets.append(upgrade.accept(self.owner, next(iter(upgrade.subprotocols), None)))


async def _asgi_only(scope: Scope, receive: Receive, send: Send) -> None:
    """Tells who it is that answers."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})
        return
    await receive()
    await send({"type": "websocket.accept", "headers": [(b"by", b"asgi")]})
    assert callable(scope["extensions"][EXTENSION]["abort"])
    await receive()


async def test_a_websocket_is_taken_in_without_a_request() -> None:
    """Nothing of it stays but the connection and its sans-IO core, and no task was needed."""
    welcome = Welcoming()
    gc.disable()
    try:
        async with serving(_asgi_only, {b"/": welcome}) as port:
            tasks = len(asyncio.all_tasks())
            reader, writer = await _asked(port, UPGRADE)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 ")
            assert b"by: asgi" not in head
            assert len(asyncio.all_tasks()) == tasks
            assert welcome.protocols[0]() is None
            welcome.sockets[0].write(b"\x81\x02hi")
            assert await reader.readexactly(4) == b"\x81\x02hi"
            writer.close()
            await welcome.owner.lost_ones.wait()
    finally:
        gc.enable()


async def test_what_a_client_offers_is_chosen_from() -> None:
    """The answer names one of its subprotocols."""
    welcome = Welcoming()
    async with serving(_asgi_only, {b"/": welcome}) as port:
        reader, writer = await _asked(port, UPGRADE.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: b, a\r\n\r\n"))
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"\r\nSec-WebSocket-Protocol: b\r\n" in head
        assert welcome.offered == [["b", "a"]]
        writer.close()
        await welcome.owner.lost_ones.wait()


async def test_a_websocket_that_follows_an_answered_request_is_taken_in_as_well() -> None:
    """On the same connection."""
    welcome = Welcoming()
    async with serving(_asgi_only, {b"/": welcome}) as port:
        reader, writer = await _asked(port, GET)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(UPGRADE)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        assert len(welcome.sockets) == 1
        writer.close()
        await welcome.owner.lost_ones.wait()


async def test_a_message_that_is_too_large_closes_the_socket() -> None:
    """uvicorn's setting counts here, too: 1009."""
    welcome = Welcoming()
    async with serving(_asgi_only, {b"/": welcome}, ws_max_size=100) as port:
        reader, writer = await _asked(port, UPGRADE)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\x82\xe5\0\0\0\0" + bytes(101))
        assert (await reader.readexactly(4))[2:] == (1009).to_bytes(2, "big")
        writer.close()
        await welcome.owner.lost_ones.wait()


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (UPGRADE.replace(b"GET / ", b"GET /else "), b"HTTP/1.1 101 "),
        (UPGRADE.replace(b"Connection: Upgrade", b"Connection: Upgrade, x"), b"HTTP/1.1 101 "),
        (UPGRADE.replace(b"Version: 13", b"Version: 12"), b"HTTP/1.1 400 "),
        (UPGRADE.replace(b"Key: dGhl", b"Key: dGh"), b"HTTP/1.1 400 "),
        (UPGRADE.replace(b"GET", b"POST"), b"HTTP/1.1 405 "),
        (GET + UPGRADE, b"HTTP/1.1 200 "),
        (UPGRADE.replace(b"\r\n\r\n", b"\r\nX: " + bytes([120]) * 9000 + b"\r\n\r\n"), b"HTTP/1.1 431 "),
    ],
    ids=[
        "another path",
        "another way to say it",
        "another version",
        "no key",
        "no GET",
        "another request waits",
        "too long",
    ],
)
async def test_what_is_unusual_goes_uvicorn_s_way(asked: bytes, answer: bytes) -> None:
    """It knows what may be had, and how to refuse the rest; nobody is left without an answer."""
    welcome = Welcoming()
    async with serving(_asgi_only, {b"/": welcome}) as port:
        reader, writer = await _asked(port, asked)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(answer)
        assert (b"by: asgi" in head) == (b" 101 " in answer)
        assert not welcome.sockets
        writer.close()
