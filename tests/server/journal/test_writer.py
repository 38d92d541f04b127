"""The one thread that writes: what one job can't do harms no other, and the thread outlives it."""

import asyncio
import sqlite3
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
