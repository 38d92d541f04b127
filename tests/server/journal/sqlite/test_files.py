"""A journal's files: their modes, and whether the server notices that they are gone."""

import logging
import os
import shutil
import sqlite3
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest

from askstream.server.events.errors import JournalError
from askstream.server.journal.sqlite import group_writer
from askstream.server.journal.sqlite.journal import SqliteJournal
from tests.conformance.journals import entries, entry, record, update


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "j.db"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[SqliteJournal]:
    opened = SqliteJournal(path)
    await opened.create(record(last_id=1), entries(1, 1))
    yield opened
    await opened.close()


def size(path: Path, part: str = "") -> int:
    return path.with_name(path.name + part).stat().st_size


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_all_files_are_the_servers_alone_whatever_the_umask(path: Path) -> None:
    """The journal, the files of SQLite beside it, and the lock; the folder that was made for them, too."""
    before = os.umask(0)
    try:
        journal = SqliteJournal(path)
        await journal.create(record(last_id=1), entries(1, 1))
        modes = {each.name: mode(each) for each in path.parent.iterdir()}
        await journal.close()
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("j.db", "j.db-wal", "j.db-shm", "j.db.lock"), 0o600)
    assert mode(path.parent) == 0o700


async def test_files_that_are_open_to_others_are_closed_and_the_log_says_so(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Those of an earlier version. Rights are taken away only: a file that its owner can't write stays so."""
    await SqliteJournal(path).close()
    parts = [path, *(path.with_name(f"j.db{part}") for part in ("-wal", "-shm", ".lock"))]
    for part in parts:
        part.touch()
        part.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        journal = SqliteJournal(path)
    assert {mode(part) for part in parts} == {0o600}
    await journal.close()
    assert [str(part) in caplog.text for part in parts] == [True] * 4
    assert caplog.text.count("was open to other users (mode 644); its mode is 600 now") == 4


async def test_after_a_clean_stop_the_file_alone_has_everything(path: Path, tmp_path: Path) -> None:
    """Also after reads, whose connections can't carry the WAL over. A copy of the one file is a backup."""
    journal = SqliteJournal(path)
    await journal.create(record(last_id=1), entries(1, 1))
    for number in range(2, 50):
        await journal.append(update(last_id=number), [entry(number, size=1000)])
    assert len(await journal.read("r", 0)) == 49
    await journal.close()
    assert sorted(each.name for each in path.parent.iterdir()) == ["j.db", "j.db.lock"]
    copy = tmp_path / "copy.db"
    shutil.copy(path, copy)
    again = SqliteJournal(copy)
    assert [each.id for each in await again.read("r", 0)] == list(range(1, 50))
    await again.close()


async def test_a_stop_while_another_program_reads_leaves_all_of_it_in_the_file(path: Path) -> None:
    """The other program keeps the WAL's file; its pages have been carried over nevertheless."""
    journal = SqliteJournal(path)
    await journal.create(record(last_id=1), entries(1, 1))
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT count(*) FROM runs").fetchone() == (1,)
        await journal.close()
        assert size(path, "-wal") == 0


def _move(path: Path, to: Path) -> None:
    path.rename(to)


def _deleted(path: Path) -> None:
    path.unlink()


def _replaced(path: Path) -> None:
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


def _emptied(path: Path) -> None:
    os.truncate(path, 0)


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 4096)


def _folder_deleted(path: Path) -> None:
    shutil.rmtree(path.parent)


@pytest.mark.parametrize("part", ["", "-wal"])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_deleted, "deleted or replaced"),
        (_replaced, "deleted or replaced"),
        (_folder_deleted, "deleted or replaced"),
        (_emptied, "truncated"),
        (_cut, "truncated"),
    ],
)
async def test_files_that_are_gone_are_noticed_and_nothing_more_is_written(
    journal: SqliteJournal, path: Path, part: str, damage: Callable[[Path], None], words: str
) -> None:
    """No run is accepted that no later server would know. Earlier ones can be read."""
    await journal.check()
    damage(path.with_name(path.name + part))
    with pytest.raises(JournalError, match=words):
        await journal.check()
    with pytest.raises(JournalError, match=words):
        await journal.create(record("lost"), [])
    with pytest.raises(JournalError, match=words):
        await journal.append(update(last_id=2), entries(2, 2))


async def test_a_file_that_is_put_back_is_used_again(journal: SqliteJournal, path: Path) -> None:
    """The very same one."""
    _move(path, path.with_name("away"))
    with pytest.raises(JournalError, match="deleted"):
        await journal.check()
    _move(path.with_name("away"), path)
    await journal.check(write=True)
    await journal.append(update(last_id=2), entries(2, 2))


async def test_a_file_that_shrinks_by_itself_is_not_truncated(
    journal: SqliteJournal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own deletions make it smaller, once they are carried over from the WAL."""
    monkeypatch.setattr(group_writer, "WAL_PAGES", 1)
    for number in range(10):
        run = record(f"r{number}", last_id=1)
        await journal.create(run, [entry(1, size=2**20)])
        await journal.append(update(f"r{number}", last_id=2, ended_at=5.0, state="completed"), [entry(2, "completed")])
    await journal.check()
    before = size(path)
    assert await journal.expire(now=1.0, running=1, keep_seconds=0, most_bytes=2**30) == 10
    await journal.check()
    assert size(path) < before / 2


async def test_a_check_that_writes_finds_a_locked_file(
    journal: SqliteJournal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to a probe is what the next run would learn."""
    monkeypatch.setattr("askstream.server.journal.sqlite.group_writer._LOCK_MS", 10)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        await journal.check()
        with pytest.raises(JournalError, match="locked"):
            await journal.check(write=True)
        other.execute("ROLLBACK")
    await journal.check(write=True)


async def test_checks_that_write_add_to_the_wal_and_are_carried_over(
    journal: SqliteJournal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is only found by writing. Nobody else may write for long, and the WAL must not grow for ever."""
    monkeypatch.setattr(group_writer, "WAL_PAGES", 16)
    before = size(path, "-wal")
    await journal.check(write=True)
    assert size(path, "-wal") > before
    for _ in range(100):
        await journal.check(write=True)
    assert size(path, "-wal") < before + 64 * 4120
