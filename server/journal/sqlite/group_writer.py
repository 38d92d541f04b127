"""The one connection that writes to a SQLite file, committing in groups.

Many runs append at once, and a commit costs the same for one append as for many. So all jobs of a moment share a
transaction, and their callers are notified after its commit. The event loop writes a small one itself: SQLite needs
some 40 µs for it, while a thread needs 200 µs to be woken and to answer, and both would wait for each other's
interpreter lock. A thread does long work, while later jobs wait: large appends, work over whole logs, commits that wait
for the disk, and everything as long as the disk is slow.
"""

import asyncio
import contextlib
import math
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any, TypeAlias, TypeVar

from askstream.server.events.errors import AskstreamError, JournalError
from askstream.server.journal.base import Append, Entry, RunUpdate
from askstream.server.journal.notifier import AppendNotifier
from askstream.server.journal.sqlite.appends import write_appends
from askstream.server.journal.sqlite.tables import connect_beside
from askstream.server.scheduling import AdaptiveDelay

T = TypeVar("T")
Work: TypeAlias = Callable[[sqlite3.Connection], Any]

# Jobs in one transaction of the thread. Bounds the time that the first waits for the last: 512 small appends take 5 ms.
GROUP_JOBS = 512
# Jobs, and bytes of them, that the event loop can wait for: a millisecond of work, or one and a half.
QUICK_JOBS, QUICK_BYTES = 128, 256 * 1024
# Seconds from one transaction's start to the next, if waiting for more jobs pays. A thousand busy runs put twenty
# appends into each and save most of a commit's cost, and events of one commit reach many viewers in one write. A run
# alone hardly waits if its events are further apart, or come one by one.
COMMIT_SECONDS = 0.002
# Seconds after which a transaction counts as a stall: a hundred times a small one, and the longest that viewers of
# other runs may wait for the loop.
STALL_SECONDS = 0.005
# Pages in the WAL (16 MiB) at which it is carried over to the file, with two fsyncs. Four times SQLite's default: hot
# pages are carried over a quarter as often, and a restart reads it all in 20 ms.
WAL_PAGES = 4096
# Transactions wait once the WAL has this many times WAL_PAGES, until all of it is carried over: then it begins anew.
WAL_FACTOR = 2
_PAGE_BYTES = 4096
# At least so many, also if the WAL may have less: a transaction of the event loop writes as much.
_FEWEST_PAGES = 64
# Pages that a transaction changes beside those of its lines: one of an index for each append, and a few of `heads` and
# of the trees' inner pages. A thousand runs' heads are about ten pages.
_PAGES_AN_APPEND, _PAGES_A_COMMIT = 1, 4
# Milliseconds that the thread waits for another program's lock on the file. The event loop waits for none.
_LOCK_MS = 5000


@dataclass(slots=True, eq=False)
class _Job:
    """`events` is the number that it writes; other work counts as one. `size` is in bytes. `future` is None for an
    append whose caller doesn't wait."""

    work: Work | Append
    future: "asyncio.Future[Any] | None" = None
    events: int = 1
    size: int = 0
    is_long: bool = False
    result: Any = None
    error: BaseException | None = None


