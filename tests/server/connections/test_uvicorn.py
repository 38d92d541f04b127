"""Direct connections under real uvicorn: when they are taken over, when not, and that no request stays in memory.

The code uses private names of uvicorn. When an upgrade moves one, these tests fail first.
"""

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any, cast

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from askstream.server.auth import ACCESS, ANONYMOUS
from askstream.server.connections import InboundLimits, SocketConnection, SocketRoute, StreamConnection, serve_stream
from askstream.server.connections.direct import DirectSocket, DirectStream
from askstream.server.connections.uvicorn import HttpProtocol
from askstream.server.connections.uvicorn_websocket import WebSocket

Application = Callable[[Scope, Receive, Send], Awaitable[None]]
PROBE = b"2\r\n:\n\r\n"


@dataclass
class Handler:
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    connections: list[Any] = field(default_factory=list[Any])

    def opened(self, connection: Any, /) -> None:
        self.connections.append(connection)

    def paused(self) -> None: ...

    def stalled(self) -> None: ...

    def received(self, text: str | bytes) -> None: ...

    def control(self) -> None: ...

    def lost(self) -> None:
        self.gone.set()


@dataclass
class Streams:
    """An application that answers each request with a stream, which the test writes."""

    headers: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])
    protocols: list["weakref.ref[Any]"] = field(default_factory=list["weakref.ref[Any]"])
    handler: Handler = field(default_factory=Handler)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.protocols.append(weakref.ref(scope["extensions"]["askstream.connection"]["take_over"].__self__))
        await serve_stream(scope, receive, send, self.handler, headers=self.headers, probe=b":\n", send_seconds=15)

    @property
    def opened(self) -> list[StreamConnection]:
        return self.handler.connections

    async def until(self, count: int) -> StreamConnection:
        while len(self.opened) < count:  # noqa: ASYNC110 - no event marks it
            await asyncio.sleep(0.001)
        return self.opened[-1]

    def write(self, text: bytes) -> None:
        self.opened[-1].write(self.opened[-1].frame([text]))


@asynccontextmanager
async def serving(
    application: Application,
    route: SocketRoute | None = None,
    *,
    direct: bool = True,
    limits: InboundLimits = InboundLimits(),  # noqa: B008 - it is frozen
    **options: Any,
) -> AsyncGenerator[int]:
    routes = {b"/": route} if route else None
    http = cast(Any, partial(HttpProtocol, socket_routes=routes, direct=direct, limits=limits))
    config = uvicorn.Config(application, port=0, lifespan="off", http=http, ws=WebSocket, log_config=None, **options)
    server = uvicorn.Server(config)
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(server, "capture_signals", contextlib.nullcontext)
    task = asyncio.ensure_future(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.001)
    async with asyncio.timeout(20):
        yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await task


async def _asked(port: int, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    return reader, writer


GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def test_a_stream_is_written_without_its_request() -> None:
    """The client gets one ordinary response in chunks; the request is freed while it is being written."""
    application = Streams()
    gc.disable()
    try:
        async with serving(application) as port:
            reader, writer = await _asked(port, GET)
            await reader.readuntil(b"\r\n\r\n")
            assert isinstance(application.opened[0], DirectStream)
            assert application.protocols[0]() is None
            application.write(b"hello")
            application.opened[0].finish()
            assert await reader.readuntil(b"0\r\n\r\n") == b"5\r\nhello\r\n0\r\n\r\n"
            writer.close()
    finally:
        gc.enable()


async def test_a_connection_serves_the_next_request_after_a_stream() -> None:
    """It is kept alive, as after any response, and closed when no request comes."""
    application = Streams()
    async with serving(application, timeout_keep_alive=1) as port:
        reader, writer = await _asked(port, GET)
        for number in (1, 2, 3):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            assert b"connection: close" not in head.lower()
            (await application.until(number)).finish()
            assert await reader.readuntil(b"0\r\n\r\n") == b"0\r\n\r\n"
            writer.write(GET if number < 3 else b"")
        assert await reader.read() == b""
        assert not application.handler.gone.is_set()
        writer.close()


@pytest.mark.parametrize("ahead", [GET, GET[:10]], ids=["all of it", "some of it"])
async def test_a_request_that_comes_during_a_stream_is_answered_after_it(ahead: bytes) -> None:
    """Whole or in part."""
    application = Streams()
    async with serving(application) as port:
        reader, writer = await _asked(port, GET)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ahead)
        await asyncio.sleep(0.01)
        application.opened[0].finish()
        writer.write(GET[len(ahead) :])
        await reader.readuntil(b"0\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        assert isinstance(await application.until(2), DirectStream)
        writer.close()


async def test_a_request_whose_first_bytes_came_with_the_one_before_is_answered() -> None:
    """They were parsed before the stream began, and are not lost."""
    application = Streams()
    async with serving(application) as port:
        reader, writer = await _asked(port, GET + GET[:10])
        await reader.readuntil(b"\r\n\r\n")
        writer.write(GET[10:])
        (await application.until(1)).finish()
        await reader.readuntil(b"0\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        (await application.until(2)).finish()
        writer.close()


@dataclass
class Impatient(Handler):
    """Cuts a client that has stalled, as a transport does."""

    def stalled(self) -> None:
        self.connections[0].abort()


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "plain"])
async def test_a_client_that_reads_slowly_isnt_cut(direct: bool) -> None:
    """It needs several times `send_seconds` for one large message, and reads all the time."""
    handler, data = Impatient(), bytes(6 * 2**20)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await serve_stream(scope, receive, send, handler, headers=[], probe=b"", send_seconds=0.3)

    async with serving(application, direct=direct) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**14)
        writer.write(GET)
        await reader.readuntil(b"\r\n\r\n")
        handler.connections[0].write(handler.connections[0].frame([data]))
        await asyncio.sleep(0.01)
        if not direct:
            handler.connections[0].write(handler.connections[0].frame([b"the next one waits"]))
        received = 0
        while received < 2**20:
            received += len(await reader.read(2**14))
            await asyncio.sleep(0.02)
        assert not handler.gone.is_set()
        writer.transport.abort()
        await handler.gone.wait()


