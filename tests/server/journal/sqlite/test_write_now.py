"""Appends that are written within one call, while other jobs are pending."""

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from askstream.server.journal import Append
from askstream.server.journal.notifier import AppendNotifier
from askstream.server.journal.sqlite import group_writer as writers
from askstream.server.journal.sqlite.group_writer import GroupWriter
from askstream.server.journal.sqlite.tables import connect_writer, insert_record
from tests.conformance.journals import entries, record, update
from tests.timing import PATIENCE

_nobody = AppendNotifier()  # nobody watches a run of these journals


async def test_a_transaction_that_is_due_waits_until_the_thread_gives_the_connection_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of a burst fills the WAL again while it is carried over: the thread then does it on this connection."""
    release, lent = threading.Event(), list[bool]()

    def carry_over(db: sqlite3.Connection) -> int:
        release.wait(PATIENCE)
        if db is connection:
            lent.append(job.done())
        return 0

    monkeypatch.setattr(writers, "STALL_SECONDS", 3600)  # however busy this machine is
    monkeypatch.setattr(writers, "WAL_PAGES", 1)
    monkeypatch.setattr(writers, "_checkpoint_wal", carry_over)
    connection = connect_writer(tmp_path / "j.db", "normal")
    writer = GroupWriter(connection, _nobody, commit_seconds=0)
    await writer.submit(lambda db: insert_record(db, record()))
    job = writer.submit(lambda db: db.total_changes)
    assert writer.write_now([Append(update(last_id=1), entries(1, 1), None)]) == [None]
    for _ in range(5):
        await asyncio.sleep(0)
    assert not job.done()
    release.set()
    async with asyncio.timeout(PATIENCE):
        assert await job > 0
        await writer.close()
    assert lent[0] is False


async def test_nothing_is_written_at_once_while_the_thread_has_the_connection(
    tmp_path: Path,
) -> None:
    """Nor after the close, nor if it is too much for the event loop: its caller appends as usual."""
    writer, release = GroupWriter(connect_writer(tmp_path / "j.db", "normal"), _nobody), threading.Event()
    large = Append(update(), [], b"c" * (writers.QUICK_BYTES + 1))
    assert writer.write_now([large]) is None
    toil = writer.submit(lambda _: release.wait(PATIENCE), long=True)
    await asyncio.sleep(0)
    assert writer.write_now([Append(update(), [], None)]) is None
    release.set()
    assert await toil
    await writer.close()
    assert writer.write_now([Append(update(), [], None)]) is None
