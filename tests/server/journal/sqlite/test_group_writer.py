"""The one connection that writes: its thread, its transactions, and jobs that can't harm others."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from askstream.server.events.errors import JournalError
from askstream.server.journal import Append
from askstream.server.journal.notifier import AppendNotifier
from askstream.server.journal.sqlite import group_writer as writers
from askstream.server.journal.sqlite.group_writer import GroupWriter, Work
from askstream.server.scheduling import SKIPPED_WRITES
from tests.conformance.journals import entries, update
from tests.timing import MS, PATIENCE


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Callable[[], sqlite3.Connection]]:
    """Open connections to one file. All are closed after the test, also those that no writer has closed."""
    opened: list[sqlite3.Connection] = []

    def connected() -> sqlite3.Connection:
        db = sqlite3.connect(tmp_path / "w.db", isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER NOT NULL)")
        opened.append(db)
        return db

    yield connected
    for db in opened:
        db.close()


@pytest.fixture
async def writer(connect: Callable[[], sqlite3.Connection]) -> AsyncIterator[GroupWriter]:
    opened = GroupWriter(connect(), _nobody)
    yield opened
    await opened.close()


_nobody = AppendNotifier()  # nobody watches a run of these journals


def _add(number: object) -> Work:
    return lambda db: db.execute("INSERT INTO t VALUES (?)", (number,)).rowcount


def _sum(db: sqlite3.Connection) -> int:
    total: int = db.execute("SELECT coalesce(sum(n), 0) FROM t").fetchone()[0]
    return total


def _thread(_: sqlite3.Connection) -> threading.Thread:
    return threading.current_thread()


@pytest.mark.parametrize("long", [False, True], ids=["at once", "on the thread"])
@pytest.mark.parametrize("poison", [2**63, "\ud800", None, object()])
async def test_a_job_that_cannot_be_written_fails_alone(writer: GroupWriter, poison: object, *, long: bool) -> None:
    """Jobs of the same group are written, and so are later ones, whatever SQLite raises."""
    async with asyncio.timeout(PATIENCE):
        outcomes = await asyncio.gather(
            *(writer.submit(_add(poison if number == 5 else number), long=long) for number in range(10)),
            return_exceptions=True,
        )
        assert isinstance(outcomes.pop(5), JournalError)
        assert outcomes == [1] * 9
        assert await writer.submit(_sum) == 40


@pytest.mark.serial
async def test_jobs_that_come_one_by_one_seldom_wait(connect: Callable[[], sqlite3.Connection]) -> None:
    """No other job comes while one waits, so waiting gains nothing. As soon as one comes, jobs wait again."""
    writer = GroupWriter(connect(), _nobody, commit_seconds=300 * MS)

    async def waits(events: int = 1) -> bool:
        job = writer.append(update(), entries(1, events))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        at_once = job.done()
        with pytest.raises(JournalError):  # there are no tables
            await job
        return not at_once

    async with asyncio.timeout(PATIENCE):
        assert [await waits() for _ in range(2)] == [False, True]
        assert not any([await waits() for _ in range(SKIPPED_WRITES)])
        assert [await waits(events=2), await waits(), await waits()] == [True, True, False]
        assert [await waits(events=2), await waits()] == [True, True]
    await writer.close()


@pytest.mark.serial
async def test_an_urgent_job_is_written_at_once(connect: Callable[[], sqlite3.Connection]) -> None:
    """Jobs that already wait share its transaction, and none follows at the time that was due."""
    db, begun = connect(), list[str]()
    db.set_trace_callback(lambda sql: begun.append(sql) if sql.startswith("BEGIN") else None)
    writer = GroupWriter(db, _nobody, commit_seconds=200 * MS)
    async with asyncio.timeout(PATIENCE):
        await writer.submit(_add(1))
        waiting = writer.submit(_add(1))
        await asyncio.sleep(0)
        assert not waiting.done()
        hurried = writer.submit(_sum, urgent=True)
        for _ in range(2):
            await asyncio.sleep(0)
        assert waiting.done()
        assert hurried.result() == 2
        await asyncio.sleep(400 * MS)
        assert len(begun) == 2
        jobs = [writer.submit(_add(1)), writer.submit(_add(1))]
        await jobs[0]
        later = writer.submit(_add(1))
        for _ in range(2):
            await asyncio.sleep(0)
        assert not later.done()  # no job is urgent any more
        await writer.close()


async def test_urgent_jobs_do_not_delay_each_other(connect: Callable[[], sqlite3.Connection]) -> None:
    """One comes in each iteration of the loop, before the transaction of the last iteration has begun."""
    writer = GroupWriter(connect(), _nobody, commit_seconds=3600)
    loop, turns = asyncio.get_running_loop(), 0

    def hurry() -> None:
        nonlocal turns
        turns += 1
        if not first.done() and turns < 100:
            loop.call_soon(hurry)
            writer.submit(_add(1), urgent=True)

    loop.call_soon(hurry)
    first = writer.submit(_add(1), urgent=True)
    async with asyncio.timeout(PATIENCE):
        await first
        assert turns < 5
        await writer.close()


@pytest.mark.serial
async def test_checkpoints_that_share_a_transaction_were_worth_the_wait(
    connect: Callable[[], sqlite3.Connection],
) -> None:
    """They count although they have no event."""
    writer = GroupWriter(connect(), _nobody, commit_seconds=300 * MS)

    def save() -> "asyncio.Future[None]":
        return writer.append(update(), [], checkpoint=b"c")

    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(save(), return_exceptions=True)
        await asyncio.gather(save(), save(), return_exceptions=True)
        last = save()
        for _ in range(2):
            await asyncio.sleep(0)
        assert not last.done()
        await asyncio.gather(last, writer.close(), return_exceptions=True)


@pytest.mark.parametrize("before", ["nothing", "long work", "more than a group"])
async def test_closing_waits_for_no_more_jobs(connect: Callable[[], sqlite3.Connection], before: str) -> None:
    """No job can join the last transaction, whatever came before it."""
    writer = GroupWriter(connect(), _nobody, commit_seconds=3600)
    async with asyncio.timeout(PATIENCE):
        await writer.submit(_add(1))
        match before:
            case "long work":
                writer.submit(_thread, long=True)
                waiting = [writer.submit(_add(1), urgent=True)]
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                waiting.append(writer.submit(_add(1)))
            case "more than a group":
                waiting = [writer.submit(_add(1)) for _ in range(writers.QUICK_JOBS + 1)]
            case _:
                waiting = []
        await writer.close()
    assert [job.result() for job in waiting] == [1] * len(waiting)


@pytest.mark.parametrize(
    ("slow", "size"), [(3600, writers.QUICK_JOBS), (-1.0, writers.GROUP_JOBS)], ids=["quick disk", "slow"]
)
async def test_a_full_group_does_not_wait(
    connect: Callable[[], sqlite3.Connection], monkeypatch: pytest.MonkeyPatch, slow: float, size: int
) -> None:
    """No job can join it. The remaining jobs are a group of their own. The disk's speed decides the size of a group,
    so the test decides the disk's speed."""
    monkeypatch.setattr(writers, "STALL_SECONDS", slow)
    db, begun = connect(), list[str]()
    db.set_trace_callback(lambda sql: begun.append(sql) if sql.startswith("BEGIN") else None)
    writer = GroupWriter(db, _nobody, commit_seconds=3600)
    async with asyncio.timeout(PATIENCE):
        for _ in range(2):  # after two stalls in a row the disk counts as slow
            await writer.submit(_add(1), urgent=True)
        begun.clear()
        jobs = [writer.submit(_add(1)) for _ in range(2 * size + 1)]
        await asyncio.gather(*jobs[:-1])
        for _ in range(5):
            await asyncio.sleep(0)
        assert not jobs[-1].done()
        assert len(begun) == 2
        await writer.close()


