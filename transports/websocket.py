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

from server.ask import EVERYBODY
from server.bus import Viewer
from server.events.errors import AskstreamError, BadCursor, LogExpired, Refused
from server.journal import Entry, RunRecord
from transports.base import House, abort, drain_line, gap_line, retry_spread
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
        self._relays: dict[str, asyncio.Task[None]] = {}
        self._tied: set[str] = set()  # runs that end when this socket does
        self._sent = monotonic()

    async def serve(self) -> None:
        """Returns when the socket has closed, whoever closed it."""
        try:
            async with asyncio.TaskGroup() as group:
                beat = group.create_task(self._beat())
                await self._listen(group)
                for task in (beat, *self._relays.values()):
                    task.cancel()
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

    async def _listen(self, group: asyncio.TaskGroup) -> None:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text") or message.get("bytes") or ""
            for effect in self._conversation.received(text, monotonic()):
                await self._perform(effect, group)

    async def _perform(self, effect: Effect, group: asyncio.TaskGroup) -> None:
        match effect:
            case Reply(text):
                await self._send(text)
            case Start():
                await self._start(effect, group)
            case Subscribe():
                await self._subscribe(effect, group)
            case Unsubscribe(run_id):
                relay = self._relays.pop(run_id, None)
                if relay is not None:
                    relay.cancel()
            case Cancel(ref, run_id):
                await self._acknowledge(ref, self._house.runs.cancel(run_id, EVERYBODY))
            case Answer(ref, run_id, request_id, value):
                await self._acknowledge(ref, self._house.runs.answer(run_id, EVERYBODY, request_id, value))
            case Close(code, reason):
                raise _Closing(code, reason)

    async def _start(self, effect: Start, group: asyncio.TaskGroup) -> None:
        try:
            record, new = await self._house.runs.start(effect.ask.question_of(EVERYBODY))
        except AskstreamError as problem:
            await self._refuse(effect.ref, problem)
            return
        if new and effect.ask.on_disconnect == "cancel":
            self._tied.add(record.run_id)
        watched = record.run_id in self._conversation.watching  # it joined a run by its idempotency key
        await self._send(self._conversation.started(effect.ref, record).text)
        if not watched:
            self._relay(await self._house.bus.attach(record.run_id, wanted=effect.ask.wanted), group)

    async def _subscribe(self, effect: Subscribe, group: asyncio.TaskGroup) -> None:
        try:
            record = await self._house.runs.find(effect.run_id, EVERYBODY)
            after = _cursor(effect.after, record)
            if record.expired_at is not None:
                raise LogExpired
        except AskstreamError as problem:
            await self._refuse(effect.ref, problem, effect.run_id)
            return
        await self._send(self._conversation.subscribed(effect.ref, record, after).text)
        viewer = await self._house.bus.attach(effect.run_id, after=after, wanted=effect.wanted)
        self._relay(viewer, group)

    async def _acknowledge(self, ref: Ref, command: Coroutine[Any, Any, RunRecord]) -> None:
        try:
            record = await command
        except AskstreamError as problem:
            await self._refuse(ref, problem)
            return
        await self._send(self._conversation.acknowledged(ref, record).text)

    def _relay(self, viewer: Viewer, group: asyncio.TaskGroup) -> None:
        relay = self._relays[viewer.run_id] = group.create_task(self._relayed(viewer))
        relay.add_done_callback(lambda _: viewer.close())  # also of one that is cancelled before its first step

    async def _relayed(self, viewer: Viewer) -> None:
        """Moves one run's events until its log is complete."""
        ended = False
        while not ended:
            batch = await viewer.next()
            for item in batch.items:
                line = item.line if isinstance(item, Entry) else gap_line(viewer.run_id, item)
                await self._send(line.decode())
            if batch.drained:
                await self._send(drain_line(viewer.run_id, retry_spread()).decode())
                raise _Closing(DRAIN, "this server is going away")
            ended = batch.ended
        self._conversation.finished(viewer.run_id)
        self._relays.pop(viewer.run_id, None)

    async def _beat(self) -> None:
        while True:
            silent = monotonic() - self._sent
            if silent >= self._house.heartbeat_seconds:
                await self._send(self._conversation.heartbeat().text)
                silent = 0.0
            await asyncio.sleep(self._house.heartbeat_seconds - silent)

    async def _refuse(self, ref: Ref, problem: AskstreamError, run_id: str | None = None) -> None:
        """A refusal is told; anything else of ours closes the socket, and the client may come back."""
        if not isinstance(problem, Refused):
            raise problem
        await self._send(self._conversation.refused(ref, problem, run_id).text)

    async def _send(self, text: str) -> None:
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


def _cursor(after: int | None, record: RunRecord) -> int:
    if after is None:
        return record.last_id
    if after > record.last_id and not record.ended:
        raise BadCursor(f"The run's newest event is {record.last_id}; {after} has not happened yet.")
    return after
