"""Passes a run's events on to the sink: in order, and with the pieces of a model's text joined.

Pieces come faster than anybody reads. The first of a text leaves at once; those that follow within MERGE_SECONDS
leave together, and at the latest before the next event of the same agent.
"""

import asyncio
from dataclasses import dataclass, field

from askstream.server.events import AgentChunk, Draft
from askstream.server.runs.orchestrator import Sink

MERGE_SECONDS = 0.025
# Characters. Model text is mostly ASCII, where one is one byte.
MERGE_SIZE = 4096


@dataclass(slots=True)
class _Text:
    """A text that a model is writing: the pieces that have not left yet, and when they may."""

    agent_name: str
    message_id: str
    free_at: float
    pieces: list[str] = field(default_factory=list[str])
    size: int = 0
    timer: asyncio.TimerHandle | None = None


class ChunkBuffer:
    """Puts what several tasks of one run say into one order. After `close` nothing passes any more."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._time = self._loop.time
        self._order = asyncio.Lock()
        self._texts: dict[str, _Text] = {}
        self._closed = False
        self.problem: Exception | None = None  # what the sink raised: AutoGen would bury it under its own error

    async def emit(self, draft: Draft) -> None:
        """Hands over an event, after what its agent has written before it."""
        async with self._order:
            for text in [text for text in self._texts.values() if text.agent_name == draft.agent_name]:
                await self._release(text)
            await self._put(draft)

    async def write(self, agent_name: str, message_id: str, piece: str) -> None:
        """Hands over a piece of the text called `message_id`; `end` must follow the last one."""
        now = self._time()
        text = self._texts.get(message_id)
        if text is None:
            text = self._texts[message_id] = _Text(agent_name, message_id, free_at=now)
        text.pieces.append(piece)
        text.size += len(piece)
        if now >= text.free_at or text.size >= MERGE_SIZE:
            await self._let_go(text)
        elif text.timer is None:
            text.timer = self._loop.call_at(text.free_at, self._due, text)

    async def end(self, message_id: str) -> None:
        """Lets go of the rest of a text that has been written to its end."""
        if text := self._texts.get(message_id):
            await self._let_go(text)
            self._texts.pop(message_id, None)

    def close(self) -> None:
        """From now on whoever still speaks is cancelled; what has not left is dropped."""
        self._closed = True
        for text in self._texts.values():
            if text.timer is not None:
                text.timer.cancel()
        self._texts.clear()

    def _due(self, text: _Text) -> None:
        # Born under the run's scope, which owns it: the timer keeps the context that it was set in.
        self._loop.create_task(self._let_go(text))

    async def _let_go(self, text: _Text) -> None:
        async with self._order:
            await self._release(text)

    async def _release(self, text: _Text) -> None:
        if text.timer is not None:
            text.timer.cancel()
            text.timer = None
        while text.pieces:
            whole = "".join(text.pieces)
            text.pieces.clear()
            text.size = 0
            text.free_at = self._time() + MERGE_SECONDS
            for start in range(0, len(whole), MERGE_SIZE):
                piece = whole[start : start + MERGE_SIZE]
                await self._put(Draft(text.agent_name, "", AgentChunk(delta=piece, message_id=text.message_id)))

    async def _put(self, draft: Draft) -> None:
        if self._closed:
            raise asyncio.CancelledError
        if self.problem is not None:
            raise self.problem
        try:
            await self._sink.emit(draft)
        except Exception as problem:
            self.problem = problem
            raise
