"""The one connection that writes to a SQLite file, committing in groups.

Many runs append at once; a commit costs the same whatever is in it. So everything that comes within a moment goes into
one transaction, and everybody is told after its commit. A small one is written there and then: SQLite takes some 40 µs
of the event loop's time for it, while a thread would take 200 µs to be woken and to answer, and both would wait for
each other's interpreter lock. What may take long goes to a thread, and what comes meanwhile gathers: large appends,
work over whole logs, commits that wait for the disk, and everything as long as the disk is slow.
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import attrgetter
from time import monotonic
from typing import Any, TypeAlias

from askstream.server.events.errors import AskstreamError, JournalError
from askstream.server.journal.sqlite.appends import Append, write_appends
from askstream.server.scheduling import AdaptiveDelay

Work: TypeAlias = Callable[[sqlite3.Connection], Any]

# Jobs in one transaction of the thread's. Bounds how long the first of them waits for the last; 512 small appends take
# some 5 ms.
GROUP = 512
# Jobs, and bytes of them, that the event loop can wait for: a millisecond's worth, or one and a half.
SMALL, SMALL_BYTES = 128, 256 * 1024
# Seconds from the beginning of a transaction in which the next one waits for more, where that pays. A thousand busy
# runs put twenty appends into each, and save most of what a commit costs; and what is committed together reaches many
# viewers in one write. A run alone hardly waits while its events are further apart, or come one by one.
PACE = 0.002
# Seconds after which a transaction counts as a stall: a hundred times what a small one takes, and as long as viewers of
# other runs may wait for the loop.
SLOW = 0.005
# Pages in the WAL (16 MiB of them) that are worth carrying over to the file, with the two fsyncs of that. Four times
# SQLite's own choice: hot pages are carried over a quarter as often, and a restart reads it all in 20 ms.
CHECKPOINT_PAGES = 4096
_PAGE_BYTES = 4096
# Pages that an append changes beside those of its lines, at most: its head, an index and what they hang from.
_PAGES_AN_APPEND = 4
# Milliseconds that a thread waits for a lock that another program holds on the file. The event loop waits for none.
_LOCK_MS = 5000


@dataclass(slots=True)
class _Job:
    work: Work | Append
    future: "asyncio.Future[Any]"
    long: bool
    size: int
    outcome: Any = None
    error: BaseException | None = None

    @property
    def appends(self) -> bool:
        return isinstance(self.work, Append)

    @property
    def events(self) -> int:
        """How many it writes; what writes something else counts as one."""
        return max(1, len(self.work.entries)) if isinstance(self.work, Append) else 1

    def settle(self) -> None:
        if self.future.done():
            return  # whoever waited was cancelled
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.outcome)


class GroupWriter:
    """`connection` is in autocommit mode (isolation_level None), may be used by any thread, and is this writer's alone.

    `appended` is told whose appends are durable. `waits` says that a commit waits for the disk. Made in the event
    loop that all calls come from.
    A job must check its conditions before it writes anything: an AskstreamError it raises fails that job alone, since
    nothing of it has to be undone. Any other error rolls the whole group back, and each of its jobs gets a transaction
    of its own: what can't be written, a number too large for SQLite say, fails nobody but the one who wrote it.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        appended: Callable[[str], None],
        *,
        waits: bool = False,
        pace: float = PACE,
    ) -> None:
        self._db, self._appended, self._waits, self._pace = connection, appended, waits, pace
        self._loop = asyncio.get_running_loop()
        self._jobs: deque[_Job] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal-writer")
        self._timer: asyncio.Handle | None = None
        self._free_at = 0.0
        self._delay = AdaptiveDelay()
        self._soon = False  # somebody is in a hurry
        self._waited = False  # for more, before the transaction that is due
        self._busy = self._closed = False  # the thread has the connection
        self._stalls = 0  # transactions in a row that took longer than SLOW
        self._pages = 0  # in the WAL, at most
        connection.execute("PRAGMA wal_autocheckpoint = 0")  # ours, since the event loop may be the one to commit
        connection.execute("PRAGMA busy_timeout = 0")

    def submit(self, work: Work | Append, *, long: bool = False, soon: bool = False) -> "asyncio.Future[Any]":
        """Does `work` in the next transaction; the future has what a callable returned, once that is committed.

        Appends that follow one another are written together. `long`: the event loop had better not wait for it. `soon`:
        it waits for nothing that could share its transaction.
        """
        size = work.size if isinstance(work, Append) else 0
        job = _Job(work, self._loop.create_future(), long, size)
        if self._closed:
            job.future.set_exception(JournalError("the journal is closed"))
            return job.future
        self._jobs.append(job)
        self._soon |= soon
        self._due()
        return job.future

    async def close(self) -> None:
        """Writes what was submitted, then closes the connection. Again is fine."""
        if self._closed:
            return
        last = self.submit(lambda _: None, soon=True)
        self._closed = True
        await last
        await self._loop.run_in_executor(self._thread, self._db.close)
        self._thread.shutdown()

    def _due(self) -> None:
        if self._busy or not self._jobs:
            return
        if self._timer is not None:
            if not self._waited or self._can_wait():
                return
            self._timer.cancel()
        wait = self._free_at - monotonic()
        self._waited = wait > 0 and self._can_wait() and self._delay.should_wait(sum(job.events for job in self._jobs))
        self._timer = self._loop.call_later(wait, self._flush) if self._waited else self._loop.call_soon(self._flush)

    def _can_wait(self) -> bool:
        """Nobody is in a hurry, and there is room for more in the transaction."""
        return not self._soon and len(self._jobs) < self._most()

    def _flush(self) -> None:
        self._timer = None
        group = [self._jobs.popleft() for _ in range(min(len(self._jobs), self._most()))]
        self._soon = self._soon and bool(self._jobs)
        if self._waited:
            self._delay.waited(sum(job.events for job in group))
        began = monotonic()
        if self._is_quick(group) and _written_at_once(self._db, group):
            self._settle(group, began)
        else:
            self._apart(partial(_write_apart, self._db, group), partial(self._settle, group, began))

    def _most(self) -> int:
        """More than the event loop can wait for go in small groups, one after the other. A thread beside a loop that is
        busy, with the questions that they come from, waits for the interpreter at each statement."""
        return GROUP if self._is_slow else SMALL

    @property
    def _is_slow(self) -> bool:
        """The disk: each commit waits for it, or the last ones stalled. A single stall is more often that of a machine
        whose cores are taken; on the thread, beside a busy loop, the next transaction would take many times as long."""
        return self._waits or self._stalls > 1

    def _is_quick(self, group: Sequence[_Job]) -> bool:
        return (
            not self._is_slow and sum(job.size for job in group) <= SMALL_BYTES and not any(job.long for job in group)
        )

    def _settle(self, group: Sequence[_Job], began: float) -> None:
        self._stalls = self._stalls + 1 if monotonic() - began > SLOW else 0
        self._free_at = began + self._pace
        self._pages += len(group) * _PAGES_AN_APPEND + sum(job.size for job in group) // _PAGE_BYTES
        for job in group:
            job.settle()
            if isinstance(job.work, Append):
                self._appended(job.work.head.run_id)
        if self._pages >= CHECKPOINT_PAGES:
            self._pages = 0
            self._apart(partial(_checkpoint, self._db), lambda: None)
        self._due()

    def _apart(self, work: Callable[[], None], then: Callable[[], None]) -> None:
        """Does `work`, which raises nothing, on the thread; the connection is the thread's until then."""
        self._busy = True
        done = self._loop.run_in_executor(self._thread, work)
        done.add_done_callback(lambda _: self._back(then))

    def _back(self, then: Callable[[], None]) -> None:
        self._busy = False
        then()
        self._due()


