"""Passes a run's events on to the sink: in order, and with the pieces of a model's text joined.

Pieces come faster than people read. The first of a text is sent at once; those that follow within MERGE_SECONDS are
sent together, and always before the next event of the same agent.
"""

import asyncio
from dataclasses import dataclass, field

from askstream.agents.order import MessageOrder
from askstream.server.events import AgentChunk, Draft
from askstream.server.events.unicode import PieceMender
from askstream.server.runs.orchestrator import Inquiry, Reply, Sink

MERGE_SECONDS = 0.025
# Characters. Model text is mostly ASCII, where one is one byte.
MERGE_SIZE = 4096


@dataclass(slots=True)
class _Text:
    """A text that a model is writing: its pending pieces, and the loop time from which they may be sent."""

    agent_name: str
    message_id: str
    send_after: float
    thought: bool | None  # None: it isn't one
    pieces: list[str] = field(default_factory=list[str])
    mender: PieceMender = field(default_factory=PieceMender)
    size: int = 0
    timer: asyncio.TimerHandle | None = None


class ChunkBuffer:
    """Orders the events of a run's tasks. After `close` it passes nothing on. `order` has the messages that are still
    on their way here."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._time = self._loop.time
        self._order = asyncio.Lock()
        self._texts: dict[str, _Text] = {}
        self._closed = False
        self._held: Draft | None = None
        self.order = MessageOrder()
        self.problem: Exception | None = None  # the sink's error, which AutoGen's own would hide

    async def emit(self, draft: Draft) -> None:
        """Send an event after its agent's pending text."""
        async with self._order:
            await self._flush_texts_of(draft.agent_name)
            await self._send(draft)

    async def hold(self, draft: Draft) -> None:
        """Take an event's place in the order, and send it with the next event or with `emit_held`."""
        async with self._order:
            await self._flush_texts_of(draft.agent_name)
            await self._send_held()
            self._held = draft

    async def emit_held(self) -> None:
        """Send the event that `hold` got, if it isn't sent yet."""
        async with self._order:
            await self._send_held()

    async def ask(self, inquiry: Inquiry) -> Reply:
        """Ask a person, after the agent's pending text and the event that is held."""
        async with self._order:
            await self._flush_texts_of(inquiry.agent_name)
            await self._send_held()
        if self._closed:
            raise asyncio.CancelledError
        return await self._sink.ask(inquiry)

    async def write(self, agent_name: str, message_id: str, piece: str, *, thought: bool = False) -> None:
        """Add a piece to the text `message_id`. Call `end` after the last one. `thought`: it isn't a response's."""
        now = self._time()
        text = self._texts.get(message_id)
        if text is None:
            text = self._texts[message_id] = _Text(agent_name, message_id, send_after=now, thought=thought or None)
        piece = text.mender.add(piece)
        text.pieces.append(piece)
        text.size += len(piece)
        if not text.size:
            return
        if now >= text.send_after or text.size >= MERGE_SIZE:
            await self._flush(text)
        elif text.timer is None:
            text.timer = self._loop.call_at(text.send_after, self._due, text)

    async def end(self, message_id: str) -> None:
        """Send the rest of a text."""
        if text := self._texts.get(message_id):
            text.pieces.append(text.mender.end())
            await self._flush(text)
            self._texts.pop(message_id, None)

    def close(self) -> None:
        """Drop pending text. Tasks that write or emit afterwards are cancelled."""
        self._closed = True
        for text in self._texts.values():
            if text.timer is not None:
                text.timer.cancel()
        self._texts.clear()

    def _due(self, text: _Text) -> None:
        # The run's scope owns the task: the timer keeps the context in which it was set.
        self._loop.create_task(self._flush(text))

    async def _flush(self, text: _Text) -> None:
        async with self._order:
            await self._flush_locked(text)

    async def _flush_texts_of(self, agent_name: str) -> None:
        for text in [text for text in self._texts.values() if text.agent_name == agent_name]:
            text.pieces.append(text.mender.end())  # no second half comes behind the event
            await self._flush_locked(text)

    async def _flush_locked(self, text: _Text) -> None:
        if text.timer is not None:
            text.timer.cancel()
            text.timer = None
        while text.pieces:
            whole = "".join(text.pieces)  # empty if it was half a character
            text.pieces.clear()
            text.size = 0
            text.send_after = self._time() + MERGE_SECONDS
            for start in range(0, len(whole), MERGE_SIZE):
                piece = whole[start : start + MERGE_SIZE]
                body = AgentChunk(delta=piece, message_id=text.message_id, thought=text.thought)
                await self._send(Draft(text.agent_name, "", body))

    async def _send_held(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            await self._send(held)

    async def _send(self, draft: Draft) -> None:
        await self._send_held()
        if self._closed:
            raise asyncio.CancelledError
        if self.problem is not None:
            raise self.problem
        try:
            await self._sink.emit(draft)
        except Exception as problem:
            self.problem = problem
            raise
