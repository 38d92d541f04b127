"""Connections by ASGI's messages, under any server and below any middleware.

ASGI's `send` has to be awaited, in a task that belongs to the request. So `write` puts its data into a buffer, and one
task for each connection sends the buffer's content. A buffer of more than HIGH_WATER bytes pauses the handler, as
asyncio's own flow control does for a direct connection.
"""

import asyncio
import contextlib
from abc import abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

from starlette.types import Message, Receive, Send

from askstream.server.connections.base import (
    CUT_SECONDS,
    MESSAGE_BYTES,
    PROBE_SECONDS,
    BaseConnection,
    H,
    MessageHandler,
    StreamHandler,
)

P = TypeVar("P", bytes, str)
Framed: TypeAlias = tuple[Sequence[P], int]
"""Payloads of ASGI messages, and their size. A broadcast frames once for all of its connections."""

TOO_LARGE = 1009
# As much as asyncio's transports buffer before they pause their protocol.
HIGH_WATER = 64 * 1024


class _PlainConnection(BaseConnection[H], Generic[H, P]):
    """`serve` runs in the request's task, from the response's head or the accepted handshake on to the end."""

    def __init__(
        self,
        handler: H,
        *,
        abort: Callable[[], object] | None,
        unread: Callable[[], int] | None = None,
        send_seconds: float,
    ) -> None:
        """`abort` cuts the connection and `unread` counts what the client has yet to read, where the server offers
        that. Without the latter a client that reads one message for `send_seconds` seems to read nothing."""
        self._handler, self.is_paused, self._waiting = handler, False, []
        self._send_seconds, self._stall_timer, self._has_stalled = send_seconds, None, False
        self._abort, self._unread = abort, unread
        self._buffer: list[P] = []
        self._size = self._sends = 0
        self._is_finished = False
        self._has_data: asyncio.Future[None] | None = None
        self._pumping: asyncio.Task[None] | None = None

    def write(self, data: Framed[P]) -> None:
        if self._handler is None:
            return
        payloads, size = data
        self._buffer += payloads
        self._size += size
        news = self._has_data
        if news is not None and not news.done():
            news.set_result(None)
        if self._size > HIGH_WATER and not self.is_paused:
            self.is_paused = True
            self._handler.paused()

    async def send(self, data: Framed[P]) -> None:
        await self.writable()
        self.write(data)

    def abort(self) -> None:
        if self._abort is not None:
            self._abort()
        elif self._pumping is not None:
            self._pumping.cancel()

    @abstractmethod
    def _message(self, payload: P) -> Message: ...

    def _joined(self, payloads: list[P]) -> list[P]:
        """Join payloads, if one message can carry several."""
        return payloads

    @abstractmethod
    def _last(self) -> Message: ...

    async def _serve(self, send: Send, listening: Coroutine[Any, Any, None]) -> None:
        """Returns when all is sent, or `listening` has returned. Raises what a server's `send` raises, except for an
        OSError, which says that the client has gone."""
        self._pumping, listener = asyncio.ensure_future(self._pump(send)), asyncio.ensure_future(listening)
        tasks = {self._pumping, listener}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if _is_gone(self._pumping):  # messages that the client sent before may still arrive
                await asyncio.wait({listener}, timeout=CUT_SECONDS)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self._set_lost()
        for task in tasks:
            if not task.cancelled() and (problem := task.exception()) and not isinstance(problem, OSError):
                raise problem

    async def _pump(self, send: Send) -> None:
        """Send until the end; an exception ends the connection. With one event in flight this is most of a delivery."""
        create_future = asyncio.get_running_loop().create_future
        while self._buffer or not self._is_finished:
            if not self._buffer:
                self._has_data = create_future()
                await self._has_data
                continue
            buffer, self._buffer, self._size = self._buffer, [], 0
            if self._stall_timer is None:
                self._watch()
            for payload in buffer if len(buffer) == 1 else self._joined(buffer):
                await send(self._message(payload))
                self._sends += 1
            if self.is_paused and self._size <= HIGH_WATER:
                self.is_paused = False
                self._wake_waiting()
        self._watch()
        await send(self._last())

    def _progress(self) -> object:
        is_idle = self._has_data is not None and not self._has_data.done()
        return None if is_idle else (self._sends, self._unread and self._unread())

    def _finish(self) -> None:
        """No more is written. The pump sends the rest of the buffer, and then the last message."""
        self._is_finished = True
        if self._has_data is not None and not self._has_data.done():
            self._has_data.set_result(None)

    def _set_lost(self) -> None:
        self._finish()
        super()._set_lost()


