"""Whose turn it is: runs of one session share the team's memory, so they go one after the other."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from askstream.server.events.errors import SessionBusy

IfBusy: TypeAlias = Literal["reject", "queue"]


@dataclass(slots=True, eq=False)
class Turn:
    """A run's place in its session. `mine` is set when it may work."""

    key: tuple[str, str]
    mine: asyncio.Event = field(default_factory=asyncio.Event)


class Sessions:
    """The sessions that have active runs, by principal and session id."""

    def __init__(self, queued: int) -> None:
        self._queued = queued
        self._lines: dict[tuple[str, str], deque[Turn]] = {}

    def join(self, principal: str, session_id: str, if_busy: IfBusy | Literal["resume"]) -> Turn:
        """The last place in the session's line; the only one may work at once. Raises SessionBusy.

        A run that goes on after a crash joins with `resume`: nobody may refuse it, however long the line.
        """
        turn = Turn((principal, session_id))
        line = self._lines.get(turn.key)
        if line is None:
            self._lines[turn.key] = deque([turn])
            turn.mine.set()
            return turn
        if if_busy == "reject":
            raise SessionBusy("A run of this session is active; wait for its end, or ask with if_busy: queue.")
        if if_busy == "queue" and len(line) > self._queued:
            raise SessionBusy(f"{self._queued} runs of this session wait for their turn already.")
        line.append(turn)
        return turn

    def leave(self, turn: Turn) -> None:
        """The run has ended, or was never started; the next in line may work."""
        line = self._lines[turn.key]
        line.remove(turn)
        if line:
            line[0].mine.set()
        else:
            del self._lines[turn.key]

    def busy(self, principal: str, session_id: str) -> bool:
        return (principal, session_id) in self._lines
