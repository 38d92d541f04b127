"""The single writer of one run's log: appends stamped events, and shows them to viewers once they are durable.

The events and the checkpoint of one iteration of the event loop are one append, durable together. While an append is
on its way to the disk, later events are collected for the next one: a run that is faster than the disk gets fewer and
larger appends, not a longer queue.

Many runs may emit in one iteration. The first of them don't wait for the last: `Burst` writes a part of them meanwhile.
"""

import asyncio
import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import Context
from datetime import datetime
from functools import partial
from time import monotonic
from typing import Any

from askstream.server.bus import Channel
from askstream.server.events import Draft
from askstream.server.events.errors import JournalError, RunFailed
from askstream.server.foreign import contained
from askstream.server.journal import (
    NOBODY,
    Append,
    Entry,
    ImmediateJournal,
    Journal,
    RunRecord,
    RunState,
    RunUpdate,
    Size,
)
from askstream.server.runs.limits import Limits
from askstream.server.runs.stamping import Stamping
from askstream.server.telemetry import StreamLog, printable

log = logging.getLogger(__name__)

# Bytes that may wait for the disk before `emit` makes the team wait: a second of a very fast run.
PENDING_BYTES = 1024 * 1024
# Runs in one part of a burst: few enough that its first events leave early, and enough that a transaction costs little
# beside its events.
PART_RUNS = 32
# Chunks between two compactions: each of them reads the whole log.
COMPACT_CHUNKS = 500