def _is_gone(pumping: asyncio.Task[None]) -> bool:
    return pumping.done() and not pumping.cancelled() and isinstance(pumping.exception(), OSError)


class PlainStream(_PlainConnection[StreamHandler, bytes]):
    """The body of an HTTP response. `serve` returns when it is complete, or the client has gone."""

    def __init__(
        self,
        handler: StreamHandler,
        *,
        abort: Callable[[], object] | None,
        unread: Callable[[], int] | None = None,
        probe: bytes,
        send_seconds: float,
    ) -> None:
        super().__init__(handler, abort=abort, unread=unread, send_seconds=send_seconds)
        self._probe = probe

    @staticmethod
    def frame(messages: Sequence[bytes]) -> Framed[bytes]:
        data = b"".join(messages)
        return (data,), len(data)

    async def serve(self, receive: Receive, send: Send) -> None:
        try:
            await self._serve(send, until_disconnected(receive))
        finally:
            self._stop_watching()

    def begin_probing(self) -> None:
        """The client has closed its sending side: find out whether it still reads. A format without a message for that
        counts it as gone."""
        if not self._probe:
            self.abort()
            return
        for seconds in PROBE_SECONDS:
            asyncio.get_running_loop().call_later(seconds, self.write, self.frame([self._probe]))

    def finish(self) -> None:
        self._handler = None
        self._finish()

    def _message(self, payload: bytes) -> Message:
        return {"type": "http.response.body", "body": payload, "more_body": True}

    def _joined(self, payloads: list[bytes]) -> list[bytes]:
        return [b"".join(payloads)]

    def _last(self) -> Message:
        return {"type": "http.response.body", "body": b"", "more_body": False}


class PlainSocket(_PlainConnection[MessageHandler, str]):
    """A WebSocket after its handshake. `serve` returns when either side has closed it."""

    def __init__(
        self,
        handler: MessageHandler,
        *,
        abort: Callable[[], object] | None,
        unread: Callable[[], int] | None = None,
        send_seconds: float,
        message_bytes: int = MESSAGE_BYTES,
    ) -> None:
        super().__init__(handler, abort=abort, unread=unread, send_seconds=send_seconds)
        self._most_bytes = message_bytes
        self._handled = asyncio.Event()
        self._closing: tuple[int, str] = (1000, "")

    @staticmethod
    def frame(messages: Sequence[bytes]) -> Framed[str]:
        return [message.decode() for message in messages], sum(map(len, messages))

    async def serve(self, receive: Receive, send: Send) -> None:
        try:
            await self._serve(send, self._listen(receive))
            if self._has_stalled:
                await self._cut(send)
        finally:
            self._stop_watching()

    def resume(self) -> None:
        self._handled.set()

    def close(self, code: int, reason: str) -> None:
        if self._is_finished:
            return
        self._closing = code, reason
        self._set_lost()
        self.resume()  # for the answer
        if self._has_stalled and self._pumping is not None:
            self._pumping.cancel()

    def _message(self, payload: str) -> Message:
        return {"type": "websocket.send", "text": payload}

    def _last(self) -> Message:
        code, reason = self._closing
        return {"type": "websocket.close", "code": code, "reason": reason}

    async def _listen(self, receive: Receive) -> None:
        while (message := await receive())["type"] != "websocket.disconnect":
            if self._handler is None:
                continue
            data: str | bytes = message.get("text") or message.get("bytes") or ""
            if len(data) > self._most_bytes or len(data.encode() if isinstance(data, str) else data) > self._most_bytes:
                self.close(TOO_LARGE, f"a message may have {self._most_bytes:,} bytes")
                continue
            self._handled.clear()
            self._handler.received(data)
            await self._handled.wait()

    def control(self) -> None:
        """The client has sent a ping or a pong, which the server answers."""
        if self._handler is not None:
            self._handler.control()

    async def _cut(self, send: Send) -> None:
        """Try to send the close frame to a client that doesn't read, then cut the connection."""
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(CUT_SECONDS):
                await send(self._last())
        self.abort()


async def until_disconnected(receive: Receive) -> None:
    """Return when the client has gone. The request's body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass
