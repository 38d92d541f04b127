"""The one thread that writes: what one job can't do harms no other, and the thread outlives it."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.events.errors import JournalError
from server.journal.writer import GroupWriter, Work


@pytest.fixture
async def writer(tmp_path: Path) -> AsyncIterator[GroupWriter]:
    def connect() -> sqlite3.Connection:
        db = sqlite3.connect(tmp_path / "w.db", isolation_level=None)
        db.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER NOT NULL)")
        return db

    opened = GroupWriter(connect)
    yield opened
    await opened.close()


def _add(number: object) -> Work:
    return lambda db: db.execute("INSERT INTO t VALUES (?)", (number,)).rowcount


@pytest.mark.parametrize("poison", [2**63, "\ud800", None, object()])
async def test_what_cannot_be_written_fails_nobody_but_its_writer(writer: GroupWriter, poison: object) -> None:
    """Whatever SQLite raises about it: jobs of the same group are written, and so are those that follow."""
    async with asyncio.timeout(10):
        outcomes = await asyncio.gather(
            *(writer.submit(_add(poison if number == 5 else number)) for number in range(10)), return_exceptions=True
        )
        assert isinstance(outcomes.pop(5), JournalError)
        assert outcomes == [1] * 9
        assert await writer.submit(lambda db: db.execute("SELECT sum(n) FROM t").fetchone()[0]) == 40


async def test_jobs_that_come_soon_after_a_transaction_share_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that wrote each of them at once would do little else than wake up."""
    begun: list[str] = []
    waits, submitted = threading.Event(), threading.Event()

    def wait(seconds: float) -> None:
        if seconds > 0:
            waits.set()
            submitted.wait(10)

    def connect() -> sqlite3.Connection:
        db = sqlite3.connect(tmp_path / "w.db", isolation_level=None)
        db.set_trace_callback(lambda sql: begun.append(sql) if sql.startswith("BEGIN") else None)
        return db

    monkeypatch.setattr("server.journal.writer.sleep", wait)
    writer = GroupWriter(connect, pace=3600)
    await writer.submit(lambda db: None)
    jobs = [asyncio.create_task(writer.submit(lambda db: None))]
    await asyncio.to_thread(waits.wait, 10)
    jobs += [asyncio.create_task(writer.submit(lambda db: None)) for _ in range(20)]
    await asyncio.sleep(0)
    submitted.set()
    await asyncio.wait(jobs)
    await writer.close()
    assert len(begun) == 2
