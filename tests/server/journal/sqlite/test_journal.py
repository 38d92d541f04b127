"""Promises of the SQLite journal alone."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from askstream.server.events.errors import JournalError
from askstream.server.journal import open_journal
from askstream.server.journal.sqlite.group_writer import WAL_PAGES
from askstream.server.journal.sqlite.journal import SqliteJournal
from askstream.server.journal.sqlite.tables import VERSION, connect_reader
from tests.conformance.journals import entries, entry, record, update


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder to be made" / "j ?#%.db"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[SqliteJournal]:
    opened = SqliteJournal(path)
    yield opened
    await opened.close()


async def test_appended_events_survive_the_process(path: Path) -> None:
    """An append that was acknowledged survives kill -9."""
    script = f"""
import asyncio, os
from pathlib import Path
from askstream.server.journal.sqlite.journal import SqliteJournal
from tests.conformance.journals import entries, update, record
async def main():
    journal = SqliteJournal(Path({str(path)!r}))
    await journal.create(record(last_id=1), entries(1, 1))
    await journal.append(update(last_id=3), entries(2, 3), checkpoint=b"c")
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""
    killed = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", script], cwd=Path(__file__).parents[4])
    assert killed.returncode == -9
    journal = SqliteJournal(path)
    assert await journal.read("r", 0) == entries(1, 3)
    assert await journal.record("r") == record(last_id=3)
    await journal.close()


async def test_a_second_server_on_the_same_file_is_kept_out(journal: SqliteJournal, path: Path) -> None:
    """Two writing connections could corrupt the file."""
    with pytest.raises(JournalError, match="another server"):
        SqliteJournal(path)


def test_a_folder_that_cannot_be_written_is_refused_with_advice(tmp_path: Path) -> None:
    """The folder is a file here, since root could write to a folder without permissions."""
    (tmp_path / "data").touch()
    with pytest.raises(JournalError, match=r"can't write to the data folder '.*data': .*ASKSTREAM_DATA"):
        SqliteJournal(tmp_path / "data" / "askstream.db")


async def test_many_runs_share_a_commit(journal: SqliteJournal, path: Path) -> None:
    """Appends that arrive together are written together: far fewer commits than appends."""
    await asyncio.gather(*(journal.create(record(f"r{n}", last_id=1), entries(1, 1)) for n in range(300)))
    before = _commits(path)
    await asyncio.gather(*(journal.append(update(f"r{n}", last_id=2), entries(2, 2)) for n in range(300)))
    assert _commits(path) - before < 30


def _commits(path: Path) -> int:
    """Count the commits to the file: WAL frames that end a transaction."""
    wal = path.with_name(path.name + "-wal").read_bytes()
    page = int.from_bytes(wal[8:12], "big")
    frames = range(32, len(wal), 24 + page)
    return sum(int.from_bytes(wal[at + 4 : at + 8], "big") > 0 for at in frames)


async def test_one_bad_append_does_not_spoil_the_group(journal: SqliteJournal) -> None:
    """A refusal in a shared transaction affects no other append."""
    await journal.create(record("good", last_id=1), entries(1, 1))
    results = await asyncio.gather(
        journal.append(update("unknown", last_id=2), entries(2, 2)),
        journal.append(update("good", last_id=2), entries(2, 2)),
        return_exceptions=True,
    )
    assert isinstance(results[0], JournalError)
    assert results[1] is None
    assert await journal.read("good", 0) == entries(1, 2)


async def test_readers_cannot_write(journal: SqliteJournal, path: Path) -> None:
    """They are opened read-only."""

    db = connect_reader(path)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        db.execute("DELETE FROM runs")
    db.close()


@pytest.mark.parametrize(("version", "age"), [(VERSION + 1, "later"), (2, "earlier")])
async def test_a_file_of_another_version_is_refused(path: Path, version: int, age: str) -> None:
    """The file isn't changed."""
    await SqliteJournal(path).close()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"PRAGMA user_version = {version}")
    db.close()
    with pytest.raises(JournalError, match=age):
        SqliteJournal(path)


def test_a_file_that_is_no_database_is_refused_at_once(path: Path) -> None:
    """The refusal comes at the start, not at the first question, and releases the lock."""
    path.parent.mkdir()
    path.write_bytes(b"this is no database, but it is long enough to look like one" * 99)
    for _ in range(2):
        with pytest.raises(JournalError, match="not a database"):
            SqliteJournal(path)


async def test_a_failing_disk_is_reported_to_every_waiter_and_overcome(journal: SqliteJournal, path: Path) -> None:
    """A lock of another connection stands for the disk: one group fails, the next one succeeds."""
    await journal.create(record(last_id=1), entries(1, 1))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(JournalError, match="could not be written"):
        await journal.append(update(last_id=2), entries(2, 2))
    other.execute("ROLLBACK")
    other.close()
    await journal.append(update(last_id=2), entries(2, 2))
    assert await journal.read("r", 0) == entries(1, 2)


async def test_after_closing_a_write_is_refused(path: Path) -> None:
    """Writes that were accepted earlier are there."""
    journal = SqliteJournal(path)
    writing = asyncio.ensure_future(journal.create(record(last_id=1), entries(1, 1)))
    await asyncio.sleep(0)
    await journal.close()
    assert (await writing).run_id == "r"
    with pytest.raises(JournalError, match="closed"):
        await journal.append(update(last_id=2), entries(2, 2))


@pytest.mark.parametrize("url", ["redis://x", "sqlite://", "nonsense", ""])
def test_a_url_that_names_no_journal_is_an_error(url: str) -> None:
    """The error says what was expected."""
    with pytest.raises(ValueError, match="expected"):
        open_journal(url)


def test_synchronous_is_one_of_sqlites(tmp_path: Path) -> None:
    """Any other text would become SQL."""
    with pytest.raises(ValueError, match="synchronous"):
        open_journal(f"sqlite:///{tmp_path}/x.db", synchronous="off; DROP TABLE runs")


async def test_few_large_appends_are_carried_over_like_many_small_ones(journal: SqliteJournal, path: Path) -> None:
    """The bound counts bytes, not appends."""
    await journal.create(record(), [])
    for number in range(1, 41):
        await journal.append(update(last_id=number), [entry(number, size=2**20)])
    assert path.with_name(f"{path.name}-wal").stat().st_size <= WAL_PAGES * 4096 * 1.2


async def test_a_damaged_text_does_not_hide_other_runs(tmp_path: Path) -> None:
    """Text that isn't UTF-8 is read with replacement characters, and its run can be claimed."""
    path = tmp_path / "journal.db"
    journal = SqliteJournal(path)
    for name in ("whole", "broken"):
        await journal.create(record(name, last_id=1), entries(1, 1))
    await journal.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE runs SET question = CAST(x'41ff' AS TEXT) WHERE run_id = 'broken'")
        db.execute("UPDATE events SET agent_name = CAST(x'ff' AS TEXT) WHERE number = 2")
    journal = SqliteJournal(path)
    assert {each.run_id: each.question for each in await journal.unfinished()} == {"whole": "q", "broken": "A\ufffd"}
    claimed = await journal.claim("broken")
    assert claimed is not None
    assert claimed.attempt == 2
    assert {entry.agent_name for entry in await journal.read("broken", 0)} == {"\ufffd"}
    await journal.close()
