"""Runs of one session share the team's memory, so they go one after the other."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from askstream.server.events.errors import SessionBusy

IfBusy: TypeAlias = Literal["reject", "queue"]


@dataclass(slots=True, eq=False)
class SessionSlot:
    """A run's place in its session. `may_start` is set when it may work."""

    key: tuple[str, str]
    may_start: asyncio.Event = field(default_factory=asyncio.Event)


class Sessions:
    """The sessions that have active runs, by principal and session id."""

    def __init__(self, queued: int) -> None:
        self._queued = queued
        self._queues: dict[tuple[str, str], deque[SessionSlot]] = {}

    def join(self, principal: str, session_id: str, if_busy: IfBusy | Literal["resume"]) -> SessionSlot:
        """Return the last slot of the session's queue; the first one may start at once. Raises SessionBusy.

        A run that is resumed after a crash joins with `resume`: it is never refused, however long the queue.
        """
        slot = SessionSlot((principal, session_id))
        queue = self._queues.get(slot.key)
        if queue is None:
            self._queues[slot.key] = deque([slot])
            slot.may_start.set()
            return slot
        if if_busy == "reject":
            raise SessionBusy("A run of this session is active; wait for its end, or ask with if_busy: queue.")
        if if_busy == "queue" and len(queue) > self._queued:
            raise SessionBusy(f"{self._queued} runs of this session wait for their turn already.")
        queue.append(slot)
        return slot

    def leave(self, slot: SessionSlot) -> None:
        """Free the slot of a run that has ended or was never started. The next in the queue may start."""
        queue = self._queues[slot.key]
        queue.remove(slot)
        if queue:
            queue[0].may_start.set()
        else:
            del self._queues[slot.key]

    def busy(self, principal: str, session_id: str) -> bool:
        return (principal, session_id) in self._queues
