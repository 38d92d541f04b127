"""WebSocket: many runs over one socket, commands one way and the same envelopes as everywhere the other way.

Two thin shells around the conversation: `Own` on a connection that is ours, which has a task only while there is
something to do, and `Served` by ASGI's messages, under any server.
"""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Sequence
from time import monotonic
from typing import Any

from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from askstream.server.bus import Viewer
from askstream.server.connections.direct import frame
from askstream.server.connections.uvicorn import Upgrade
from askstream.server.events.errors import AskstreamError
from askstream.transports.base import House, SocketRoute, abort, told
from askstream.transports.websocket.protocol import SUBPROTOCOL
from askstream.transports.websocket.socket import INTERNAL, TOO_SLOW, Closing, Socket
from askstream.transports.websocket.subscription import Direct, Plain, Watch

log = logging.getLogger("__main__")

# For the close frame of a client that has stopped reading.
CUT_SECONDS = 1.0
_NOTHING_READ = "nothing was read for too long"
_NO_LOG = "the log is not available"


class WebSockets:
    def __init__(self, house: House) -> None:
        self._house = house

    def routes(self) -> Sequence[BaseRoute]:
        if self._house.direct:
            return [SocketRoute("/ws", self.talk, self.welcome)]
        return [WebSocketRoute("/ws", self.talk)]

    def welcome(self, upgrade: Upgrade) -> None:
        """Accepts a socket whose connection is ours."""
        Own(upgrade, self._house)

    async def talk(self, websocket: WebSocket) -> None:
        """Accepts a socket, and serves it until it closes."""
        await websocket.accept(_chosen(websocket.scope.get("subprotocols", [])))
        await Served(websocket, self._house).serve()


def _chosen(subprotocols: Sequence[str]) -> str | None:
    return SUBPROTOCOL if SUBPROTOCOL in subprotocols else None


class Own(Socket):
    """On a connection that is ours, a `Hearer`."""

    def __init__(self, upgrade: Upgrade, house: House) -> None:
        super().__init__(house)
        self._inbox: list[str | bytes] = []
        self._worker: asyncio.Task[None] | None = None
        self.connection = upgrade.accept(self, _chosen(upgrade.subprotocols))
        self.beat()

    async def send(self, text: str) -> None:
        await self.connection.put(frame(text.encode()), self._house.send_seconds)
        self._sent = monotonic()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        if self._stopped:
            work.close()
            return None
        return self._house.tasks.spawn(work, self._ended)

    def received(self, text: str | bytes) -> None:
        self._inbox.append(text)
        if self._worker is None:
            self._worker = self.spawn(self._work())

    def paused(self) -> None:
        for watch in list(self._watches.values()):
            watch.step_back()

    def lost(self) -> None:
        """Also when we close it. What the client said before that is still done, though nobody is told."""
        self.stop()
        if self._tied:
            self._house.tasks.spawn(self.leave())

    def _sound(self, heartbeat: str) -> None:
        if self.connection.is_paused:
            super()._sound(heartbeat)  # which waits, and tells who takes nothing
        else:
            self.connection.write(frame(heartbeat.encode()))
            self._sent = monotonic()

    def _watch(self, viewer: Viewer) -> Watch:
        return Direct(viewer, self, self.connection, send_seconds=self._house.send_seconds)

    async def _work(self) -> None:
        try:
            while self._inbox:
                await self.hear(self._inbox.pop(0))
        finally:
            self._worker = None
            if self._stopped:
                await self.leave()
        self.connection.go_on()

    def _ended(self, task: asyncio.Task[None]) -> None:
        match None if task.cancelled() else task.exception():
            case None:
                pass
            case Closing() as closing:
                self.connection.close_with(closing.code, closing.reason)
            case TimeoutError():
                self.connection.close_with(TOO_SLOW, _NOTHING_READ)
                asyncio.get_running_loop().call_later(CUT_SECONDS, self.connection.abort)
            case problem:
                log.error("/ws: %s", told(problem))
                self.connection.close_with(INTERNAL, _NO_LOG)


class Served(Socket):
    """By ASGI's messages."""

    def __init__(self, websocket: WebSocket, house: House) -> None:
        super().__init__(house)
        self._websocket = websocket
        self._group: asyncio.TaskGroup | None = None  # while it is open

    async def serve(self) -> None:
        """Returns when the socket has closed, whoever closed it."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                try:
                    self.beat()
                    await self._listen()
                finally:
                    self._group = None
                    self.stop()
        except* TimeoutError:
            await self._cut()
        except* Closing as closings:
            closing = closings.exceptions[0]
            assert isinstance(closing, Closing)
            await self._close(closing.code, closing.reason)
        except* WebSocketDisconnect:
            pass  # it closed while something was being sent
        except* AskstreamError as problems:
            log.error("/ws: %s", problems.exceptions[0])
            await self._close(INTERNAL, _NO_LOG)
        finally:
            await self.leave()

    async def send(self, text: str) -> None:
        """Raises WebSocketDisconnect when the client has gone."""
        if self._websocket.application_state is not WebSocketState.CONNECTED:
            raise WebSocketDisconnect(1006)  # another relay was told a moment ago
        async with asyncio.timeout(self._house.send_seconds):
            await self._websocket.send_text(text)
        self._sent = monotonic()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        if self._group is None:
            work.close()
            return None
        task = self._group.create_task(work)
        task.add_done_callback(self._close_after)
        return task

    def _close_after(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._group = None  # it takes no more tasks, and its others are being cancelled

    def _watch(self, viewer: Viewer) -> Watch:
        return Plain(viewer, self)

    async def _listen(self) -> None:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            await self.hear(message.get("text") or message.get("bytes") or "")

    async def _cut(self) -> None:
        """For a client that doesn't read: it is told why if there is room for that, and cut all the same."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CUT_SECONDS):
                await self._close(TOO_SLOW, _NOTHING_READ)
        abort(self._websocket.scope)

    async def _close(self, code: int, reason: str) -> None:
        """Again is fine, and so is too late."""
        if self._websocket.application_state is WebSocketState.CONNECTED:
            with contextlib.suppress(WebSocketDisconnect):  # the client was first
                await self._websocket.close(code, reason)
