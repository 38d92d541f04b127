"""Background jobs: drop old logs from the journal, and resume runs that nobody works on."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from askstream.server.events.errors import AskstreamError
from askstream.server.foreign import Contained
from askstream.server.journal import Journal

log = logging.getLogger("__main__")

# Seconds between two checks. A log may outlive its time by that much.
EXPIRE_SECONDS = 60
# The same for runs that nobody works on. A full disk is usually cleared within minutes.
RECOVER_SECONDS = 15


async def expire_periodically(
    journal: Journal, *, keep_seconds: float, most_bytes: int, pause: float = EXPIRE_SECONDS
) -> None:
    """Run until cancelled. A failure is logged, and the job tried again."""

    async def expire() -> None:
        now = time.time()
        while dropped := await journal.expire(now=now, ended_before=now - keep_seconds, most_bytes=most_bytes):
            log.info("dropped the logs of %d runs", dropped)

    while True:
        await attempt("old logs can't be dropped", expire)
        await asyncio.sleep(pause)


async def recover_periodically(recover: Callable[[], Awaitable[None]], *, pause: float = RECOVER_SECONDS) -> None:
    """Call `Runs.recover` until cancelled: it resumes a run whose log could not be written for a while."""
    while True:
        await asyncio.sleep(pause)
        await attempt("unfinished runs can't be resumed", recover)


async def attempt(what: str, job: Callable[[], Awaitable[None]]) -> bool:
    """Run a part of a background job, and return whether it succeeded. A failure is logged as `what`: it must not end
    the job, and with it the server. AskstreamErrors have a sentence that says it all."""
    try:
        with Contained():
            await job()
    except AskstreamError as problem:
        log.error("%s: %s", what, problem)
        return False
    except Exception:
        log.exception("%s", what)
        return False
    return True
