"""A client's connection, played at the edge: it takes what it is given, until it is told to take no more."""

import asyncio
from time import monotonic
from typing import Any, cast

from askstream.server.connections.direct import Connection, Owner, Rest


class Transport:
    """Stands for asyncio's. `full_after` bytes it asks to be given no more, as one does whose client reads nothing."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.at: list[float] = []  # when, by the monotonic clock
        self.full_after: int | None = None
        self._taken = 0
        self.is_paused = self.closed = self.aborted = False
        self._protocol: Any = None

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def write(self, data: bytes) -> None:
        assert not self.closed, "written after the end"
        self.written.append(data)
        self.at.append(monotonic())
        if self.full_after is not None and not self.is_paused and sum(map(len, self.written)) > self.full_after:
            self.is_paused = True
            self._protocol.pause_writing()

    def take_some(self, size: int) -> None:
        """The client has read so much, and more waits for it."""
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


class Line(Transport):
    """One that also brings something; while its reading is paused, that waits."""

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

    def hear(self, data: bytes) -> None:
        self._unread.append(data)
        if self.reading:
            self.resume_reading()


def offering(transport: Transport) -> dict[str, Any]:
    """The extension as a scope carries it under our server."""

    def take(owner: Owner) -> Connection:
        return Rest(cast(Any, transport), owner, set[Any](), is_paused=transport.is_paused)

    return {"askstream.connection": {"abort": transport.abort, "take": take}}
