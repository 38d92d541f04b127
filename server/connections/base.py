"""A client's connection as a transport sees it.

A write never waits. A client that reads too slowly pauses the connection: the transport (SSE, WebSocket) then writes
no more until `writable` returns. There are two implementations of each kind:

    direct.py   uvicorn's asyncio transport, taken over: no task and no ASGI request for each viewer
    plain.py    ASGI messages, under any server: a task for each connection sends them

Order of calls to the handler. `lost` comes once, also when the handler itself closes it, but not after `finish`:

    opened -> (paused)* -> stalled? -> lost
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

Framer: TypeAlias = Callable[[Sequence[bytes]], Any]
"""Turns messages, whole lines or blocks of a wire format, into what `Connection.write` accepts."""


class ConnectionHandler(Protocol):
    """`StreamHandler` and `MessageHandler` also have `opened`: the connection may be written to from now on."""

    def paused(self) -> None:
        """The client has enough to read: write no more until `Connection.writable` returns."""
        ...

    def stalled(self) -> None:
        """Data has waited for `send_seconds`, and the client has read none of it: close or abort the connection."""
        ...

    def lost(self) -> None:
        """The connection has ended or is ending: write nothing more."""
        ...


H = TypeVar("H", bound=ConnectionHandler)


class StreamHandler(ConnectionHandler, Protocol):
    def opened(self, connection: "StreamConnection", /) -> None: ...


class MessageHandler(ConnectionHandler, Protocol):
    def opened(self, connection: "SocketConnection", /) -> None: ...

    def received(self, text: str | bytes) -> None:
        """Called once per message. Reading is paused until `SocketConnection.resume`; messages that came in the same
        packet are still delivered, up to a turn's worth."""
        ...

    def control(self) -> None:
        """Called once per ping or pong, which the connection answers: they count towards the rate. Never under a server
        that isn't ours."""
        ...


class Write(Protocol):
    """Accepts framed messages at any time while the connection isn't paused, without being awaited."""

    def __call__(self, data: Any, /) -> None: ...


class Connection(Protocol):
    @property
    def frame(self) -> Framer: ...

    @property
    def is_paused(self) -> bool: ...

    @property
    def write(self) -> Write: ...

    async def writable(self) -> None:
        """Return when the client has read enough, or has gone. Safe to cancel."""
        ...

    async def send(self, data: Any) -> None:
        """Write once the client has read enough; write nothing if it has gone by then. Safe to cancel."""
        ...

    def abort(self) -> None:
        """Cut the connection at once, and drop what is buffered for the client."""
        ...


class StreamConnection(Connection, Protocol):
    """The body of an HTTP response, in pieces."""

    def finish(self) -> None:
        """Complete the response. `lost` isn't called after it; the client may send its next request."""
        ...


class SocketConnection(Connection, Protocol):
    """A WebSocket after its handshake. Messages are text."""

    def resume(self) -> None:
        """Read on: the messages so far have been handled."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Send a close frame after what was written, and close when the client has answered. Idempotent.

        A client that has stalled gets CUT_SECONDS to read it, then the connection is cut.
        """
        ...


# Seconds from a client's half-close to each probe: a peer that is gone answers the first one with a reset, which the
# second one finds.
PROBE_SECONDS = (0.0, 1.0)
# Seconds for a client that has stalled, or that sends without end, to read our close frame or refusal.
CUT_SECONDS = 1.0
# For each message of a client.
MESSAGE_BYTES = 64 * 1024
# Most fragments of one message: empty ones would count towards no other limit. A message of 64 KiB in fragments of
# 256 bytes is allowed.
FRAGMENTS = 256
# Close code for a client that sends too much.
RATE_CLOSE = 4029


class BaseConnection(ABC, Generic[H]):
    """The part that both implementations share: waits for the client, and the watch for one that reads nothing.

    Call `_watch` whenever a wait for the client begins.
    """

    __slots__ = ("_handler", "_has_stalled", "_send_seconds", "_stall_timer", "_waiting", "is_paused")

    # Set by each implementation's own __init__: one here would cost one more call for each connection.
    _handler: H | None  # None once nothing may be written any more
    is_paused: bool
    _waiting: list[asyncio.Future[None]]
    _send_seconds: float
    _has_stalled: bool
    _stall_timer: asyncio.TimerHandle | None

    @abstractmethod
    def abort(self) -> None: ...

    @abstractmethod
    def _progress(self) -> object:
        """Return a value that changes when the client reads; None while nothing waits for the client."""

    async def writable(self) -> None:
        while self.is_paused and self._handler is not None:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await waiting

    def _wake_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.done():
                one.set_result(None)

    def _set_lost(self) -> None:
        handler, self._handler = self._handler, None
        if handler is not None:
            handler.lost()
        self._wake_waiting()

    def _watch(self) -> None:
        if self._stall_timer is None:
            loop = asyncio.get_running_loop()
            self._stall_timer = loop.call_later(self._send_seconds, self._check_stall, self._progress())

    def _stop_watching(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _check_stall(self, before: object) -> None:
        self._stall_timer = None
        now = self._progress()
        if now is None:
            return
        if now == before:
            self._has_stalled = True
            self._on_stalled()
        else:
            self._watch()

    def _on_stalled(self) -> None:
        """Called when the progress was the same for `send_seconds`."""
        if self._handler is not None:
            self._handler.stalled()
        else:
            self.abort()  # the end has been written, and the client doesn't read it
