"""Notifies waiters in this process of a run's next event."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from askstream.server.events import TERMINAL_TYPES
from askstream.server.journal.base import Entry, Journal


class AppendNotifier:
    """One future for each run with waiters: the next append resolves it for all of them.

    If `waiting` is empty, nobody needs to be notified.
    """

    def __init__(self) -> None:
        self.waiting: dict[str, asyncio.Future[None]] = {}

    def notify(self, run_id: str) -> None:
        """Call after each append to the run."""
        appended = self.waiting.pop(run_id, None)
        if appended is not None and not appended.done():
            appended.set_result(None)

    def wait(self, run_id: str) -> asyncio.Future[None]:
        """Return a future that the next append resolves. Get it before you read: then no append is missed."""
        if run_id not in self.waiting:
            self.waiting[run_id] = asyncio.get_running_loop().create_future()
        return self.waiting[run_id]


async def follow(journal: Journal, notifier: AppendNotifier, run_id: str, after: int) -> AsyncIterator[Sequence[Entry]]:
    """`Journal.watch` for a journal that calls `notifier.notify` after each append."""
    while True:
        appended = notifier.wait(run_id)
        entries = await journal.read(run_id, after)
        if entries:
            after = entries[-1].id
            yield entries
            if entries[-1].event_type in TERMINAL_TYPES:
                return
        else:
            await asyncio.shield(appended)  # shared: a cancelled waiter must not cancel it for the others