async def test_read_ahead_is_bounded() -> None:
    """A client that goes on sending while it reads a stream fills its own buffers, not ours."""
    application = Streams()
    async with serving(application) as port:
        reader, writer = await _asked(port, GET)
        await reader.readuntil(b"\r\n\r\n")
        sent = 0
        with contextlib.suppress(TimeoutError):
            while True:
                writer.write(bytes(2**20))
                async with asyncio.timeout(0.2):
                    await writer.drain()
                sent += 2**20
        assert sent < 32 * 2**20
        connection = application.opened[0]
        assert isinstance(connection, DirectStream)
        assert len(connection._read_ahead) < 2**20  # pyright: ignore[reportPrivateUsage]
        writer.transport.abort()


async def test_a_client_that_asked_to_close_is_closed_after_the_stream() -> None:
    """`Connection: close`."""
    application = Streams()
    async with serving(application) as port:
        reader, writer = await _asked(port, GET.replace(b"Host: localhost", b"Host: localhost\r\nConnection: close"))
        await reader.readuntil(b"\r\n\r\n")
        application.opened[0].finish()
        assert await reader.read() == b"0\r\n\r\n"
        writer.close()


async def test_a_client_that_leaves_is_noticed_within_two_seconds() -> None:
    """It has closed its connection; the probes find that out."""
    application = Streams()
    async with serving(application) as port:
        reader, writer = await _asked(port, GET)
        await reader.readuntil(b"\r\n\r\n")
        began = monotonic()
        writer.close()
        await application.handler.gone.wait()
        assert monotonic() - began < 2


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize(
    ("direct", "probe", "expected"),
    [(True, b":\n", PROBE), (True, b"", b"0"), (False, b":\n", PROBE)],
    ids=["a comment", "a zero", "plain"],
)
async def test_a_half_close_keeps_the_stream_open(direct: bool, probe: bytes, expected: bytes, early: bool) -> None:
    """The client may still be reading, as `nc` does: it gets the rest, and two probes without effect."""
    handler, closed = Handler(), asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if early:
            await closed.wait()
        await serve_stream(scope, receive, send, handler, headers=[], probe=probe, send_seconds=15)

    async with serving(application, direct=direct) as port:
        reader, writer = await _asked(port, GET)
        if early:
            writer.write_eof()
            await asyncio.sleep(0.05)
            closed.set()
        await reader.readuntil(b"\r\n\r\n")
        if not early:
            writer.write_eof()
        assert await reader.readexactly(2 * len(expected)) == 2 * expected
        assert not handler.gone.is_set()
        connection = handler.connections[0]
        connection.write(connection.frame([b"hello"]))
        connection.finish()
        assert await reader.read() == b"5\r\nhello\r\n0\r\n\r\n"
        writer.close()


