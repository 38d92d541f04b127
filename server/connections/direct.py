"""Connections that are written to directly: uvicorn's transport, taken over from its protocol.

Under ASGI a task waits for each message. For thousands of viewers of one run those tasks cost more than anything else,
in time and in memory. Here nothing waits: `write` is the transport's own, and asyncio's flow control pauses the
handler. uvicorn.py takes the connections over, and gets the transport back when a response is complete.
"""

import asyncio
import fcntl
import sys
import termios
from collections.abc import Callable, Sequence
from typing import Any

from websockets.exceptions import InvalidState
from websockets.frames import CloseCode, Frame, Opcode
from websockets.server import ServerProtocol

from askstream.server.connections.base import (
    CUT_SECONDS,
    FRAGMENTS,
    PROBE_SECONDS,
    RATE_CLOSE,
    BaseConnection,
    H,
    MessageHandler,
    StreamHandler,
    Write,
)
from askstream.server.connections.inbound import FRAMES_PIECE, Inbound

# Seconds for a client to answer our close frame.
CLOSE_SECONDS = 5.0
# Bytes of a client's next requests that are kept while it reads a response.
READ_AHEAD_BYTES = 64 * 1024
# The end of a body in chunks, https://www.rfc-editor.org/rfc/rfc9112#section-7.1.
LAST_CHUNK = b"0\r\n\r\n"


class _DirectConnection(asyncio.Protocol, BaseConnection[H]):
    """An asyncio protocol on a transport that another protocol had before. Its maker must call `handler.opened`."""

    __slots__ = ("_open_connections", "_transport", "write")

    def __init__(
        self,
        transport: asyncio.Transport,
        open_connections: set[Any],
        handler: H,
        *,
        send_seconds: float,
        is_paused: bool,
    ) -> None:
        self._handler, self.is_paused, self._waiting = handler, is_paused, []
        self._send_seconds, self._stall_timer, self._has_stalled = send_seconds, None, False
        self._transport, self._open_connections = transport, open_connections
        self.write: Write = transport.write  # its own: a broadcast runs no code of ours for each viewer
        self._open_connections.add(self)
        transport.set_protocol(self)
        if is_paused:
            self._watch()

    async def send(self, data: bytes) -> None:
        await self.writable()
        if self._handler is not None:
            self.write(data)

    def abort(self) -> None:
        self._transport.abort()

    def pause_writing(self) -> None:
        self.is_paused = True
        self._watch()
        if self._handler is not None:
            self._handler.paused()

    def resume_writing(self) -> None:
        self.is_paused = False
        self._stop_watching()
        self._wake_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        self._open_connections.discard(self)
        self._stop_watching()
        self._set_lost()

    def _progress(self) -> int | None:
        """Return the bytes that the client has yet to read. They get fewer: only closing bytes are added."""
        return unread(self._transport) if self.is_paused else None