class LogWriter:
    """A `Sink`. After `end` or `close`, `emit` and `checkpoint` raise RunFailed; after a failure, JournalError."""

    def __init__(
        self,
        record: RunRecord,
        journal: Journal,
        channel: Channel,
        limits: Limits,
        *,
        clock: Callable[[], datetime],
        log: StreamLog,
        burst: "Burst",
    ) -> None:
        self.created, self._stamping = record, Stamping(record, limits)
        self._journal, self.channel = journal, channel
        self.now, self._log, self._burst = clock, log, burst
        self._loop = asyncio.get_running_loop()
        self._durable = self._stamping.snapshot()  # what the journal holds; the stamping runs ahead of it
        self._pending: list[Entry] = []
        self._size = 0
        self._state: bytes | None = None
        self._checkpoints_asked = self._checkpoints_saved = 0  # checkpoints asked for and durable
        self._checkpoints_taken = 0  # asked for before the append that is under way
        self.taken = Append(self._durable, [], None)  # the last append, which may be under way
        self._journal_call: asyncio.Future[Any] | None = None  # an append or a compaction; one at a time
        self.is_due = False  # the burst will append what is pending
        self._append_waiter: asyncio.Future[None] | None = None  # resolved when the journal's next call has ended
        self._failure: JournalError | None = None
        self._ending = False
        self.last_sign = monotonic()  # of the team's last event, or of the end of its last watched call
        self.last_draft: Draft | None = None
        self.watched_calls = 0  # calls in progress that limit their silence themselves
        self.turn_finished = asyncio.Event()  # set by the first checkpoint that is durable

    @property
    def record(self) -> RunRecord:
        """The record with all that was emitted, durable or not."""
        return self.created.updated(self._stamping.snapshot())

    @property
    def durable(self) -> RunRecord:
        """The record as the journal holds it."""
        return self.created.updated(self._durable)

    async def begin(self, draft: Draft) -> RunRecord:
        """Create the log with its first event; return its record.

        If another run holds the idempotency key, write nothing and return that run's record.
        """
        entries, update = [self._stamping.stamp(draft, self.now())], self._stamping.snapshot()
        record = self.created.updated(update)
        holder = await self._journal.create(record, entries)
        if holder.run_id == record.run_id:
            self._durable = update
            self.channel.extend(entries)
            self._log.report(update.run_id, entries)
            if record.principal != NOBODY:
                log.info("run=%s principal=%s", record.run_id, printable(record.principal))
        return holder

    async def count_earlier(self) -> None:
        """Count the events of earlier attempts, so that the digest covers the whole log."""
        last = 0
        while entries := await self._journal.read(self.created.run_id, last):
            last = entries[-1].id
            for entry in entries:
                self._stamping.add_earlier(entry)

    async def emit(self, draft: Draft) -> None:
        self.last_sign, self.last_draft = monotonic(), draft
        while self._size > PENDING_BYTES:
            await self._next_append()
        if self._failure is not None or self._ending:
            self._refuse()
        entry = self._stamping.accept(draft, self.now())
        if entry is not None:
            self._pending.append(entry)
            self._size += len(entry.line)
            self._burst.add(self)

    @contextmanager
    def watched(self) -> Generator[None]:
        self.watched_calls += 1
        try:
            yield
        finally:
            self.watched_calls -= 1
            self.last_sign = monotonic()

    async def checkpoint(self, state: bytes) -> None:
        if self._failure is not None or self._ending:
            self._refuse()
        self._save(state)
        await self.flush()
        self.turn_finished.set()

    async def wait_for_human(self, draft: Draft, state: bytes | None) -> None:
        """Ask for input. The event, the checkpoint and the state `waiting` become durable together.

        `state`, the checkpoint, is None for a team that waits in memory.
        """
        await self.emit(draft)
        self._stamping.state = "waiting"
        if state is not None:
            self._save(state)
        await self.flush()
        self.turn_finished.set()

    async def end_wait(self, draft: Draft) -> None:
        """Log the end of the wait. Return once it is durable."""
        await self.emit(draft)
        self._stamping.state = "running"
        await self.flush()

    async def flush(self) -> None:
        """Return once everything emitted so far is durable."""
        last, asked = self._stamping.last_id, self._checkpoints_asked
        while self._durable.last_id < last or self._checkpoints_saved < asked:
            await self._next_append()

    async def end(self, draft: Draft, state: RunState, *, session_state: bytes | None = None) -> None:
        """Write the terminal event, and refuse later ones. Return once it is durable.

        `session_state` replaces the run's checkpoint, for the session's next run. Raises JournalError if the event
        can't be written, and RunFailed, with nothing written, if it is too large.
        """
        entry = self._stamping.end(draft, state, self.now())
        self._ending = True
        self._state = session_state
        self._pending.append(entry)
        self._burst.add(self)
        while self._durable.ended_at is None:
            await self._next_append()

    async def release(self) -> None:
        """Leaves the run to the next server. Its log says then that nobody was at work on it: see `recovery.py`."""
        await self.flush()
        if self._stamping.state != "waiting":
            await self._journal.claim(self.created.run_id)

    def close(self) -> None:
        """Refuse later events and drop the pending ones. An append that has begun is finished."""
        self._ending, self._pending, self._size, self._checkpoints_saved = True, [], 0, self._checkpoints_asked

    def _refuse(self) -> None:
        """Stop a team that goes on after its run has ended, or whose log can't be written."""
        raise self._failure or RunFailed("internal", "The run has ended.")

    def _save(self, state: bytes) -> None:
        self._state = state
        self._checkpoints_asked += 1
        self._burst.add(self)

    def take(self) -> bool:
        """Take what is pending as the next append. Return False if a call of the journal is under way, or nothing is
        pending."""
        self.is_due = False
        if (
            self._journal_call is not None
            or self._failure is not None
            or (not self._pending and self._checkpoints_saved == self._checkpoints_asked)
        ):
            return False
        self.taken = Append(self._stamping.snapshot(), self._pending, self._state)
        self._pending, self._size, self._state = [], 0, None
        self._checkpoints_taken = self._checkpoints_asked
        return True

    def append(self) -> None:
        """Give the journal what was taken."""
        update, entries, state = self.taken
        try:
            work = self._journal.append(update, entries, checkpoint=state)
            self._journal_call = work if isinstance(work, asyncio.Future) else asyncio.ensure_future(contained(work))
        except BaseException as problem:  # noqa: BLE001 - a journal may raise at once; waiters must get the error
            self._fail(problem)
            self._append_ended()
        else:
            self._journal_call.add_done_callback(self.written, context=self._burst.context)

    def written(self, outcome: "asyncio.Future[Any] | BaseException | None") -> None:
        """Show what was taken. `outcome` is the journal's call, or its error; None if all went well."""
        self._journal_call = None
        update, entries, _ = self.taken
        try:
            if isinstance(outcome, asyncio.Future):
                outcome.result()
            elif outcome is not None:
                raise outcome
            self._checkpoints_saved = max(self._checkpoints_saved, self._checkpoints_taken)
            self._durable = update
            self.channel.extend(entries)
            self._log.report(update.run_id, entries)
            # This keeps a log within its bound, as far as chunks of whole messages make it large.
            if self._stamping.chunks >= COMPACT_CHUNKS and self._stamping.is_too_large(update):
                self._compact(update)
        except BaseException as problem:  # noqa: BLE001 - waiters must get the error
            self._fail(problem)
        self._append_ended()

    def _compact(self, written: RunUpdate) -> None:
        self._journal_call = asyncio.ensure_future(contained(self._journal.compact(written.run_id)))
        self._journal_call.add_done_callback(partial(self._compacted, written), context=self._burst.context)

    def _compacted(self, written: RunUpdate, work: asyncio.Future[Size]) -> None:
        self._journal_call = None
        try:
            self._stamping.compacted(written, work.result())
        except BaseException as problem:  # noqa: BLE001 - waiters must get the error
            self._fail(problem)
        self._append_ended()

    def _fail(self, problem: BaseException) -> None:
        """Refuse all writes from now on."""
        if isinstance(problem, JournalError):
            self._failure = problem
        else:
            self._failure = JournalError(f"the journal failed: {type(problem).__name__}")
            log.debug("run=%s can't be written", self.created.run_id, exc_info=problem)

    def _append_ended(self) -> None:
        """After each call of the journal, also a failed one: wake all waiters, and append what is pending."""
        settled, self._append_waiter = self._append_waiter, None
        if settled is not None:
            settled.set_result(None)
        if (self._pending or self._checkpoints_saved < self._checkpoints_asked) and self.take():
            self.append()

    async def _next_append(self) -> None:
        """Return when the next append has ended. Raises the error that the log failed with."""
        if self._failure is not None:
            raise self._failure
        if self._append_waiter is None:
            self._append_waiter = self._loop.create_future()
        await asyncio.shield(self._append_waiter)  # shared: a cancelled waiter must not cancel it for the others