class GroupWriter:
    """`connection` is in autocommit mode (isolation_level None), works in any thread, and is used by this writer alone.

    `notifier` is notified of each append. `waits_for_disk`: a commit waits for the disk. `on_carried_over` is called on
    the thread, after pages of the WAL were carried over to the file. Make it in the event loop of all its callers.
    A job must check its conditions before it writes: then its AskstreamError fails that job alone, since nothing has to
    be undone. Any other error rolls the group back, and each job gets a transaction of its own: a value that SQLite
    can't store, such as a number that is too large, fails only its own job.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        notifier: AppendNotifier,
        *,
        waits_for_disk: bool = False,
        commit_seconds: float = COMMIT_SECONDS,
        on_carried_over: Callable[[], object] = lambda: None,
    ) -> None:
        self._db, self._notifier, self._waits_for_disk, self._commit_seconds = (
            connection,
            notifier,
            waits_for_disk,
            commit_seconds,
        )
        self._on_carried_over = on_carried_over
        self._loop = asyncio.get_running_loop()
        self._jobs: list[_Job] = []
        self._events = 0  # of all pending jobs
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal-writer")
        self._timer: asyncio.Handle | None = None
        self._free_at = 0.0
        self._delay = AdaptiveDelay()
        self._is_urgent = False  # a pending job is urgent
        self._waited = False  # the transaction that is due waits for more jobs
        self._busy = self._closed = False  # the thread has the connection
        self._stalls = 0  # transactions in a row that took longer than STALL_SECONDS
        # Each commit waits for the disk, or the last ones stalled. A single stall mostly means that the machine's cores
        # are busy; on the thread, beside a busy loop, the next one would take many times as long.
        self._is_slow = waits_for_disk
        # Jobs in a transaction. The event loop writes a rush of jobs in small groups: it is busy with the questions
        # that cause them, and a thread beside it would wait for the interpreter at each statement.
        self._max_jobs = GROUP_JOBS if waits_for_disk else QUICK_JOBS
        self._pages = 0  # about; in the WAL since they were last carried over
        self._most_pages: float = math.inf  # at which the WAL is carried over, if that is less than WAL_PAGES
        self._is_wal_long = False  # more than WAL_FACTOR times as many
        self._changes = connection.total_changes
        self._problem: JournalError | None = None  # why all jobs are refused
        self.carrying: asyncio.Future[int] | None = None  # done when the thread has carried them over
        self._carrier = connect_beside(connection)
        connection.execute("PRAGMA wal_autocheckpoint = 0")  # left to `_carry_over`: it may need an fsync
        connection.execute("PRAGMA busy_timeout = 0")

    def append(
        self, update: RunUpdate, entries: Sequence[Entry], *, checkpoint: bytes | None = None
    ) -> "asyncio.Future[None]":
        """As `Journal.append`. Consecutive appends are written together."""
        size = len(checkpoint or b"")
        for entry in entries:
            size += len(entry.line)
        future: asyncio.Future[None] = self._loop.create_future()
        self._add(_Job(Append(update, entries, checkpoint), future, len(entries) or 1, size), future)
        return future

    def write_now(self, appends: Sequence[Append]) -> Sequence[BaseException | None] | None:
        """As `ImmediateJournal.write_now`. Jobs that are pending stay pending."""
        size = 0
        for append in appends:
            size += len(append.checkpoint or b"")
            for entry in append.entries:
                size += len(entry.line)
        if self._busy or self._closed or self._problem or self._is_slow or size > QUICK_BYTES:
            return None
        began, group = monotonic(), [_Job(append) for append in appends]
        if not _write_now(self._db, group):
            return None
        self._settle(group, size, began)
        return [job.error for job in group]

    def submit(self, work: Work, *, long: bool = False, urgent: bool = False, size: int = 0) -> "asyncio.Future[Any]":
        """Do `work` in the next transaction. The future gets its result after the commit.

        `long`: too long for the event loop. `urgent`: doesn't wait for others to share its transaction. `size`: bytes
        that it changes, roughly.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        self._is_urgent |= urgent
        self._add(_Job(work, future, size=size, is_long=long), future)
        return future

    def _add(self, job: _Job, future: "asyncio.Future[Any]") -> None:
        if self._closed or self._problem is not None:
            future.set_exception(self._problem or JournalError("the journal is closed"))
            return
        self._jobs.append(job)
        self._events += job.events
        if self._timer is None or self._waited:  # else the transaction is due in this iteration
            self._schedule()

    def bound_wal(self, most_bytes: int) -> None:
        """Let the WAL have at most so many bytes, as long as no reader holds it."""
        self._most_pages = max(_FEWEST_PAGES, most_bytes // (2 * WAL_FACTOR * _PAGE_BYTES))

    def refuse(self, problem: JournalError | None) -> None:
        """Refuse all jobs with this error, until it is None."""
        self._problem = problem

    async def on_thread(self, work: Callable[[], T]) -> T:
        """Do `work` while the thread carries nothing over. It must not use the connection."""
        return await self._loop.run_in_executor(self._thread, work)

    async def close(self) -> None:
        """Write what was submitted, carry the whole WAL over, and close the connection. Idempotent.

        Close all readers before: SQLite deletes the WAL with the last connection, unless that is read-only.
        """
        if self._closed:
            return
        self._problem = None
        last = self.submit(lambda _: None, urgent=True)
        self._closed = True
        await last
        await self._loop.run_in_executor(self._thread, partial(_close, self._db, self._carrier))
        self._thread.shutdown()

    def _schedule(self) -> None:
        """Schedule the next transaction if there are jobs: now, or after a wait for more if that pays."""
        if self._busy or not self._jobs:
            return
        can_wait = not self._is_urgent and len(self._jobs) < self._max_jobs
        if self._timer is not None:
            if not self._waited or can_wait:
                return
            self._timer.cancel()
        wait = self._free_at - monotonic()
        self._waited = wait > 0 and can_wait and self._delay.should_wait(self._events)
        self._timer = self._loop.call_later(wait, self._flush) if self._waited else self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._timer = None
        group, self._jobs = self._jobs[: self._max_jobs], self._jobs[self._max_jobs :]
        self._is_urgent = self._is_urgent and bool(self._jobs)
        events, size, is_quick = 0, 0, not self._is_slow
        for job in group:
            events, size, is_quick = events + job.events, size + job.size, is_quick and not job.is_long
        self._events -= events
        if self._waited:
            self._delay.waited(events)
        began = monotonic()
        if is_quick and size <= QUICK_BYTES and _write_now(self._db, group):
            self._settle(group, size, began)
        else:
            self._run_on_thread(partial(_write_on_thread, self._db, group), partial(self._settle, group, size, began))

    def _settle(self, group: list[_Job], size: int, began: float) -> None:
        self._free_at = began + self._commit_seconds
        self._stalls = self._stalls + 1 if monotonic() - began > STALL_SECONDS else 0
        self._is_slow = self._waits_for_disk or self._stalls > 1
        self._max_jobs = GROUP_JOBS if self._is_slow else QUICK_JOBS
        for job in group:
            if job.future is None or job.future.done():
                pass  # nobody waits, or the caller was cancelled
            elif job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.result)
        if self._notifier.waiting:
            self._notify(group)
        # Only groups that wrote count: a WAL that is carried over twice while a commit begins it anew can corrupt the
        # file in SQLite before 3.51.3 (https://sqlite.org/wal.html#walresetbug). A commit in between rules that out.
        if self._changes != (changes := self._db.total_changes):
            self._changes = changes
            self._pages += _PAGES_A_COMMIT + len(group) * _PAGES_AN_APPEND + size // _PAGE_BYTES
            if self._pages >= min(WAL_PAGES, self._most_pages):
                self._carry_over()
        if self._jobs:
            self._schedule()

    def _notify(self, group: list[_Job]) -> None:
        for job in group:
            if isinstance(job.work, Append):
                self._notifier.notify(job.work.update.run_id)

    def _carry_over(self) -> None:
        """Carry the WAL over to the file, on the thread. The event loop writes meanwhile, but at most as much again."""
        self._pages = 0
        if self.carrying is not None:
            self._run_on_thread(partial(self._carry_over_on_thread, self._db), lambda: None)
            return
        self.carrying = self._loop.run_in_executor(self._thread, self._carry_over_on_thread, self._carrier)
        self.carrying.add_done_callback(self._carried_over)

    def _carry_over_on_thread(self, db: sqlite3.Connection) -> int:
        pages = _checkpoint_wal(db)
        self._on_carried_over()
        return pages

    def _carried_over(self, done: "asyncio.Future[int]") -> None:
        """Pages written meanwhile are still in the WAL, and it only starts anew once all are carried over."""
        self.carrying = None
        self._is_wal_long = done.result() >= WAL_FACTOR * min(WAL_PAGES, self._most_pages)
        self._empty_wal()

    def _empty_wal(self) -> None:
        """Carry a long WAL over while nothing is written, once the thread is free. A transaction that is due waits."""
        if self._is_wal_long and not self._busy and not self._closed:
            self._is_wal_long = False
            self._run_on_thread(partial(self._carry_over_on_thread, self._db), lambda: None)

    def _run_on_thread(self, work: Callable[[], object], then: Callable[[], None]) -> None:
        """Run `work`, which must not raise, on the thread. Only the thread uses the connection until it is done: a
        transaction that is due waits."""
        self._busy = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        done = self._loop.run_in_executor(self._thread, work)
        done.add_done_callback(lambda _: self._on_thread_done(then))

    def _on_thread_done(self, then: Callable[[], None]) -> None:
        self._busy = False
        then()
        self._empty_wal()
        self._schedule()


