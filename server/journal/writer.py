"""The one thread that writes to a SQLite file, committing in groups.

Many runs append at once; each commit costs the same whatever is in it. So the thread takes all that has been handed
in, writes it in one transaction, and tells everybody after the commit. While it commits, the next group gathers.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from time import monotonic, sleep
from typing import Any, TypeAlias

from server.events.errors import AskstreamError, JournalError
from server.journal.appends import Append, write_appends

Work: TypeAlias = Callable[[sqlite3.Connection], Any]

# Jobs in one transaction. Bounds how long the first of them waits for the last; 512 small appends take some 5 ms.
GROUP = 512
# Seconds from the beginning of one transaction to that of the next. A commit takes some 40 µs of CPU whatever is in
# it, and wakes two threads: with a thousand busy runs this gathers ten appends into each, and saves a quarter of the
# CPU; waiting longer saves no more. A run alone waits for nothing while its events are further apart.
PACE = 0.001


@dataclass(slots=True)
class _Job:
    work: Work | Append
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Any]"
    outcome: Any = None
    error: BaseException | None = None

    @property
    def appends(self) -> bool:
        return isinstance(self.work, Append)

    def settle(self) -> None:
        if self.future.done():
            return  # whoever waited was cancelled
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.outcome)


class GroupWriter:
    """`connect` is called on the writer's thread and gives a connection in autocommit mode (isolation_level None).

    A job must check its conditions before it writes anything: an AskstreamError it raises fails that job alone, since
    nothing of it has to be undone. Any other error rolls the whole group back, and each of its jobs gets a transaction
    of its own: what can't be written, a number too large for SQLite say, fails nobody but the one who wrote it.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection], *, pace: float = PACE) -> None:
        self._pace = pace
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, args=(connect,), name="journal-writer", daemon=True)
        self._closed = False
        self._thread.start()

    async def submit(self, work: Work | Append) -> Any:
        """Does `work` in the next transaction; returns what a callable returned, once that is committed.

        Appends that follow one another are written together.
        """
        if self._closed:
            raise JournalError("the journal is closed")
        loop = asyncio.get_running_loop()
        job = _Job(work, loop, loop.create_future())
        self._jobs.put(job)
        return await job.future

    async def close(self) -> None:
        """Writes what was submitted, then ends the thread."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self, connect: Callable[[], sqlite3.Connection]) -> None:
        connection: sqlite3.Connection | None = None
        open_, began = True, 0.0
        while open_:
            group, open_ = self._gather(began + self._pace)
            began = monotonic()
            try:
                connection = connection or connect()
            except sqlite3.Error as problem:
                _fail(group, problem)
            else:
                _write(connection, group)
            _settle(group)
        if connection is not None:
            connection.close()

    def _gather(self, due: float) -> tuple[list[_Job], bool]:
        """The next group, not before `due`, and whether more may follow it. Waits for the first job only."""
        group: list[_Job] = []
        job = self._jobs.get()
        sleep(max(0, due - monotonic()))
        while job is not None:
            group.append(job)
            if len(group) == GROUP:
                return group, True
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return group, True
        return group, False


def _write(connection: sqlite3.Connection, group: list[_Job]) -> None:
    """Every job has its outcome or its error afterwards; nothing is raised, since the thread must go on."""
    try:
        if group:
            _transact(connection, group)
    except Exception as problem:  # noqa: BLE001 - the edge of the thread; without it everybody would wait for ever
        if len(group) == 1:
            _fail(group, problem)
            return
        for job in group:
            job.outcome = job.error = None
            _write(connection, [job])


def _transact(connection: sqlite3.Connection, group: list[_Job]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for appends, jobs in groupby(group, key=lambda job: job.appends):
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


def _fail(group: list[_Job], problem: Exception) -> None:
    for job in group:
        job.error = JournalError(f"the journal could not be written: {problem}")


def _settle(group: list[_Job]) -> None:
    """Hands the outcomes back, with one call into each event loop."""
    for loop in {job.loop for job in group}:
        mine = [job for job in group if job.loop is loop]
        try:
            loop.call_soon_threadsafe(_settle_all, mine)
        except RuntimeError:
            continue  # that loop has closed: nobody waits there any more


def _settle_all(group: list[_Job]) -> None:
    for job in group:
        job.settle()