async def test_a_half_close_is_noticed_after_the_first_bytes_of_a_next_request() -> None:
    """The client of the stream that is being written is still probed."""
    handler = Handler()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await serve_stream(scope, receive, send, handler, headers=[], probe=b":\n", send_seconds=15)

    async with serving(application, direct=False) as port:
        reader, writer = await _asked(port, GET)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(GET[:10])
        await asyncio.sleep(0.05)
        writer.write_eof()
        assert await reader.readexactly(len(PROBE)) == PROBE
        handler.connections[0].finish()
        writer.close()


async def test_a_server_that_stops_closes_its_streams() -> None:
    """uvicorn has them in its list, and doesn't wait for them."""
    application = Streams()
    async with serving(application) as port:
        reader, writer = await _asked(port, GET)
        await reader.readuntil(b"\r\n\r\n")
    assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize(
    ("request_bytes", "headers"),
    [
        (GET.replace(b"GET", b"HEAD"), []),
        (GET.replace(b"HTTP/1.1", b"HTTP/1.0"), [(b"content-length", b"5")]),
        (GET, [(b"content-length", b"5")]),
        (GET.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 9\r\n\r\n12"), []),
    ],
    ids=["HEAD", "HTTP/1.0", "a length", "a body that is still coming"],
)
async def test_a_connection_that_uvicorn_still_needs_is_not_taken_over(
    request_bytes: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    """Plain ASGI goes on."""
    application = Streams(headers=headers)
    async with serving(application) as port:
        reader, writer = await _asked(port, request_bytes)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        assert not isinstance(application.opened[0], DirectStream)
        application.opened[0].finish()
        writer.close()


async def test_any_request_that_came_whole_is_answered_after_a_half_close() -> None:
    """Then the connection is closed. A request whose body is cut off isn't answered."""
    async with serving(_asgi_only) as port:
        reader, writer = await _asked(port, GET + GET)
        writer.write_eof()
        assert (await reader.read()).count(b"HTTP/1.1 200") == 2
        writer.close()


async def test_a_request_that_is_cut_off_is_a_disconnect() -> None:
    """The application receives `http.disconnect`."""
    types: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] != "http.disconnect":
            assert message["more_body"]
        types.append(message["type"])

    async with serving(application) as port:
        reader, writer = await _asked(
            port, GET.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 9\r\n\r\n12")
        )
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
    assert types == ["http.disconnect"]


UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@dataclass
class Sockets:
    """Opens each WebSocket, and keeps no reference to its request."""

    handler: Handler = field(default_factory=Handler)

    @property
    def opened(self) -> list[SocketConnection]:
        return self.handler.connections

    @property
    def route(self) -> SocketRoute:
        return SocketRoute("/", lambda _: self.handler, subprotocol="b", send_seconds=15, message_bytes=100)


async def _asgi_only(scope: Scope, receive: Receive, send: Send) -> None:
    """An application whose answers show that plain ASGI sent them."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})
        return
    await receive()
    await send({"type": "websocket.accept", "headers": [(b"by", b"asgi")]})
    assert callable(scope["extensions"]["askstream.connection"]["abort"])
    await receive()


async def test_a_websocket_is_accepted_without_a_request() -> None:
    """Only the connection and its sans-IO core stay, and no task is needed."""
    sockets = Sockets()
    async with serving(_asgi_only, sockets.route) as port:
        tasks = len(asyncio.all_tasks())
        reader, writer = await _asked(port, UPGRADE)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"by: asgi" not in head
        assert len(asyncio.all_tasks()) == tasks
        assert isinstance(sockets.opened[0], DirectSocket)
        sockets.opened[0].write(b"\x81\x02hi")
        assert await reader.readexactly(4) == b"\x81\x02hi"
        writer.close()
        await sockets.handler.gone.wait()


@pytest.mark.parametrize(("offered", "chosen"), [(b"a, b", True), (b"a", False)])
async def test_our_subprotocol_is_chosen_if_it_is_offered(offered: bytes, chosen: bool) -> None:
    """A client that offers others only is accepted as well."""
    sockets = Sockets()
    asked = UPGRADE.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: " + offered + b"\r\n\r\n")
    async with serving(_asgi_only, sockets.route) as port:
        reader, writer = await _asked(port, asked)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert (b"\r\nSec-WebSocket-Protocol: b\r\n" in head) == chosen
        writer.close()
        await sockets.handler.gone.wait()


async def test_plain_a_client_that_reads_nothing_gets_no_pongs() -> None:
    """Also after many pings: its unread bytes are bounded."""
    unread: list[Callable[[], int]] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        unread.append(scope["extensions"]["askstream.connection"]["unread"])
        while (await receive())["type"] != "websocket.disconnect":
            await send({"type": "websocket.accept"})

    async with serving(application, direct=False) as port:
        reader, writer = await _asked(port, UPGRADE)
        await reader.readuntil(b"\r\n\r\n")
        cast(Any, writer.transport).pause_reading()
        for _ in range(32):
            writer.write((b"\x89\xfd\0\0\0\0" + bytes(125)) * 2**13)
            await writer.drain()
        assert unread[0]() < 12 * 2**20
        writer.transport.abort()


async def test_a_websocket_may_follow_an_answered_request() -> None:
    """On the same connection."""
    sockets = Sockets()
    async with serving(_asgi_only, sockets.route) as port:
        reader, writer = await _asked(port, GET)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(UPGRADE)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        assert len(sockets.opened) == 1
        writer.close()
        await sockets.handler.gone.wait()


async def test_a_websocket_that_is_requested_during_a_stream_waits_for_its_end() -> None:
    """The stream isn't cut, and nothing is written into the middle of it."""
    sockets, application = Sockets(), Streams()
    async with serving(application, sockets.route) as port:
        reader, writer = await _asked(port, GET + UPGRADE)
        await reader.readuntil(b"\r\n\r\n")
        await application.until(1)
        application.write(b"hello")
        application.opened[0].finish()
        answer = await reader.readuntil(b"\r\n\r\n") + await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"5\r\nhello\r\n0\r\n\r\nHTTP/1.1 101 ")
        assert isinstance(sockets.opened[0], DirectSocket)
        writer.close()
        await sockets.handler.gone.wait()