class DirectStream(_DirectConnection[StreamHandler]):
    """The rest of an HTTP response's body, in chunks.

    Bytes that the client sends meanwhile are its next request. They are kept, up to READ_AHEAD_BYTES, for `release`,
    which gets the transport back; `ahead` are those that have come already. `release` is None if the connection serves
    no further request. A client that closes its sending side may still be reading: the connection stays open, and
    `probe`, a message without effect, is sent to find out.
    """

    __slots__ = ("_eof", "_probe", "_read_ahead", "_release")

    def __init__(
        self,
        transport: asyncio.Transport,
        open_connections: set[Any],
        handler: StreamHandler,
        *,
        release: Callable[[asyncio.Transport, bytes, bool], None] | None,
        probe: bytes,
        send_seconds: float,
        is_paused: bool,
        ahead: bytes = b"",
    ) -> None:
        super().__init__(transport, open_connections, handler, send_seconds=send_seconds, is_paused=is_paused)
        # A chunk's size may begin with zeros: one of them is the smallest piece that changes nothing.
        self._release, self._probe = release, self.frame([probe]) or b"0"
        self._read_ahead = b""
        self._eof = False
        if ahead:
            self.data_received(ahead)

    @staticmethod
    def frame(messages: Sequence[bytes]) -> bytes:
        """Return one chunk; for no data, no bytes: an empty chunk would end the body."""
        data = b"".join(messages)
        return b"%x\r\n%b\r\n" % (len(data), data) if data else b""

    def finish(self) -> None:
        self._handler = None
        if self._transport.is_closing():
            return
        self.write(LAST_CHUNK)
        if self._release is None or self._eof:
            self._transport.close()
            return
        self._open_connections.discard(self)
        self._stop_watching()
        self._release(self._transport, self._read_ahead, self.is_paused)

    def data_received(self, data: bytes) -> None:
        self._read_ahead += data
        if len(self._read_ahead) > READ_AHEAD_BYTES:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Keep the connection open for writing."""
        self._eof = True
        for seconds in PROBE_SECONDS:
            asyncio.get_running_loop().call_later(seconds, self._send_probe)
        return True

    def shutdown(self) -> None:
        """Called by uvicorn when the server stops. The connection stays open while its client has something to read."""
        self._release = None
        if not self.is_paused:
            self._transport.close()

    def _send_probe(self) -> None:
        if self._handler is not None and not self.is_paused and not self._transport.is_closing():
            self.write(self._probe)


class DirectSocket(_DirectConnection[MessageHandler]):
    """A WebSocket on websockets' sans-IO core, after its handshake. Write whole frames only.

    It sends no pings: the endpoint's heartbeats find a dead client as well.
    """

    __slots__ = ("_conn", "_fragments", "_inbound", "_is_handled", "_is_text", "_message")

    def __init__(
        self,
        transport: asyncio.Transport,
        open_connections: set[Any],
        handler: MessageHandler,
        conn: ServerProtocol,
        *,
        send_seconds: float,
        is_paused: bool,
    ) -> None:
        self._conn = conn
        self._message, self._is_text = bytearray(), True
        self._is_handled, self._fragments = True, 0
        self._inbound = Inbound(transport, self._parse)
        super().__init__(transport, open_connections, handler, send_seconds=send_seconds, is_paused=is_paused)

    @staticmethod
    def frame(messages: Sequence[bytes]) -> bytes:
        if len(messages) == 1:
            return text_frame(messages[0])
        return b"".join([text_frame(message) for message in messages])

    def data_received(self, data: bytes) -> None:
        self._inbound.receive(data)

    def resume(self) -> None:
        self._is_handled = True
        self._read_on()

    def pause_writing(self) -> None:
        """Also stop reading: pongs for a client that reads nothing would fill memory."""
        self._inbound.hold()
        super().pause_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._read_on()

    def close(self, code: int, reason: str) -> None:
        self._set_lost()
        if self._transport.is_closing():
            return  # a write would raise under uvloop
        self._inbound.limit()
        self.resume()  # to read the client's answer
        try:
            self._conn.send_close(code, reason)
        except InvalidState:
            return  # either side has closed already
        self._flush()
        if self._has_stalled:
            asyncio.get_running_loop().call_later(CUT_SECONDS, self._transport.abort)
        else:
            asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._inbound.lose()
        self._conn.parser.close()  # breaks a reference cycle

    def shutdown(self) -> None:
        """Called by uvicorn when the server stops. The connection stays open while its client has something to read."""
        if not self.is_paused:
            self.close(CloseCode.SERVICE_RESTART, "")
            self._transport.close()

    def _read_on(self) -> None:
        if self._is_handled and not self.is_paused:
            self._inbound.resume()

    def _parse(self, waiting: bytearray) -> int | None:
        """Parse some frames."""
        if self._transport.is_closing():
            waiting.clear()
            return 0
        piece = bytes(waiting[:FRAMES_PIECE])
        del waiting[:FRAMES_PIECE]
        self._conn.receive_data(piece)
        events = self._conn.events_received()
        for event in events:
            if isinstance(event, Frame):
                self._add(event)
        self._flush()
        return len(events)

    def _add(self, event: Frame) -> None:
        match event.opcode:
            case Opcode.TEXT | Opcode.BINARY:
                self._message, self._is_text = bytearray(event.data), event.opcode is Opcode.TEXT
                self._fragments = 0
            case Opcode.CONT:
                self._message += event.data
                self._fragments += 1
            case Opcode.PING | Opcode.PONG if self._handler is not None:
                self._handler.control()
                return
            case _:
                return  # the core answers pings and closes by itself
        if self._fragments > FRAGMENTS:
            self.close(RATE_CLOSE, "too many fragments")
        elif event.fin:
            self._deliver(bytes(self._message))

    def _deliver(self, data: bytes) -> None:
        if self._handler is None:
            return
        try:
            text = data.decode() if self._is_text else data
        except UnicodeDecodeError:
            self._conn.data_to_send()  # pongs to pings that stand behind it
            self._conn.fail(CloseCode.INVALID_DATA)
            self._set_lost()  # messages behind it in the same packet are not delivered
            return
        self._is_handled = False
        self._inbound.hold()
        self._handler.received(text)

    def _flush(self) -> None:
        """Send the core's own frames: pongs and closes."""
        frames = b"".join(self._conn.data_to_send())
        if frames:
            self.write(frames)
        if self._conn.close_rcvd is not None or self._conn.parser_exc is not None or self._conn.eof_sent:
            self._set_lost()
            self._transport.close()


def text_frame(data: bytes) -> bytes:
    """https://www.rfc-editor.org/rfc/rfc6455#section-5.2. Extensions are off, so it is the same for every socket. The
    library needs four times as long, and a replay has ten thousand of them."""
    size = len(data)
    if size < 126:
        return bytes((0x81, size)) + data
    if size < 1 << 16:
        return b"\x81\x7e" + size.to_bytes(2) + data
    return b"\x81\x7f" + size.to_bytes(8) + data


def unread(transport: asyncio.Transport) -> int:
    """Return the bytes that the client has yet to read: in our buffer, and in the system's if it is known."""
    return transport.get_write_buffer_size() + _unsent(transport)


def _unsent(transport: asyncio.Transport) -> int:
    """Return the bytes that the system still keeps for the client; 0 if unknown."""
    socket = transport.get_extra_info("socket")
    if socket is None:
        return 0
    try:
        return int.from_bytes(fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except (OSError, ValueError):  # ValueError: the socket is closed, and its number is -1
        return 0
