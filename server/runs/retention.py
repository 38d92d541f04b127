"""Background jobs: drop old logs from the journal, and resume runs that nobody works on."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from askstream.server.events.errors import AskstreamError, JournalError
from askstream.server.foreign import Contained
from askstream.server.journal import Journal, SupportsCheck

log = logging.getLogger("__main__")

# Seconds between two deletions. A log may outlive its time by that much, and all of them exceed their bound by what is
# written meanwhile.
EXPIRE_SECONDS = 10
# Seconds between two attempts to resume runs that nobody works on. A full disk is usually cleared within minutes.
RECOVER_SECONDS = 15
# Seconds between two checks of the journal: runs that are accepted meanwhile could be lost.
CHECK_SECONDS = 1.0


async def expire_periodically(
    journal: Journal,
    *,
    keep_seconds: float,
    most_bytes: int,
    pause: float = EXPIRE_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Run until cancelled. A failure is logged, and the job tried again. `clock` never jumps."""
    counted = clock()

    async def expire() -> None:
        nonlocal counted
        passed, counted = clock() - counted, clock()
        now = time.time()
        dropped = await journal.expire(now=now, running=passed, keep_seconds=keep_seconds, most_bytes=most_bytes)
        if dropped:
            log.info("dropped the logs of %d runs", dropped)

    while True:
        await attempt("old logs can't be dropped", expire)
        await asyncio.sleep(pause)


async def check_periodically(journal: SupportsCheck, *, pause: float = CHECK_SECONDS) -> None:
    """Check the journal until cancelled, and log when it fails and when it works again."""
    works = True
    while True:
        await asyncio.sleep(pause)
        try:
            await journal.check()
        except JournalError as problem:
            if works:
                log.error("no run can be started: %s", problem)
            works = False
        else:
            if not works:
                log.warning("the journal works again")
            works = True


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
