"""A client's connection in the hands of an application that writes to it itself, without a task that waits.

`Rest` carries the rest of an HTTP response, `Socket` the messages of a WebSocket. protocols.py says how one is had.
"""

import asyncio
import fcntl
import sys
import termios
from collections.abc import Callable
from typing import Any, Protocol, cast

from websockets.exceptions import InvalidState
from websockets.frames import CloseCode, Frame, Opcode
from websockets.server import ServerProtocol

# How long a client may take to answer our close frame, in seconds.
CLOSE_SECONDS = 5.0


class Owner(Protocol):
    """Who has taken a connection."""

    def paused(self) -> None:
        """Enough is waiting to be sent: write no more until `Connection.writable`."""
        ...

    def lost(self) -> None:
        """The connection is gone, or about to go: nothing may be written any more."""
        ...


class Hearer(Owner, Protocol):
    """Who has taken a WebSocket."""

    def received(self, text: str | bytes) -> None:
        """A message has come. What follows waits until `Socket.go_on`, but for what came together with it."""
        ...


class Connection(asyncio.Protocol):
    """`write` takes bytes at any time, and sends them when the client takes them; `is_paused` asks to wait for that."""

    __slots__ = ("_given", "_open", "_owner", "_resumed", "_transport", "_waiting", "is_paused", "write")

    def __init__(self, transport: asyncio.Transport, owner: Owner, open_ones: set[Any], *, is_paused: bool) -> None:
        self._transport, self._open, self.is_paused = transport, open_ones, is_paused
        self.write: Callable[[bytes], None] = transport.write
        self._owner: Owner | None = owner
        self._waiting: list[asyncio.Future[None]] = []
        self._given = self._resumed = 0
        self._open.add(self)
        transport.set_protocol(self)

    async def put(self, data: bytes, seconds: float) -> None:
        """Writes once the client has taken enough of what it was sent; nothing, when it has gone by then.

        Raises TimeoutError when it takes nothing at all for so long; one that is slow may take all the time it needs.
        """
        await self.writable(seconds)
        if self._owner is not None:
            self._given += len(data)
            self.write(data)

    async def writable(self, seconds: float) -> None:
        """Waits as `put` does. Returns at once when the client has gone."""
        while self.is_paused:
            taken, resumed = self._taken(), self._resumed
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await asyncio.wait({waiting}, timeout=seconds)
            if self.is_paused and self._resumed == resumed and self._taken() <= taken:
                raise TimeoutError

    def _taken(self) -> int:
        """Bytes of the client's that grow as it takes them, as long as all that is written is `put`."""
        return self._given - self._transport.get_write_buffer_size() - _unsent(self._transport)

    def close(self) -> None:
        """Closes it once what was written has been sent."""
        self._transport.close()

    def abort(self) -> None:
        """Cuts it at once, with what is buffered for it."""
        self._transport.abort()

    def shutdown(self) -> None:
        """Called by uvicorn when the server stops, and waits a moment for those who still have something to take."""
        if not self.is_paused:
            self.close()

    def pause_writing(self) -> None:
        self.is_paused = True
        if self._owner is not None:
            self._owner.paused()

    def resume_writing(self) -> None:
        self.is_paused = False
        self._resumed += 1
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.done():
                one.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.discard(self)
        self._let_go()

    def _let_go(self) -> None:
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.lost()
        self.resume_writing()


class Rest(Connection):
    """What is written belongs to the body of a response, until `close`. What the client still says is dropped."""

    __slots__ = ()


class Socket(Connection):
    """What is written must be whole frames, `frame` makes them. Built on websockets' sans-IO core, after its handshake.

    It sends no pings: what is sent into a silence tells a dead client as well.
    """

    __slots__ = ("_conn", "_is_heard", "_is_text", "_message")

    def __init__(
        self,
        transport: asyncio.Transport,
        hearer: Hearer,
        open_ones: set[Any],
        conn: ServerProtocol,
        *,
        is_paused: bool,
    ) -> None:
        self._conn = conn
        self._message, self._is_text = bytearray(), True
        self._is_heard = True  # nothing is being dealt with
        super().__init__(transport, hearer, open_ones, is_paused=is_paused)

    def data_received(self, data: bytes) -> None:
        self._conn.receive_data(data)
        for event in self._conn.events_received():
            if isinstance(event, Frame):
                self._take_in(event)
        self._flush()

    def go_on(self) -> None:
        """The messages so far have been dealt with."""
        self._is_heard = True
        self._read_on()

    def pause_writing(self) -> None:
        """Who takes nothing isn't listened to either: its pings would be answered into memory."""
        if not self._transport.is_closing():
            self._transport.pause_reading()
        super().pause_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._read_on()

    def _read_on(self) -> None:
        if self._is_heard and not self.is_paused and not self._transport.is_closing():
            self._transport.resume_reading()

    def close_with(self, code: int, reason: str) -> None:
        """Sends a close frame behind what was written, and closes when the client has answered. Again is fine, and so
        is too late."""
        self._let_go()
        if self._transport.is_closing():
            return  # uvloop's would raise
        self.go_on()  # for the answer
        try:
            self._conn.send_close(code, reason)
        except InvalidState:
            return  # either side was first
        self._flush()
        asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._conn.parser.close()  # the two would keep each other in memory

    def shutdown(self) -> None:
        if not self.is_paused:
            self.close_with(CloseCode.SERVICE_RESTART, "")
        super().shutdown()

    def _take_in(self, event: Frame) -> None:
        match event.opcode:
            case Opcode.TEXT | Opcode.BINARY:
                self._message, self._is_text = bytearray(event.data), event.opcode is Opcode.TEXT
            case Opcode.CONT:
                self._message += event.data
            case _:
                return  # the core answers pings and closes by itself
        if event.fin:
            self._hear(bytes(self._message))

    def _hear(self, data: bytes) -> None:
        if self._owner is None:
            return
        try:
            text = data.decode() if self._is_text else data
        except UnicodeDecodeError:
            self._conn.fail(CloseCode.INVALID_DATA)
            return
        self._is_heard = False
        self._transport.pause_reading()
        cast(Hearer, self._owner).received(text)

    def _flush(self) -> None:
        """Sends what the core has to say for itself."""
        said = b"".join(self._conn.data_to_send())
        if said:
            self.write(said)
        if self._conn.close_rcvd is not None or self._conn.parser_exc is not None or self._conn.eof_sent:
            self._let_go()
            self.close()


def frame(data: bytes) -> bytes:
    """A text frame, https://www.rfc-editor.org/rfc/rfc6455#section-5.2. Extensions are off, so it is the same for every
    socket. The library makes the same in four times the time, and a replay is ten thousand of them."""
    size = len(data)
    if size < 126:
        return bytes((0x81, size)) + data
    if size < 1 << 16:
        return b"\x81\x7e" + size.to_bytes(2) + data
    return b"\x81\x7f" + size.to_bytes(8) + data


def _unsent(transport: asyncio.Transport) -> int:
    """Bytes that the system still keeps for the client; 0 where it doesn't tell."""
    socket = transport.get_extra_info("socket")
    if socket is None:
        return 0
    try:
        return int.from_bytes(fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return 0
