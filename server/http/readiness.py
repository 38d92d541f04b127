"""Whether a run that is started now will survive: the answer of `GET /ready`."""

import asyncio
from collections.abc import Callable
from time import monotonic

from askstream.server.events.errors import JournalError
from askstream.server.journal import Journal, SupportsCheck

# Seconds that a check may take. A probe waits for a few; SQLite waits five for another program's lock.
CHECK_SECONDS = 2.0
# Seconds for which a check is good: however often somebody asks, it costs a transaction in each of them.
GOOD_SECONDS = 1.0

Problem = tuple[str, str, str]


class Readiness:
    """`accepting`: whether this server accepts new work."""

    def __init__(self, journal: Journal, accepting: Callable[[], bool]) -> None:
        self._journal, self._accepting = journal, accepting
        self._check: asyncio.Future[None] | None = None  # shared by all who ask meanwhile
        self._good_until = 0.0

    async def problem(self) -> Problem | None:
        """Return title, code and detail of what is wrong; None if all is well."""
        if not self._accepting():
            return "The server is going away", "draining", "Ask another server, or this one again soon."
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await self._checked()
        except TimeoutError:
            return _unavailable(f"the journal can't be written within {CHECK_SECONDS:g} s; another program may lock it")
        except JournalError as problem:
            return _unavailable(str(problem))
        return None

    async def _checked(self) -> None:
        if not isinstance(self._journal, SupportsCheck) or monotonic() < self._good_until:
            return
        if self._check is None or self._check.done():
            self._check = asyncio.ensure_future(self._journal.check(write=True))
            self._check.add_done_callback(self._remember)
        await asyncio.shield(self._check)

    def _remember(self, check: "asyncio.Future[None]") -> None:
        if not check.cancelled() and check.exception() is None:
            self._good_until = monotonic() + GOOD_SECONDS


def _unavailable(what: str) -> Problem:
    return "The log is not available", "journal_unavailable", f"{what[0].upper()}{what[1:]}."
