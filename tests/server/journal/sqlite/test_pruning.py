"""The journal's bound holds for its files, and keeping it holds nobody up."""

import asyncio
import random
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from askstream.server.journal.sqlite import pruning
from askstream.server.journal.sqlite.journal import SqliteJournal
from tests.conformance.journals import entries, entry, record, update
from tests.timing import MS

MIB = 2**20
_RUN = """
INSERT INTO runs (number, run_id, principal, session_id, question, model, created_at, options, fingerprint, ended_at)
VALUES (?, ?, 'p', ?, 'why?', 'm', 1000, x'7b7d', '', 2000)
"""
_HEAD = "INSERT INTO heads VALUES (?, 1, 'completed', 100, 20, 5, 5, 20, 20000)"
_EVENT = "INSERT INTO events (number, id, event_type, agent_name, line) VALUES (?, ?, 'agent_response', 'A', ?)"


async def filled(path: Path, runs: int) -> SqliteJournal:
    """Return a journal in which so many runs have ended, each with 20 events of 1,000 bytes."""
    await SqliteJournal(path).close()
    chance = random.Random(1)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = OFF")
        for first in range(1, runs + 1, 1000):
            numbers = range(first, min(first + 1000, runs + 1))
            db.execute("BEGIN")
            db.executemany(_RUN, ((n, f"r{n}", chance.randbytes(16).hex()) for n in numbers))
            db.executemany(_HEAD, ((n,) for n in numbers))
            db.executemany(_EVENT, ((n, i, chance.randbytes(1000)) for i in range(1, 21) for n in numbers))
            db.execute("COMMIT")
            db.execute("PRAGMA wal_checkpoint").fetchone()
    return SqliteJournal(path)


async def expire(journal: SqliteJournal, most_bytes: int, *, keep: float = 1e9) -> int:
    return await journal.expire(now=1.0, running=1.0, keep_seconds=keep, most_bytes=most_bytes)


def size(path: Path) -> int:
    return path.stat().st_size


def sizes(path: Path) -> tuple[int, int]:
    return size(path), size(path.with_name(path.name + "-wal"))


async def test_the_bound_holds_for_the_files_and_not_only_for_the_lines(tmp_path: Path) -> None:
    """The oldest logs go, the newest stay, and the file shrinks."""
    path = tmp_path / "j.db"
    journal = await filled(path, 1000)
    before = size(path)
    dropped = await expire(journal, 12 * MIB)
    assert 400 < dropped < 700
    assert [len(await journal.read(f"r{n}", 0)) for n in (1, dropped, dropped + 1, 1000)] == [0, 0, 20, 20]
    await journal.close()
    assert size(path) < 11 * MIB < before / 2
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("PRAGMA freelist_count").fetchone() < (200,)


async def test_deletions_go_in_small_steps_and_appends_between_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An append never waits for more than one step: it is done after that, whatever is left."""
    journal = await filled(tmp_path / "j.db", 500)
    await journal.create(record("live", last_id=1), entries(1, 1))
    monkeypatch.setattr(pruning, "STEP_RUNS", 10)
    monkeypatch.setattr(pruning, "STEP_PAGES", 32)
    steps: list[int] = []
    submit = journal._writer.submit  # pyright: ignore[reportPrivateUsage]

    def submit_and_note(*args: object, **kwargs: object) -> "asyncio.Future[int]":
        done: asyncio.Future[int] = submit(*args, **kwargs)  # type: ignore[arg-type]
        done.add_done_callback(lambda future: steps.append(future.result()))
        return done

    monkeypatch.setattr(journal._writer, "submit", submit_and_note)  # pyright: ignore[reportPrivateUsage]
    expiring = asyncio.ensure_future(expire(journal, MIB, keep=-1))
    waits: list[int] = []
    number = 1
    while not expiring.done():
        number, begun = number + 1, len(steps)
        await journal.append(update("live", last_id=number), entries(number, number))
        waits.append(len(steps) - begun)
    assert await expiring == 500
    assert max(waits) <= 2
    assert len(waits) > 50
    assert max(step for step in steps if step is not None) <= 64
    assert len(steps) > 100
    await journal.close()


async def test_an_idle_journal_writes_nothing(tmp_path: Path) -> None:
    """The deletions look every ten seconds. Their clock is written once a minute, and at the end."""
    path = tmp_path / "j.db"
    journal = await filled(path, 10)
    await expire(journal, 2**30)
    before = sizes(path)
    for _ in range(20):
        await expire(journal, 2**30)
    assert sizes(path) == before
    await journal.close()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT running FROM clock").fetchone() == (21.0,)


async def test_the_time_that_the_server_was_down_does_not_count(tmp_path: Path) -> None:
    """Nor does the machine's clock: a log is as old as its servers have run since."""
    path = tmp_path / "j.db"
    journal = await filled(path, 10)
    assert await journal.expire(now=1.0, running=60, keep_seconds=100, most_bytes=2**30) == 0
    await journal.close()
    journal = SqliteJournal(path)
    assert await journal.expire(now=1e9, running=99, keep_seconds=100, most_bytes=2**30) == 0
    assert await journal.expire(now=1e9, running=1, keep_seconds=100, most_bytes=2**30) == 10
    await journal.close()


@pytest.mark.long
@pytest.mark.serial
async def test_a_hundred_thousand_logs_are_pruned_within_a_minute_and_hold_nobody_up(tmp_path: Path) -> None:
    """Two and a half gigabytes become one, WAL included, which stays below 64 MiB, while a run goes on."""
    path = tmp_path / "j.db"
    journal = await filled(path, 100_000)
    await journal.create(record("live", last_id=1), entries(1, 1))
    began, most_wal, number = time.monotonic(), 0, 1
    waits: list[float] = []
    expiring = asyncio.ensure_future(expire(journal, 2**30))
    while not expiring.done():
        number, asked = number + 1, time.monotonic()
        await journal.append(update("live", last_id=number), [entry(number, size=300)])
        waits.append(time.monotonic() - asked)
        most_wal = max(most_wal, sizes(path)[1])
        await asyncio.sleep(5 * MS)
    took = time.monotonic() - began
    assert await expiring > 50_000
    assert most_wal < 64 * MIB
    assert took < 60_000 * MS
    waits.sort()
    assert waits[len(waits) * 99 // 100] < 100 * MS
    await journal.close()
    assert size(path) < 2**30