@pytest.mark.serial
async def test_jobs_that_come_soon_after_a_transaction_share_the_next(
    connect: Callable[[], sqlite3.Connection],
) -> None:
    """A transaction for each of them would cost many times as much."""
    db, begun = connect(), list[str]()
    db.set_trace_callback(lambda sql: begun.append(sql) if sql.startswith("BEGIN") else None)
    writer = GroupWriter(db, _nobody, commit_seconds=500 * MS)
    async with asyncio.timeout(PATIENCE):
        await writer.submit(_add(1))
        jobs = [writer.submit(_add(1)) for _ in range(20)]
        await asyncio.sleep(0)  # a writer that didn't wait would begin now
        jobs += [writer.submit(_add(1)) for _ in range(20)]
        await asyncio.gather(*jobs)
    assert len(begun) == 2
    await writer.close()


async def test_the_event_loop_writes_a_small_group_itself(writer: GroupWriter) -> None:
    """To wake a thread and to be woken by it costs many times SQLite's work."""
    assert await writer.submit(_thread) is threading.current_thread()


@pytest.mark.parametrize("waits", [False, True])
async def test_long_jobs_delay_only_long_jobs(
    connect: Callable[[], sqlite3.Connection], monkeypatch: pytest.MonkeyPatch, *, waits: bool
) -> None:
    """The event loop runs while the thread works over a log or waits for the disk; later jobs are written after it."""
    monkeypatch.setattr(writers, "STALL_SECONDS", 3600)  # however busy this machine is
    writer, release, begun = GroupWriter(connect(), _nobody, waits_for_disk=waits), threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def work(_: sqlite3.Connection) -> bool:
        loop.call_soon_threadsafe(begun.set)
        return release.wait(PATIENCE)

    async with asyncio.timeout(PATIENCE):
        toil = writer.submit(work, long=not waits)
        await begun.wait()
        meanwhile = writer.submit(_add(7))
        await asyncio.sleep(0)
        assert not toil.done()
        assert not meanwhile.done()
        release.set()
        assert await toil
        assert await meanwhile == 1
        assert (await writer.submit(_thread) is threading.current_thread()) is not waits
    await writer.close()


