"""WebSocket: many runs over one socket, commands one way and the same envelopes as everywhere the other way.

A thin shell around the conversation in session.py: it moves frames, and does what the conversation says.
"""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Sequence
from time import monotonic
from typing import Any

from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from server.ask import EVERYBODY, viewable
from server.bus import Viewer
from server.events.errors import AskstreamError, Refused
from server.journal import RunRecord
from transports.base import House, abort, take
from transports.session import (
    SUBPROTOCOL,
    Answer,
    Cancel,
    Close,
    Conversation,
    Effect,
    Ref,
    Reply,
    Start,
    Subscribe,
    Unsubscribe,
)
from transports.watch import Direct, Plain, Watch

log = logging.getLogger("__main__")

TOO_SLOW = 4008
DRAIN = 4012
INTERNAL = 1011
# For the close frame of a client that has stopped reading.
CUT_SECONDS = 1.0


class _Closing(Exception):
    """We close the socket: once nobody sends on it any more."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class WebSockets:
    def __init__(self, house: House) -> None:
        self._house = house

    def routes(self) -> Sequence[BaseRoute]:
        return [WebSocketRoute("/ws", self.talk)]

    async def talk(self, websocket: WebSocket) -> None:
        """Serves one socket until it closes."""
        offered = websocket.scope.get("subprotocols", [])
        await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        await Socket(websocket, self._house).serve()


class Socket:
    """One connection: its conversation, and a relay for each run it watches."""

    def __init__(self, websocket: WebSocket, house: House) -> None:
        self._websocket, self._house = websocket, house
        self._conversation = Conversation(house.question_characters)
        self._connection = take(websocket.scope, self) if house.direct else None
        self._watches: dict[str, Watch] = {}
        self._tied: set[str] = set()  # runs that end when this socket does
        self._group: asyncio.TaskGroup | None = None  # while it is open
        self._heart: asyncio.TimerHandle | None = None
        self._sent = monotonic()

    async def serve(self) -> None:
        """Returns when the socket has closed, whoever closed it."""
        try:
            async with asyncio.TaskGroup() as self._group:
                try:
                    self._beat()
                    await self._listen()
                finally:
                    self._stop()
        except* TimeoutError:
            await self._cut()
        except* _Closing as closings:
            closing = closings.exceptions[0]
            assert isinstance(closing, _Closing)
            await self._close(closing.code, closing.reason)
        except* WebSocketDisconnect:
            pass  # it closed while something was being sent
        except* AskstreamError as problems:
            log.error("/ws: %s", problems.exceptions[0])
            await self._close(INTERNAL, "the log is not available")
        finally:
            for run_id in self._tied:
                await self._house.runs.left(run_id, EVERYBODY)

    def _stop(self) -> None:
        self._group = None
        if self._heart is not None:
            self._heart.cancel()
        for watch in self._watches.values():
            watch.stop()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        """Runs it for as long as the socket is open; what it raises closes the socket. None where that is so."""
        if self._group is None:
            work.close()
            return None
        task = self._group.create_task(work)
        task.add_done_callback(self._close_after)
        return task

    def _close_after(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._group = None  # it takes no more tasks, and its others are being cancelled

    def over(self, run_id: str, *, drained: bool) -> None:
        if drained:
            raise _Closing(DRAIN, "this server is going away")
        self._conversation.finished(run_id)
        self._watches.pop(run_id, None)

    def paused(self) -> None:
        for watch in list(self._watches.values()):
            watch.step_back()

    def lost(self) -> None:
        self._stop()  # `_listen` is told in its own time; until then nobody may write any more

    async def _listen(self) -> None:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text") or message.get("bytes") or ""
            for effect in self._conversation.received(text, monotonic()):
                await self._perform(effect)

    async def _perform(self, effect: Effect) -> None:
        match effect:
            case Reply(text):
                await self.send(text)
            case Start():
                await self._start(effect)
            case Subscribe():
                await self._subscribe(effect)
            case Unsubscribe(run_id):
                watch = self._watches.pop(run_id, None)
                if watch is not None:
                    watch.stop()
            case Cancel(ref, run_id):
                await self._acknowledge(ref, self._house.runs.cancel(run_id, EVERYBODY))
            case Answer(ref, run_id, request_id, value):
                await self._acknowledge(ref, self._house.runs.answer(run_id, EVERYBODY, request_id, value))
            case Close(code, reason):
                raise _Closing(code, reason)

    async def _start(self, effect: Start) -> None:
        try:
            record, new = await self._house.runs.start(effect.ask.question_of(EVERYBODY))
        except AskstreamError as problem:
            await self._refuse(effect.ref, problem)
            return
        if new and effect.ask.on_disconnect == "cancel":
            self._tied.add(record.run_id)
        watched = record.run_id in self._conversation.watching  # it joined a run by its idempotency key
        await self.send(self._conversation.started(effect.ref, record).text)
        if not watched:
            self._watch(await self._house.bus.attach(record.run_id, wanted=effect.ask.wanted))

    async def _subscribe(self, effect: Subscribe) -> None:
        try:
            record = await self._house.runs.find(effect.run_id, EVERYBODY)
            after = viewable(record, effect.after)
        except AskstreamError as problem:
            await self._refuse(effect.ref, problem, effect.run_id)
            return
        await self.send(self._conversation.subscribed(effect.ref, record, after).text)
        viewer = await self._house.bus.attach(effect.run_id, after=after, wanted=effect.wanted)
        self._watch(viewer)

    async def _acknowledge(self, ref: Ref, command: Coroutine[Any, Any, RunRecord]) -> None:
        try:
            record = await command
        except AskstreamError as problem:
            await self._refuse(ref, problem)
            return
        await self.send(self._conversation.acknowledged(ref, record).text)

    def _watch(self, viewer: Viewer) -> None:
        if self._connection is None:
            watch = Plain(viewer, self)
        else:
            watch = Direct(viewer, self, self._connection, send_seconds=self._house.send_seconds)
        self._watches[viewer.run_id] = watch
        watch.begin()

    def _beat(self) -> None:
        """Breaks a silence."""
        silent = monotonic() - max(self._sent, *(watch.viewer.wrote_at for watch in self._watches.values()), 0.0)
        if silent >= self._house.heartbeat_seconds:
            self.spawn(self.send(self._conversation.heartbeat().text))
            silent = 0.0
        wait = self._house.heartbeat_seconds - silent
        self._heart = asyncio.get_running_loop().call_later(wait, self._beat)

    async def _refuse(self, ref: Ref, problem: AskstreamError, run_id: str | None = None) -> None:
        """A refusal is told; anything else of ours closes the socket, and the client may come back."""
        if not isinstance(problem, Refused):
            raise problem
        await self.send(self._conversation.refused(ref, problem, run_id).text)

    async def send(self, text: str) -> None:
        """The one place that writes to this connection.

        Raises TimeoutError when the client reads nothing, and WebSocketDisconnect when it has gone.
        """
        if self._websocket.application_state is not WebSocketState.CONNECTED:
            raise WebSocketDisconnect(1006)  # another relay was told a moment ago
        async with asyncio.timeout(self._house.send_seconds):
            await self._websocket.send_text(text)
        self._sent = monotonic()

    async def _cut(self) -> None:
        """For a client that doesn't read: it is told why if there is room for that, and cut all the same."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CUT_SECONDS):
                await self._close(TOO_SLOW, "nothing was read for too long")
        abort(self._websocket.scope)

    async def _close(self, code: int, reason: str) -> None:
        """Again is fine, and so is too late."""
        if self._websocket.application_state is WebSocketState.CONNECTED:
            with contextlib.suppress(WebSocketDisconnect):  # the client was first
                await self._websocket.close(code, reason)
