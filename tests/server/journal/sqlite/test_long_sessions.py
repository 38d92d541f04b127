"""A session with ten thousand runs is as quick as a new one. SQLite's instructions are counted, not seconds."""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from askstream.server.journal import ListPosition, RunRecord
from askstream.server.journal.memory import MemoryJournal
from askstream.server.journal.sqlite.appends import Append, write_appends
from askstream.server.journal.sqlite.journal import SqliteJournal
from askstream.server.journal.sqlite.tables import connect_writer, insert_record
from askstream.server.runs.history import EXCHANGES, SEARCHED, earlier
from tests.conformance.journals import entry, record

LONG, SHORT = 10_000, 60
TICK = 10  # instructions


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A journal with a long session and a short one, whose runs have ended. Each has left a checkpoint."""
    opened = connect_writer(tmp_path / "j.db", "off")
    opened.execute("BEGIN")
    for session, runs in (("long", LONG), ("short", SHORT)):
        for number in range(runs):
            each = record(f"{session}{number}", session_id=session, state="completed", ended_at=5.0)
            insert_record(opened, each)
        _end(opened, session, runs - 1)
    opened.execute("COMMIT")
    yield opened
    opened.close()


def _end(db: sqlite3.Connection, session: str, number: int) -> None:
    run = replace(record(f"{session}{number}", session_id=session, last_id=1, state="completed"), ended_at=5.0)
    write_appends(db, [Append(run.update, [entry(1, "completed")], b"state")])


def cost(db: sqlite3.Connection, work: Callable[[], object]) -> int:
    """SQLite's instructions for some work."""
    ticks = 0

    def tick() -> int:
        nonlocal ticks
        ticks += 1
        return 0

    db.set_progress_handler(tick, TICK)
    work()
    db.set_progress_handler(None, TICK)
    return ticks * TICK


def test_the_end_of_a_run_costs_the_same_in_a_long_session(db: sqlite3.Connection) -> None:
    """It looks for the one earlier run that has left a checkpoint, and not through all of them."""
    costs: list[int] = []
    for session, runs in (("short", SHORT), ("long", LONG)):
        insert_record(db, record(f"{session}{runs}", session_id=session))
        costs.append(cost(db, lambda session=session, runs=runs: _end(db, session, runs)))
    assert 0 < costs[1] < 1.5 * costs[0]
    assert db.execute("SELECT count(*) FROM checkpoints").fetchone() == (2,)


async def test_a_page_costs_the_same_in_a_long_session(
    db: sqlite3.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first page, and one in the middle."""
    journal = SqliteJournal(tmp_path / "j.db")
    costs: list[int] = []
    read_with = journal._read_with  # pyright: ignore[reportPrivateUsage]

    def read_and_count(query: Callable[[sqlite3.Connection], object]) -> object:
        return read_with(lambda db: costs.append(cost(db, lambda: found.append(query(db)))) or found.pop())

    found: list[object] = []
    monkeypatch.setattr(journal, "_read_with", read_and_count)
    newest: list[list[RunRecord]] = []
    for session, middle in (("short", 55), ("long", 5000)):
        newest.append(await journal.session("p", session, limit=50))
        newest.append(await journal.session("p", session, before=ListPosition(1000.0, f"{session}{middle}"), limit=50))
    assert [page[0].run_id for page in newest] == ["short59", "short54", "long9999", "long4999"]
    assert max(costs) < 1.5 * min(costs)
    await journal.close()


@pytest.mark.parametrize(("state", "most"), [("completed", EXCHANGES), ("failed", SEARCHED)])
async def test_a_question_reads_little_of_a_long_session(state: str, most: int) -> None:
    """The last completed runs, and not those that failed beyond a bound."""
    journal, read = MemoryJournal(), list[RunRecord]()
    session = journal.session

    async def session_and_note(*args: str, **kwargs: object) -> list[RunRecord]:
        page = await session(*args, **kwargs)
        read.extend(page)
        return page

    journal.session = session_and_note
    for number in range(1000):
        await journal.create(record(f"r{number}", state=state, ended_at=5.0), [])
    new = record("new")
    await journal.create(new, [])
    await earlier(journal, new)
    assert len(read) == most
    assert read[0].run_id == "r999"
