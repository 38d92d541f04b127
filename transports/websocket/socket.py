"""What a WebSocket says and does, however its bytes move: a conversation, its effects, and the runs it watches."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from math import ceil
from time import monotonic
from typing import Any

from askstream.server.bus import Viewer
from askstream.server.events.errors import AskstreamError, Refused
from askstream.server.journal import RunRecord
from askstream.server.requests import EVERYBODY, viewable
from askstream.transports.base import House
from askstream.transports.websocket.protocol import (
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
from askstream.transports.websocket.subscription import Watch

TOO_SLOW = 4008
DRAIN = 4012
INTERNAL = 1011

# Heartbeats of many sockets go out together, so many times in the span that one of them covers: a process that is woken
# for each of thousands spends most of its time on waking up.
TOGETHER = 32


class Closing(Exception):
    """We close the socket: once nobody sends on it any more."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class Socket(ABC):
    """One connection. Its shells say how to send, and what runs its tasks; `stop` once, when it closes."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._conversation = Conversation(house.question_characters)
        self._watches: dict[str, Watch] = {}
        self._tied: list[str] = []  # runs that end when this socket does
        self._sent = monotonic()
        self._heart: asyncio.TimerHandle | None = None
        self._stopped = False

    @abstractmethod
    async def send(self, text: str) -> None:
        """Raises TimeoutError when the client reads nothing."""

    @abstractmethod
    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        """Runs it for as long as the socket is open; what it raises closes the socket. None where that is so."""

    @abstractmethod
    def _watch(self, viewer: Viewer) -> Watch: ...

    async def hear(self, text: str | bytes) -> None:
        """Deals with one message of the client's. Raises Closing, TimeoutError and errors of the journal."""
        for effect in self._conversation.received(text, monotonic()):
            await self._perform(effect)

    def over(self, run_id: str, *, drained: bool) -> None:
        if drained:
            raise Closing(DRAIN, "this server is going away")
        self._conversation.finished(run_id)
        self._watches.pop(run_id, None)

    def beat(self) -> None:
        """Breaks a silence; goes on by itself."""
        silent = monotonic() - max(self._sent, *(watch.viewer.wrote_at for watch in self._watches.values()), 0.0)
        if silent >= self._house.heartbeat_seconds:
            self._sound(self._conversation.heartbeat().text)
            silent = 0.0
        loop = asyncio.get_running_loop()
        due, together = loop.time() + self._house.heartbeat_seconds - silent, self._house.heartbeat_seconds / TOGETHER
        self._heart = loop.call_at(ceil(due / together) * together, self.beat)

    def _sound(self, heartbeat: str) -> None:
        self.spawn(self.send(heartbeat))

    def stop(self) -> None:
        self._stopped = True
        if self._heart is not None:
            self._heart.cancel()
        watches, self._watches = self._watches, {}
        for watch in watches.values():
            watch.stop()

    async def leave(self) -> None:
        """The client has gone, or was sent away."""
        for run_id in self._tied:
            await self._house.runs.left(run_id, EVERYBODY)

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
                raise Closing(code, reason)

    async def _start(self, effect: Start) -> None:
        try:
            record, new = await self._house.runs.start(effect.ask.question_of(EVERYBODY))
        except AskstreamError as problem:
            await self._refuse(effect.ref, problem)
            return
        if new and effect.ask.on_disconnect == "cancel":
            self._tied.append(record.run_id)
        watched = record.run_id in self._conversation.watching  # it joined a run by its idempotency key
        await self.send(self._conversation.started(effect.ref, record).text)
        if not watched:
            self._begin(await self._house.bus.attach(record.run_id, wanted=effect.ask.wanted))

    async def _subscribe(self, effect: Subscribe) -> None:
        try:
            record = await self._house.runs.find(effect.run_id, EVERYBODY)
            after = viewable(record, effect.after)
        except AskstreamError as problem:
            await self._refuse(effect.ref, problem, effect.run_id)
            return
        await self.send(self._conversation.subscribed(effect.ref, record, after).text)
        self._begin(await self._house.bus.attach(effect.run_id, after=after, wanted=effect.wanted))

    async def _acknowledge(self, ref: Ref, command: Coroutine[Any, Any, RunRecord]) -> None:
        try:
            record = await command
        except AskstreamError as problem:
            await self._refuse(ref, problem)
            return
        await self.send(self._conversation.acknowledged(ref, record).text)

    async def _refuse(self, ref: Ref, problem: AskstreamError, run_id: str | None = None) -> None:
        """A refusal is told; anything else of ours closes the socket, and the client may come back."""
        if not isinstance(problem, Refused):
            raise problem
        await self.send(self._conversation.refused(ref, problem, run_id).text)

    def _begin(self, viewer: Viewer) -> None:
        if self._stopped:
            viewer.close()
            return
        watch = self._watches[viewer.run_id] = self._watch(viewer)
        watch.begin()
