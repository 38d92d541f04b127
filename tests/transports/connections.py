"""Fakes of a client's connection: each accepts data until a test makes it full."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, Protocol, cast

from starlette.types import ASGIApp, Message

from askstream.server.connections import StreamHandler
from askstream.server.connections.direct import DirectStream

LAST = b"0\r\n\r\n"


class Transport:
    """A fake of asyncio's. After `full_after` bytes it pauses its protocol, as if its client read nothing."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.at: list[float] = []  # times of the writes, by the monotonic clock
        self.full_after: int | None = None
        self._taken = 0
        self.is_paused = self.closed = self.aborted = False
        self._protocol: Any = None

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def write(self, data: bytes) -> None:
        assert not self.closed, "written after the end"
        self.written.append(data)
        self.at.append(monotonic())
        if self.full_after is not None and not self.is_paused and sum(map(len, self.written)) > self.full_after:
            self.is_paused = True
            self._protocol.pause_writing()

    def client_reads(self, size: int) -> None:
        """The client has read `size` bytes, and more waits for it."""
        self._taken += size

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.written)) - self._taken

    def get_extra_info(self, name: str, default: Any = None) -> None:
        """It has no socket."""

    def drain(self) -> None:
        """The client has read everything."""
        self.full_after = None
        if self.is_paused:
            self.is_paused = False
            self._protocol.resume_writing()

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True
        self.lose()

    def lose(self) -> None:
        self.closed = True
        protocol, self._protocol = self._protocol, None
        protocol.connection_lost(None)

    def is_closing(self) -> bool:
        return self.closed


class FakeTransport(Transport):
    """A fake that also receives data, and keeps it while reading is paused."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = True
        self._unread: list[bytes] = []

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True
        while self._unread and self.reading and not self.closed:
            self._protocol.data_received(self._unread.pop(0))

    def receive_data(self, data: bytes) -> None:
        self._unread.append(data)
        if self.reading:
            self.resume_reading()


class StreamClient(Protocol):
    """The client of a response in pieces. It reads everything, up to `full_after` bytes."""

    full_after: int | None
    written: list[bytes]
    at: list[float]

    @property
    def closed(self) -> bool:
        """The response has ended, or the connection has."""
        ...

    @property
    def aborted(self) -> bool: ...

    @property
    def body(self) -> bytes: ...

    async def get(self, app: Callable[..., Awaitable[None]]) -> None:
        """Send a request, and return when the stream has been opened."""
        ...

    def client_reads(self, size: int) -> None: ...

    def drain(self) -> None:
        """Read everything from now on."""
        ...

    def lose(self) -> None:
        """Disconnect."""
        ...


class DirectClient(Transport):
    """The client of a server that offers direct connections."""

    async def get(self, app: Callable[..., Awaitable[None]]) -> None:
        await app(scope_of({"abort": self.abort, "take_over": self._take}), _silence, _only_head)

    def _take(self, handler: StreamHandler, probe: bytes, send_seconds: float) -> DirectStream:
        options: dict[str, Any] = {"probe": probe, "send_seconds": send_seconds, "is_paused": self.is_paused}
        return DirectStream(cast(Any, self), set[Any](), handler, release=None, **options)

    @property
    def body(self) -> bytes:
        """The data of the chunks."""
        rest, body = b"".join(self.written), b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            length = int(size, 16)
            body, end, rest = body + rest[:length], rest[length : length + 2], rest[length + 2 :]
            assert end == b"\r\n"
            if not length:
                assert rest == b"", "bytes behind the last chunk"
        return body


class PlainClient:
    """The client of any server: the application gets ASGI's messages; `send` waits while the client reads nothing."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.at: list[float] = []
        self.full_after: int | None = None
        self.closed = self.aborted = False
        self._room = asyncio.Event()
        self._gone = asyncio.Event()
        self._taken = 0
        self.serving: asyncio.Task[None] | None = None

    async def get(self, app: Callable[..., Awaitable[None]]) -> None:
        self.serving = asyncio.ensure_future(self._serve(app))
        for _ in range(5):
            await asyncio.sleep(0)

    @property
    def body(self) -> bytes:
        return b"".join(self.written)

    @property
    def is_paused(self) -> bool:
        return self.full_after is not None

    @is_paused.setter
    def is_paused(self, paused: bool) -> None:
        self.full_after = -1 if paused else None

    def client_reads(self, size: int) -> None:
        self._taken += size
        self._room.set()

    def drain(self) -> None:
        self.full_after = None
        self._room.set()

    def lose(self) -> None:
        self._gone.set()

    def _abort(self) -> None:
        self.aborted = True
        self._gone.set()

    async def _serve(self, app: ASGIApp) -> None:
        try:
            await app(scope_of({"abort": self._abort}), self._receive, self._send)
        finally:
            self.closed = True

    async def _receive(self) -> Message:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        """As a server's: send, and wait while the client has enough."""
        if message["type"] == "http.response.start":
            return
        assert not self.closed, "written after the end"
        while self._is_full():
            self._room.clear()
            await self._room.wait()
        if message["body"]:
            self.written.append(message["body"])
            self.at.append(monotonic())

    def _is_full(self) -> bool:
        return self.full_after is not None and sum(map(len, self.written)) - self._taken > self.full_after


def scope_of(offered: dict[str, Any]) -> dict[str, Any]:
    return {"type": "http", "method": "GET", "extensions": {"askstream.connection": offered}}


async def _silence() -> Message:
    await asyncio.Event().wait()
    raise AssertionError("an event that nobody sets was set")


async def _only_head(message: Message) -> None:
    assert message["type"] == "http.response.start"
