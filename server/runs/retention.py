"""Makes room in the journal, again and again: old logs of runs that ended, and the oldest when there are too many."""

import asyncio
import logging
import time

from server.events.errors import JournalError
from server.journal import Journal

log = logging.getLogger("__main__")

# Between two looks, in seconds. A log may outlive its time by that much.
PAUSE = 60


async def retain(journal: Journal, *, keep_seconds: float, most_bytes: int, pause: float = PAUSE) -> None:
    """Never returns; cancel it. A journal that fails is told in the log and tried again."""
    while True:
        try:
            now = time.time()
            while dropped := await journal.expire(now=now, ended_before=now - keep_seconds, most_bytes=most_bytes):
                log.info("dropped the logs of %d runs", dropped)
        except JournalError as problem:
            log.error("no room could be made: %s", problem)
        await asyncio.sleep(pause)