async def test_many_jobs_at_once_are_written_in_small_groups(
    connect: Callable[[], sqlite3.Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They come with a rush of questions, with which the loop is busy: a thread would wait for the interpreter at each
    statement. Between the groups the loop runs."""
    monkeypatch.setattr(writers, "STALL_SECONDS", 3600)  # however busy this machine is
    db, begun = connect(), list[int]()
    turns = 0
    db.set_trace_callback(lambda sql: begun.append(turns) if sql.startswith("BEGIN") else None)
    writer = GroupWriter(db, _nobody, commit_seconds=0)
    jobs = [writer.submit(_thread) for _ in range(2 * writers.QUICK_JOBS + 1)]
    while not all(job.done() for job in jobs):
        await asyncio.sleep(0)
        turns += 1
    assert {job.result() for job in jobs} == {threading.current_thread()}
    assert len(set(begun)) == 3
    await writer.close()


async def test_the_thread_writes_as_long_as_the_disk_is_slow(
    writer: GroupWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After two stalls in a row the event loop no longer commits itself. A single one may be the machine's."""
    monkeypatch.setattr(writers, "STALL_SECONDS", -1.0)
    await writer.submit(_add(1))
    assert await writer.submit(_thread) is threading.current_thread()
    monkeypatch.setattr(writers, "STALL_SECONDS", 3600)
    assert await writer.submit(_thread) is not threading.current_thread()
    assert await writer.submit(_thread) is threading.current_thread()


async def test_the_thread_and_not_the_event_loop_waits_for_another_programs_lock(
    connect: Callable[[], sqlite3.Connection],
) -> None:
    """Another program locks the file: the loop runs, and the job is done when the lock is released."""
    db, other, loop = connect(), connect(), asyncio.get_running_loop()
    tried, waits = 0, asyncio.Event()

    def begins(sql: str) -> None:
        nonlocal tried
        tried += sql.startswith("BEGIN")
        if tried == 2:  # the loop's own attempt was the first
            loop.call_soon_threadsafe(waits.set)

    db.set_trace_callback(begins)
    writer = GroupWriter(db, _nobody)
    other.execute("BEGIN IMMEDIATE")
    async with asyncio.timeout(PATIENCE):
        job = writer.submit(_add(3))
        await waits.wait()
        assert not job.done()
        other.execute("COMMIT")
        assert await job == 1
    other.close()
    await writer.close()


async def test_the_thread_writes_large_appends(writer: GroupWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte costs milliseconds, be it of one event, of many, or of a checkpoint."""
    threads: list[threading.Thread] = []

    def write(_db: sqlite3.Connection, _appends: Sequence[Append]) -> None:
        threads.append(threading.current_thread())

    monkeypatch.setattr(writers, "write_appends", write)
    for size in (10, writers.QUICK_BYTES + 1):
        await writer.append(update(), entries(1, 1, size=size))
    await writer.append(update(), entries(1, 4, size=writers.QUICK_BYTES // 3))
    await writer.append(update(), [], checkpoint=b"c" * (writers.QUICK_BYTES + 1))
    assert [thread is threading.current_thread() for thread in threads] == [True, False, False, False]


async def test_the_wal_is_carried_over_to_the_file_before_it_outgrows_its_bound(
    writer: GroupWriter, connect: Callable[[], sqlite3.Connection], tmp_path: Path
) -> None:
    """The thread does it, since it waits for the disk. SQLite doesn't: autocheckpoint is off."""
    size = 4096 * writers.WAL_PAGES
    db = connect()
    async with asyncio.timeout(PATIENCE):
        while (tmp_path / "w.db").stat().st_size <= 8192:
            await asyncio.gather(*(writer.submit(_add(1)) for _ in range(100)))
            assert (tmp_path / "w.db-wal").stat().st_size <= size * 1.1
    assert _sum(db) > 0
    db.close()


async def test_the_event_loop_writes_while_the_wal_is_carried_over(
    writer: GroupWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It costs two fsyncs, some 20 ms, ten times a second under load: viewers must not wait for that."""
    release, begun, loop = threading.Event(), asyncio.Event(), asyncio.get_running_loop()

    def carry_over(_db: sqlite3.Connection) -> int:
        loop.call_soon_threadsafe(begun.set)
        release.wait(PATIENCE)
        return 0

    monkeypatch.setattr(writers, "WAL_PAGES", 1)
    monkeypatch.setattr(writers, "_checkpoint_wal", carry_over)
    async with asyncio.timeout(PATIENCE):
        await writer.submit(_add(1))
        await begun.wait()
        assert await writer.submit(_add(2)) == 1
    release.set()


async def test_the_wal_is_carried_over_only_after_a_commit(
    writer: GroupWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice without one, while the event loop writes, could corrupt the file in SQLite before 3.51.3."""
    carried: list[sqlite3.Connection] = []

    def carry_over(db: sqlite3.Connection) -> int:
        carried.append(db)
        return 0

    monkeypatch.setattr(writers, "WAL_PAGES", 1)
    monkeypatch.setattr(writers, "_checkpoint_wal", carry_over)
    for _ in range(3):
        await writer.submit(lambda _: None)
    assert not carried
    await writer.submit(_add(1))
    await writer.close()
    assert len(carried) == 1


@pytest.mark.parametrize("is_rushed", [False, True])
async def test_the_wal_starts_anew_however_much_is_written_while_it_is_carried_over(
    connect: Callable[[], sqlite3.Connection], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_rushed: bool
) -> None:
    """Each time the thread leaves later pages behind. The WAL would otherwise grow for ever."""
    monkeypatch.setattr(writers, "STALL_SECONDS", 3600)  # however busy this machine is
    monkeypatch.setattr(writers, "WAL_PAGES", 64)
    first, other, reader = connect(), connect(), connect()

    def carry_over(db: sqlite3.Connection) -> int:
        if db is not first:
            reader.execute("BEGIN")
            reader.execute("SELECT n FROM t").fetchone()  # no later page is carried over
            other.execute("INSERT INTO t VALUES (0)")
        pages: int = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
        if db is not first:
            reader.execute("COMMIT")
        return pages

    monkeypatch.setattr(writers, "_checkpoint_wal", carry_over)
    writer = GroupWriter(first, _nobody, commit_seconds=0)
    for _ in range(1000):
        await writer.submit(_add(1))
        if writer.carrying is not None and not is_rushed:
            await asyncio.wait({writer.carrying})
    assert (tmp_path / "w.db-wal").stat().st_size < 4096 * 128 * 2
    await writer.close()


async def test_submitted_jobs_are_written_before_the_close(connect: Callable[[], sqlite3.Connection]) -> None:
    """Long work, small work behind it, and a job whose caller was cancelled are done. Later jobs are refused."""
    writer = GroupWriter(connect(), _nobody)
    jobs = [writer.submit(_add(1), long=True), writer.submit(_add(2)), writer.submit(_add(4))]
    jobs[1].cancel()
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(writer.close(), writer.close())
        assert [job.done() for job in jobs] == [True] * 3
    with pytest.raises(JournalError):
        await writer.submit(_add(8))
    db = connect()
    assert _sum(db) == 7
    db.close()