def _write_now(db: sqlite3.Connection, jobs: list[_Job]) -> bool:
    """Return False, with nothing done, if another program holds a lock on the file."""
    try:
        _transact(db, jobs)
    except sqlite3.OperationalError as problem:
        if problem.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            return False
        _write_each(db, jobs, problem)
    except Exception as problem:  # noqa: BLE001 - its caller gets the error
        _write_each(db, jobs, problem)
    return True


def _write_on_thread(db: sqlite3.Connection, jobs: list[_Job]) -> None:
    try:
        db.execute(f"PRAGMA busy_timeout = {_LOCK_MS}")
        _transact(db, jobs)
    except Exception as problem:  # noqa: BLE001 - the edge of the thread; without it all callers would wait for ever
        _write_each(db, jobs, problem)
    finally:
        db.execute("PRAGMA busy_timeout = 0")


def _write_each(db: sqlite3.Connection, jobs: list[_Job], problem: Exception) -> None:
    """Write each job alone, since together they raised `problem`. Then every job has its result or its error."""
    for job in jobs:
        try:
            if len(jobs) == 1:
                raise problem
            _transact(db, [job])
        except Exception as own_problem:  # noqa: BLE001 - its caller gets the error
            job.error = JournalError(f"the journal could not be written: {own_problem}")


def _transact(connection: sqlite3.Connection, jobs: list[_Job]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        done = 0
        while done < len(jobs):
            done += _do_next(connection, jobs[done:])
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _do_next(connection: sqlite3.Connection, jobs: list[_Job]) -> int:
    """Do the first job, or all appends before the next other job. Return how many. A refusal concerns one job."""
    appends: list[Append] = []
    for job in jobs:
        if not isinstance(job.work, Append):
            break
        appends.append(job.work)
    try:
        if not isinstance(work := jobs[0].work, Append):
            jobs[0].result = work(connection)
        else:
            write_appends(connection, appends)
    except AskstreamError as refusal:
        jobs[0].error = refusal
    return len(appends) or 1


def _close(db: sqlite3.Connection, carrier: sqlite3.Connection) -> None:
    """Close both. The file alone then has everything, unless another program reads it."""
    carrier.close()
    with contextlib.suppress(sqlite3.Error):
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    db.close()


def _checkpoint_wal(db: sqlite3.Connection) -> int:
    """Carry the WAL over to the file, as far as no reader needs it. Return its pages, 0 after an error."""
    try:
        _, pages, _ = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    except sqlite3.Error:
        return 0  # a full disk, say: the next append reports it
    return pages
