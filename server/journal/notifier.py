"""Wakes those who wait for a run's next event in this process, for journals that live in it."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from askstream.server.events import TERMINAL_TYPES
from askstream.server.journal.base import Entry, Journal


class Doorbell:
    """A future for each run that somebody waits for; ringing it wakes all of them at once."""

    def __init__(self) -> None:
        self._bells: dict[str, asyncio.Future[None]] = {}

    def ring(self, run_id: str) -> None:
        bell = self._bells.pop(run_id, None)
        if bell is not None and not bell.done():
            bell.set_result(None)

    def hear(self, run_id: str) -> asyncio.Future[None]:
        """A future that the next ring resolves. Get it before you read: what rings in between isn't missed."""
        if run_id not in self._bells:
            self._bells[run_id] = asyncio.get_running_loop().create_future()
        return self._bells[run_id]


async def follow(journal: Journal, doorbell: Doorbell, run_id: str, after: int) -> AsyncIterator[Sequence[Entry]]:
    """`Journal.watch` for a journal that rings `doorbell` after each append."""
    while True:
        bell = doorbell.hear(run_id)
        entries = await journal.read(run_id, after)
        if entries:
            after = entries[-1].id
            yield entries
            if entries[-1].event_type in TERMINAL_TYPES:
                return
        else:
            await asyncio.shield(bell)  # cancelling one who waits must not cancel the bell of the others