def _written_at_once(db: sqlite3.Connection, group: list[_Job]) -> bool:
    """False, and nothing has been done, where another program holds a lock on the file."""
    try:
        _transact(db, group)
    except sqlite3.OperationalError as problem:
        if problem.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            return False
        _write_each(db, group, problem)
    except Exception as problem:  # noqa: BLE001 - whoever submitted it is told
        _write_each(db, group, problem)
    return True


def _write_apart(db: sqlite3.Connection, group: list[_Job]) -> None:
    try:
        db.execute(f"PRAGMA busy_timeout = {_LOCK_MS}")
        _transact(db, group)
    except Exception as problem:  # noqa: BLE001 - the edge of the thread; without it everybody would wait for ever
        _write_each(db, group, problem)
    finally:
        db.execute("PRAGMA busy_timeout = 0")


def _write_each(db: sqlite3.Connection, group: list[_Job], problem: Exception) -> None:
    """Each on its own, as together they raised `problem`. Afterwards every job has its outcome or its error."""
    for job in group:
        try:
            if len(group) == 1:
                raise problem
            _transact(db, [job])
        except Exception as its_own:  # noqa: BLE001 - whoever submitted it is told
            job.error = JournalError(f"the journal could not be written: {its_own}")


def _transact(connection: sqlite3.Connection, group: list[_Job]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for appends, jobs in groupby(group, key=attrgetter("appends")):
            for part in [list(jobs)] if appends else ([job] for job in jobs):
                _do(connection, part)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _do(connection: sqlite3.Connection, jobs: list[_Job]) -> None:
    """One job, or several appends. A refusal is always that of one."""
    try:
        match jobs:
            case [_Job(work=work) as job] if not isinstance(work, Append):
                job.outcome = work(connection)
            case _:
                write_appends(connection, [job.work for job in jobs if isinstance(job.work, Append)])
    except AskstreamError as refusal:
        for job in jobs:
            job.error = refusal


def _checkpoint(db: sqlite3.Connection) -> None:
    """Carries the WAL over to the file, as far as readers let go of it. What is left is for the next time."""
    try:
        db.execute("PRAGMA wal_checkpoint(PASSIVE)")
    except sqlite3.Error:
        return  # a full disk, say: the next append tells its run