async def test_a_message_that_is_too_large_closes_the_socket() -> None:
    """With 1009."""
    sockets = Sockets()
    async with serving(_asgi_only, sockets.route) as port:
        reader, writer = await _asked(port, UPGRADE)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\x82\xe5\0\0\0\0" + bytes(101))
        assert (await reader.readexactly(4))[2:] == (1009).to_bytes(2, "big")
        writer.close()
        await sockets.handler.gone.wait()


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (UPGRADE.replace(b"Version: 13", b"Version: 12"), b"HTTP/1.1 400 "),
        (UPGRADE.replace(b"Key: dGhl", b"Key: dGh"), b"HTTP/1.1 400 "),
        (UPGRADE.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"), b"HTTP/1.1 400 "),
    ],
    ids=["another version", "no key", "two keys"],
)
async def test_a_bad_handshake_is_refused_by_the_library(asked: bytes, answer: bytes) -> None:
    """With its message, and the connection is closed."""
    sockets = Sockets()
    async with serving(_asgi_only, sockets.route) as port:
        reader, writer = await _asked(port, asked)
        assert (await reader.read()).startswith(answer)
        assert not sockets.opened
        writer.close()


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (UPGRADE.replace(b"GET / ", b"GET /else "), b"HTTP/1.1 101 "),
        (UPGRADE.replace(b"GET", b"POST"), b"HTTP/1.1 405 "),
        (UPGRADE.replace(b"\r\n\r\n", b"\r\nX: " + bytes([120]) * 9000 + b"\r\n\r\n"), b"HTTP/1.1 431 "),
    ],
    ids=["another path", "no GET", "too long"],
)
async def test_other_paths_are_left_to_uvicorn(asked: bytes, answer: bytes) -> None:
    """It routes or refuses them; each client gets an answer."""
    sockets = Sockets()
    async with serving(_asgi_only, sockets.route) as port:
        reader, writer = await _asked(port, asked)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(answer)
        assert (b"by: asgi" in head) == (b" 101 " in answer)
        assert not sockets.opened
        writer.close()


@pytest.mark.parametrize("kind", ["stream", "socket"])
async def test_without_direct_every_connection_is_plain(kind: str) -> None:
    """One setting, for both kinds."""
    sockets = Sockets()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await sockets.route({**scope, ACCESS: ANONYMOUS}, receive, send)
        else:
            await serve_stream(scope, receive, send, sockets.handler, headers=[], probe=b"", send_seconds=15)

    async with serving(application, sockets.route, direct=False) as port:
        reader, writer = await _asked(port, GET if kind == "stream" else UPGRADE)
        await reader.readuntil(b"\r\n\r\n")
        (connection,) = sockets.opened
        assert not isinstance(connection, DirectStream | DirectSocket)
        writer.close()
        await sockets.handler.gone.wait()
