"""Deletes what a journal's file no longer has to keep, and gives its pages back to the file system.

All of it happens in steps of a few milliseconds, with a pause of half as long after each. Appends go on in between, so
nobody waits for the deletion of a hundred thousand logs.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

from askstream.server.journal.base import RECORD_SECONDS
from askstream.server.journal.sqlite.group_writer import GroupWriter
from askstream.server.journal.sqlite.tables import touch

# The most that a step deletes: runs, and bytes of their logs. At least one log, which has 16 MiB at most.
STEP_RUNS, STEP_BYTES = 64, 512 * 1024
# Pages that a step moves from the file's end to its gaps, or cuts off.
STEP_PAGES = 256
# Of the bytes that the file and the WAL may have together, the share that is left to the WAL, and to what is written
# until the next deletion; and the most of it.
_WAL_SHARE, _MOST_WAL_BYTES = 8, 128 * 2**20
# Bytes that stay free in the file, or the share of it if that is more: new logs soon need them again.
_FREE_BYTES, _FREE_SHARE = 4 * 2**20, 8
# Seconds of running time after which the clock is written. A crash makes it lose as much, and logs are kept longer.
_CLOCK_SECONDS = 60.0

_STAMP = """
UPDATE runs SET kept_since = ? WHERE number IN (
    SELECT number FROM runs WHERE expired_at IS NULL AND ended_at IS NOT NULL AND kept_since IS NULL LIMIT ?
)
"""
# Order by the clock of the servers' running time, then by number: the machine's clock may jump.
_OLDEST = """
SELECT number, kept_since, log_bytes + coalesce(length(checkpoints.state), 0)
FROM runs JOIN heads USING (number) LEFT JOIN checkpoints USING (number)
WHERE expired_at IS NULL AND ended_at IS NOT NULL AND kept_since IS NOT NULL ORDER BY kept_since, number LIMIT ?
"""
_RECORDS = "SELECT number FROM runs WHERE expired_at IS NOT NULL AND kept_since <= ? LIMIT ?"


class Pruning:
    """The deletions of one journal. `running` is the time for which servers have run on its file, in seconds."""

    def __init__(self, writer: GroupWriter) -> None:
        self._writer = writer
        self._running = self._written = -1.0

    async def expire(self, *, now: float, running: float, keep_seconds: float, most_bytes: int) -> int:
        """As `Journal.expire`. `most_bytes` holds for the file and its WAL together."""
        reserve = min(_MOST_WAL_BYTES, most_bytes // _WAL_SHARE)
        self._writer.bound_wal(reserve)
        await self._tick(running)
        kept_since = self._running - keep_seconds
        drop = partial(_drop_logs, now, self._running, kept_since, most_bytes - reserve)
        shrink = partial(_shrink, most_bytes - reserve)
        await self._repeat(partial(_drop_records, self._running - RECORD_SECONDS), STEP_BYTES)
        total = 0
        while dropped := await self._step(drop, STEP_BYTES):
            total += dropped
            await self._repeat(shrink, 3 * STEP_PAGES * 4096)  # with many free pages, each of them takes longer to find
        await self._repeat(shrink, 3 * STEP_PAGES * 4096)
        return total

    async def close(self) -> None:
        """Write the clock."""
        if self._running > self._written >= 0:
            await self._writer.submit(partial(_set_clock, self._running), urgent=True)

    async def _tick(self, running: float) -> None:
        """Move the clock, and stamp the runs that have ended since."""
        if self._running < 0:
            self._running = self._written = await self._writer.submit(_clock)
        self._running += running
        stamped = await self._repeat(partial(_stamp, self._running), STEP_BYTES)
        if stamped or self._running - self._written >= _CLOCK_SECONDS:
            await self._writer.submit(partial(_set_clock, self._running))
            self._written = self._running

    async def _repeat(self, step: Callable[[sqlite3.Connection], int], size: int) -> int:
        """Repeat a step until it finds nothing to do. Return the sum of its results."""
        total = 0
        while done := await self._step(step, size):
            total += done
        return total

    async def _step(self, step: Callable[[sqlite3.Connection], int], size: int) -> int:
        """Do a step, which changes at most about `size` bytes, and pause if there was something to do.

        It doesn't begin while the WAL is carried over: the thread does that, and appends would wait behind both.
        """
        if self._writer.carrying is not None:
            await asyncio.wait({self._writer.carrying})
        began = monotonic()
        done: int = await self._writer.submit(step, long=True, size=size)
        if done:
            await asyncio.sleep((monotonic() - began) / 2)
        return done


def _clock(db: sqlite3.Connection) -> float:
    running: float = _value(db, "SELECT running FROM clock")
    return running


def _set_clock(running: float, db: sqlite3.Connection) -> None:
    db.execute("UPDATE clock SET running = ?", (running,))


def _stamp(running: float, db: sqlite3.Connection) -> int:
    return db.execute(_STAMP, (running, STEP_RUNS)).rowcount


def _drop_logs(now: float, running: float, kept_since: float, most_bytes: int, db: sqlite3.Connection) -> int:
    """Drop logs that ended before `kept_since`, and the oldest ones while the file's content exceeds `most_bytes`."""
    dropped = size = 0
    for number, ended, log_bytes in db.execute(_OLDEST, (STEP_RUNS,)).fetchall():
        if size >= STEP_BYTES or (ended > kept_since and _used(db) <= most_bytes):
            break
        db.execute("DELETE FROM events WHERE number = ?", (number,))
        db.execute("DELETE FROM checkpoints WHERE number = ?", (number,))
        db.execute("UPDATE heads SET log_events = 0, log_bytes = 0 WHERE number = ?", (number,))
        db.execute(
            "UPDATE runs SET expired_at = ?, kept_since = ?, left_state = NULL WHERE number = ?", (now, running, number)
        )
        dropped, size = dropped + 1, size + log_bytes
    return dropped


def _drop_records(kept_since: float, db: sqlite3.Connection) -> int:
    """Drop the records of runs whose logs expired before then."""
    found = db.execute(_RECORDS, (kept_since, STEP_RUNS)).fetchall()
    for table in ("heads", "runs"):
        db.executemany(f"DELETE FROM {table} WHERE number = ?", found)
    return len(found)


def _shrink(most_bytes: int, db: sqlite3.Connection) -> int:
    """Cut free pages off the file: all beyond `most_bytes`, and what new logs won't soon need. Return how many."""
    size, free = _value(db, "PRAGMA page_count"), _value(db, "PRAGMA freelist_count")
    page: int = _value(db, "PRAGMA page_size")
    spare = max(_FREE_BYTES // page, size // _FREE_SHARE)
    wanted = min(free, max(size - most_bytes // page, free - spare), STEP_PAGES)
    if wanted <= 0:
        return 0
    touch(db)
    for _ in range(wanted):  # SQLite gives a row for each page, without columns, and `sqlite3` asks for the first only
        db.execute("PRAGMA incremental_vacuum(1)")
    return size - _value(db, "PRAGMA page_count")


def _used(db: sqlite3.Connection) -> int:
    pages = _value(db, "PRAGMA page_count") - _value(db, "PRAGMA freelist_count")
    return pages * _value(db, "PRAGMA page_size")


def _value(db: sqlite3.Connection, sql: str) -> Any:
    return db.execute(sql).fetchone()[0]