class Burst:
    """The log writers, of all runs, that have something to append in this iteration of the event loop.

    They append at its end. A burst of many runs is written in parts, each within the `emit` of the run that follows,
    so that its first events are durable and on their way before its last ones are emitted. A part holds no event of
    that run, nor of any other whose task is between two steps that belong together, such as an event and its
    checkpoint: tasks suspend only behind them.
    """

    def __init__(self, journal: Journal) -> None:
        # The context of all appends. Tasks that start in a team's context are cancelled with the team; those of the
        # journal and of viewers must outlive it.
        self.context = Context()
        self._journal = journal if isinstance(journal, ImmediateJournal) else None
        self._loop = asyncio.get_running_loop()
        self._due: list[LogWriter] = []
        self._is_scheduled = self._has_begun = False  # the end of the iteration; a part was written before it

    def add(self, writer: LogWriter) -> None:
        """Append later what `writer` has then."""
        if writer.is_due:
            return
        writer.is_due = True
        if len(self._due) >= PART_RUNS and self._journal is not None:
            self._has_begun = True
            self.context.run(self._write_part, self._journal)
        self._due.append(writer)
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._end, context=self.context)

    def _end(self) -> None:
        self._is_scheduled = False
        if self._has_begun and self._journal is not None:
            self._has_begun = False
            self._write_part(self._journal)
            return
        due, self._due = self._due, []
        for writer in due:
            if writer.take():
                writer.append()

    def _write_part(self, journal: ImmediateJournal) -> None:
        due, self._due = self._due, []
        part = [writer for writer in due if writer.take()]
        errors = journal.write_now([writer.taken for writer in part])
        if errors is None:
            for writer in part:
                writer.append()
        else:
            for writer, error in zip(part, errors, strict=True):
                writer.written(error)
