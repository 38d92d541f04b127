"""Material for tests of journals: records, entries, and a journal that yields at every step."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from askstream.server.journal import Entry, Journal
from askstream.server.journal.conformance import entries, entry, record, update

__all__ = ["Yielding", "entries", "entry", "record", "update"]


class Yielding:
    """A journal that yields to all other tasks before and after each step.

    An in-memory journal never suspends, so races between reading and publishing can't happen with it; here they do.
    """

    def __init__(self, journal: Journal, turns: int = 3) -> None:
        self._journal, self._turns = journal, turns
        self.survives = journal.survives

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._journal, name)

        async def slowly(*args: Any, **kwargs: Any) -> Any:
            await self._give_way()
            result = await method(*args, **kwargs)
            await self._give_way()
            return result

        return slowly

    async def watch(self, run_id: str, after: int) -> AsyncIterator[Sequence[Entry]]:
        await self._give_way()
        async for found in self._journal.watch(run_id, after):
            await self._give_way()
            yield found

    async def _give_way(self) -> None:
        for _ in range(self._turns):
            await asyncio.sleep(0)
