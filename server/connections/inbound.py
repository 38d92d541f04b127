"""Limits on what one client sends: its size, its time, and how much of it is parsed in one turn of the event loop.

`Inbound` keeps the bytes that wait for their turn, and pauses reading meanwhile: a read brings up to 256 KiB, so a
client costs that much memory at most, and the rest stays in its own buffers. `Requests` cuts bytes into
pieces of HTTP requests; it is pure. uvicorn's parser gets nothing that it doesn't return: the parser has no limits, and
its time for one long header grows with the square of the length.

A piece never reaches beyond the end of a request. The next request waits as bytes until the response is complete, so
a thousand requests in one packet are parsed one by one.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from askstream.server.connections.base import CUT_SECONDS, MESSAGE_BYTES
from askstream.server.events.errors import BodyTooLarge, HeadTooLarge

# Most bytes of one connection that are parsed in one turn of the loop. A tiny frame costs as much as a large one, so
# frames, and pieces of requests, are counted as well: at most TURN_FRAMES.
TURN_BYTES, TURN_FRAMES = 64 * 1024, 64
# A client's frame has 6 bytes or more, so a piece has at most half a turn's frames.
FRAMES_PIECE = 6 * (TURN_FRAMES // 2)
# The end of a request's head, and of a body in chunks. The parser accepts no other.
_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundLimits:
    """Sizes in bytes, times in seconds. `head_lines` counts headers, not the request line.

    Under other servers only those of messages and subscriptions hold, and that of a body.
    """

    head_bytes: int = 64 * 1024
    head_lines: int = 100
    head_seconds: float = 10
    body_bytes: int = 256 * 1024
    body_seconds: float = 30
    # A connection without a request is kept for that long.
    keep_alive_seconds: float = 5
    connections: int = 10_000
    # Connections that the system keeps until the loop accepts them.
    backlog: int = 2048
    message_bytes: int = MESSAGE_BYTES
    messages_a_second: float = 20
    messages_at_once: float = 40
    subscriptions: int = 32


class Inbound:
    """The bytes of one client that wait. `parse` removes a piece from their front, and returns its number of frames;
    None if nothing may be parsed before `resume`. More than `ahead` bytes that wait pause reading.

    `hold` and `resume` may be called from within `parse`."""

    __slots__ = (
        "_ahead",
        "_bytes_left",
        "_frames_left",
        "_is_cut",
        "_is_held",
        "_is_limited",
        "_is_parsing",
        "_is_reading",
        "_parse",
        "_transport",
        "_turn",
        "waiting",
    )

    def __init__(
        self, transport: asyncio.Transport, parse: Callable[[bytearray], int | None], *, ahead: int = 0
    ) -> None:
        self._transport, self._parse, self._ahead = transport, parse, ahead
        self._turn: asyncio.Handle | None = None
        self._is_held = self._is_parsing = False
        self._is_reading = True
        self._is_limited = self._is_cut = False
        self._bytes_left, self._frames_left = TURN_BYTES, TURN_FRAMES
        self.waiting = bytearray()

    def receive(self, data: bytes) -> None:
        self.waiting += data
        if self._turn is None and not self._is_parsing and not self._is_held:
            self._work()

    def hold(self) -> None:
        """Read no more, and begin no turn before `resume`. The present one goes on."""
        self._is_held = True
        self._set_reading()

    def resume(self) -> None:
        """End `hold`, and parse what waits in a turn of its own."""
        self._is_held = False
        if self.waiting and self._turn is None and not self._is_parsing:
            self._turn = asyncio.get_running_loop().call_soon(self._work)
        self._set_reading()

    def limit(self) -> None:
        """The connection is about to be closed: parse one turn's worth more, then read nothing and cut it. The client
        gets CUT_SECONDS to read what was written. Idempotent."""
        self._is_limited = True

    def detach(self) -> bytes:
        """Return what waits, for another protocol on this transport. Reading goes on, and nothing is parsed here."""
        self._stop()
        waiting, self.waiting, self._is_held = bytes(self.waiting), bytearray(), False
        self._set_reading()
        return waiting

    def lose(self) -> None:
        """The connection has ended: parse nothing more."""
        self._stop()
        self.waiting = bytearray()

    def _stop(self) -> None:
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self._parse = _nothing  # breaks the reference cycle with the protocol

    def _work(self) -> None:
        self._turn = None
        if self._is_held:
            return
        self._is_parsing = True
        try:
            self._parse_turn()
        finally:
            self._is_parsing = False
        self._set_reading()

    def _parse_turn(self) -> None:
        size, frames = len(self.waiting), 0
        while self.waiting and not self._is_cut:
            before = len(self.waiting)
            parsed = self._parse(self.waiting)
            if parsed is None:
                return
            frames += parsed
            if self._is_limited:
                self._use_up(before - len(self.waiting), parsed)
            if self.waiting and (frames > TURN_FRAMES // 2 or size - len(self.waiting) >= TURN_BYTES):
                self._turn = asyncio.get_running_loop().call_soon(self._work)
                return

    def _use_up(self, size: int, frames: int) -> None:
        self._bytes_left -= size
        self._frames_left -= frames
        if self._bytes_left <= 0 or self._frames_left <= 0:
            self._is_cut = True
            self.waiting.clear()
            asyncio.get_running_loop().call_later(CUT_SECONDS, self._transport.abort)

    def _set_reading(self) -> None:
        waits = self._turn is not None or len(self.waiting) > self._ahead
        reads = not (self._is_held or waits or self._is_cut)
        if self._transport.is_closing():
            return
        was_reading, self._is_reading = self._is_reading, reads
        if not reads:  # also where it was paused before: uvicorn may have resumed it
            self._transport.pause_reading()
        elif not was_reading:
            self._transport.resume_reading()


def _nothing(_waiting: bytearray) -> None:
    return None


class Requests:
    """Cuts the bytes of one connection into pieces of requests: call `take`, parse the piece, and call `begin_body` and
    `complete` when the parser has found the end of a head and of a request."""

    __slots__ = ("_is_chunked", "_left", "_limits", "_lines", "_tail", "in_head", "size")

    def __init__(self, limits: InboundLimits) -> None:
        self._limits = limits
        self.complete()

    def complete(self) -> None:
        """The next piece begins a request."""
        self.in_head, self.size = True, 0  # bytes of this head or body so far
        self._lines, self._tail = 0, b""
        self._left, self._is_chunked = 0, False

    def begin_body(self, length: int | None) -> None:
        """`length` is None for a body in chunks."""
        self.in_head, self.size, self._tail = False, 0, b""
        self._left, self._is_chunked = length or 0, length is None

    def take(self, waiting: bytearray) -> bytes:
        """Remove and return the next piece. Raises HeadTooLarge or BodyTooLarge; nothing more may be parsed then."""
        size = min(len(waiting), TURN_BYTES)
        size = self._to_end(waiting, size) if self.in_head or self._is_chunked else min(size, self._left)
        piece = bytes(waiting[:size])
        self.size += size
        (self._check_head if self.in_head else self._check_body)(piece)
        del waiting[:size]
        return piece

    def _to_end(self, waiting: bytearray, size: int) -> int:
        """Return how many bytes there are up to the next _END, of which the first may have come before."""
        near = self._tail + waiting[:size]
        found = near.find(_END)
        if found >= 0:
            size, self._tail = found + len(_END) - len(self._tail), b""
        else:
            self._tail = bytes(near[1 - len(_END) :])
        return size

    def _check_head(self, piece: bytes) -> None:
        self._lines += piece.count(b"\n")
        limits = self._limits
        if self.size > limits.head_bytes:
            raise HeadTooLarge(f"The request line and the headers may have {limits.head_bytes:,} bytes together.")
        if self._lines > limits.head_lines + 2:  # the request line and the empty one
            raise HeadTooLarge(f"A request may have {limits.head_lines} headers.")

    def _check_body(self, piece: bytes) -> None:
        self._left -= len(piece)
        # Chunks of a few bytes consist mostly of framing; a body of large ones is refused where it is read.
        most = self._limits.body_bytes * (2 if self._is_chunked else 1)
        if self.size > most:
            raise BodyTooLarge(f"The body may have {self._limits.body_bytes:,} bytes.")
