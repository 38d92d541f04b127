"""Background jobs: drop old logs from the journal, and resume runs that nobody works on."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from askstream.server.events.errors import JournalError
from askstream.server.journal import Journal

log = logging.getLogger("__main__")

# Between two looks, in seconds. A log may outlive its time by that much.
EXPIRE_SECONDS = 60
# The same for runs without a worker. A disk that was full is usually seen to within minutes.
RECOVER_SECONDS = 15


async def expire_periodically(
    journal: Journal, *, keep_seconds: float, most_bytes: int, pause: float = EXPIRE_SECONDS
) -> None:
    """Never returns; cancel it. A journal's failure is logged, and tried again."""
    while True:
        try:
            now = time.time()
            while dropped := await journal.expire(now=now, ended_before=now - keep_seconds, most_bytes=most_bytes):
                log.info("dropped the logs of %d runs", dropped)
        except JournalError as problem:
            log.error("no room could be made: %s", problem)
        await asyncio.sleep(pause)


async def recover_periodically(recover: Callable[[], Awaitable[None]], *, pause: float = RECOVER_SECONDS) -> None:
    """Calls `Runs.recover` again and again: a run whose log could not be written for a while goes on. Cancel it."""
    while True:
        await asyncio.sleep(pause)
        try:
            await recover()
        except JournalError as problem:
            log.error("unfinished runs can't be taken up: %s", problem)
