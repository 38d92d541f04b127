"""Many runs' appends at once: their counted cost, and the effect of one refusal on the others."""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from askstream.server.events.errors import Fenced, JournalError, OutOfOrder
from askstream.server.journal.base import Append, RunRecord
from askstream.server.journal.sqlite.appends import GroupRefused, write_appends
from askstream.server.journal.sqlite.journal import SqliteJournal
from askstream.server.journal.sqlite.tables import connect_writer, insert_record
from tests.conformance.journals import entries, record, update

RUNS = 200


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """The tables, with RUNS runs that have no events yet; a test's writes are rolled back."""
    opened = connect_writer(tmp_path / "a.db", "normal")
    opened.execute("BEGIN IMMEDIATE")
    for number in range(RUNS):
        insert_record(opened, record(f"r{number}"))
    yield opened
    opened.close()


def _append(number: int, event_id: int, *, attempt: int = 1) -> Append:
    to = record(f"r{number}", last_id=event_id, attempt=attempt)
    return Append(to.update, entries(event_id, event_id), None)


def test_an_append_updates_a_head_and_adds_its_events_and_does_nothing_else(db: sqlite3.Connection) -> None:
    """Two statements for a run, prepared once for all runs. The run's own row, with its indexes, isn't touched."""
    statements: list[str] = []
    db.set_trace_callback(statements.append)
    write_appends(db, [_append(number, 1) for number in range(RUNS)])
    db.set_trace_callback(None)
    assert Counter(" ".join(each.split()[:3]) for each in statements) == {
        "UPDATE heads SET": RUNS,
        "INSERT INTO events": RUNS,
    }


async def test_a_commit_of_many_runs_writes_few_pages(tmp_path: Path) -> None:
    """Fewer than runs: their events go to the end of one table, and their heads lie side by side."""
    journal, wal = SqliteJournal(tmp_path / "j.db"), tmp_path / "j.db-wal"
    await asyncio.gather(*(journal.create(record(f"r{n}", last_id=1), entries(1, 1)) for n in range(RUNS)))
    before = 0
    for event_id in range(2, 12):
        before = wal.stat().st_size
        await asyncio.gather(*(_write(journal, f"r{n}", event_id) for n in range(RUNS)))
    pages = (wal.stat().st_size - before) / 4096
    await journal.close()
    assert pages < RUNS * 0.6


async def _write(journal: SqliteJournal, run_id: str, event_id: int) -> None:
    await journal.append(update(run_id, last_id=event_id), entries(event_id, event_id, size=300))


@pytest.mark.parametrize(
    ("bad", "refusal"), [(_append(7, 1, attempt=2), Fenced), (_append(7, 3), OutOfOrder), (_append(RUNS, 1), Fenced)]
)
async def test_a_refused_append_leaves_nothing_and_harms_no_other(
    tmp_path: Path, bad: Append, refusal: type[Exception]
) -> None:
    """The good ones of its group are written once and whole."""
    journal = SqliteJournal(tmp_path / "j.db")
    await asyncio.gather(*(journal.create(record(f"r{n}"), []) for n in range(RUNS)))
    group = [_append(n, 1) for n in range(RUNS) if n != 7]
    group.insert(50, bad)
    results = await asyncio.gather(*(journal.append(a.update, a.entries) for a in group), return_exceptions=True)
    assert isinstance(results.pop(50), refusal)
    assert results == [None] * (RUNS - 1)
    for number in range(RUNS):
        there = entries(1, 1) if number != 7 else []
        assert await journal.read(f"r{number}", 0) == there
        assert await journal.record(f"r{number}") == record(f"r{number}", last_id=len(there))
    await journal.close()


async def test_events_record_and_checkpoint_are_written_as_one(tmp_path: Path) -> None:
    """An append whose second event can't be stored leaves neither the first nor its record nor its checkpoint."""
    journal = SqliteJournal(tmp_path / "j.db")
    await asyncio.gather(*(journal.create(record(f"r{n}"), []) for n in range(3)))
    bad = [*entries(1, 1), entries(2, 2)[0]._replace(agent_name="\ud800")]
    results = await asyncio.gather(
        _write(journal, "r0", 1),
        journal.append(update("r1", last_id=2), bad, checkpoint=b"c"),
        _write(journal, "r2", 1),
        return_exceptions=True,
    )
    assert [type(each) for each in results] == [type(None), JournalError, type(None)]
    assert await journal.record("r1") == record("r1")
    assert await journal.read("r1", 0) == []
    assert await journal.checkpoint("r1") is None
    assert await journal.record("r2") == record("r2", last_id=1)
    await journal.close()


def test_one_refusal_among_several_is_found_by_writing_each_alone(db: sqlite3.Connection) -> None:
    """No event has been written before it."""
    with pytest.raises(GroupRefused):
        write_appends(db, [_append(1, 1), _append(2, 2)])
    assert db.execute("SELECT count(*) FROM events").fetchone() == (0,)


def test_appends_of_one_run_in_one_group_follow_one_another(db: sqlite3.Connection) -> None:
    """Each must follow the one before it."""
    write_appends(db, [_append(3, 1), _append(4, 1), _append(3, 2)])
    assert db.execute("SELECT id FROM events ORDER BY place").fetchall() == [(1,), (1,), (2,)]
    with pytest.raises(GroupRefused):
        write_appends(db, [_append(3, 4), _append(3, 3)])


async def test_a_forgotten_runs_number_is_not_given_to_another(tmp_path: Path) -> None:
    """A run with the same id gets nothing that the forgotten one left."""
    journal = SqliteJournal(tmp_path / "j.db")
    await journal.create(record("a"), [])
    await journal.append(_ended("a").update, entries(1, 1), checkpoint=b"c")
    assert await journal.checkpoint("a") is not None
    assert await journal.forget("a")
    await journal.create(record("a"), [])
    assert await journal.read("a", 0) == []
    assert await journal.checkpoint("a") is None
    await journal.close()
    with closing(sqlite3.connect(tmp_path / "j.db")) as db, db:
        assert db.execute("SELECT number FROM runs").fetchall() == [(2,)]
        assert db.execute("SELECT count(*) FROM heads").fetchone() == (1,)
    db.close()


async def test_a_session_has_one_state(tmp_path: Path) -> None:
    """Only its last run's state is kept. A long conversation would otherwise hold one for each question."""
    journal = SqliteJournal(tmp_path / "j.db")
    for number, run_id in enumerate("abc"):
        await journal.create(record(run_id, session_id="s" if run_id != "c" else "t"), [])
        done = replace(_ended(run_id), ended_at=float(number))
        await journal.append(done.update, entries(1, 1), checkpoint=bytes(1000))
    found = [await journal.checkpoint(run_id) is not None for run_id in "abc"]
    assert found == [False, True, True]
    await journal.close()


def _ended(run_id: str) -> RunRecord:
    return record(run_id, last_id=1, state="completed", ended_at=5.0)
