"""The single writer of one run's log: appends stamped events, and shows them to viewers once they are durable.

The events and the checkpoint of one iteration of the event loop are one append, durable together. While an append is
on its way to the disk, later events are collected for the next one: a run that is faster than the disk gets fewer and
larger appends, not a longer queue.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextvars import Context
from datetime import datetime
from functools import partial
from typing import Any

from askstream.server.bus import Channel
from askstream.server.events import Draft
from askstream.server.events.errors import JournalError, RunFailed
from askstream.server.foreign import contained
from askstream.server.journal import Entry, Journal, RunRecord, RunState, RunUpdate, Size
from askstream.server.runs.limits import Limits
from askstream.server.runs.stamping import Stamping
from askstream.server.telemetry import StreamLog

log = logging.getLogger(__name__)

# Bytes that may wait for the disk before `emit` makes the team wait: a second of a very fast run.
PENDING_BYTES = 1024 * 1024
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
    ) -> None:
        self.created, self._stamping = record, Stamping(record, limits)
        self._journal, self.channel = journal, channel
        self.now, self._log = clock, log
        self._loop = asyncio.get_running_loop()
        # The context of all appends. Tasks that start in a team's context are cancelled with the team; those of the
        # journal and of viewers must outlive it.
        self._context = Context()
        self._durable = self._stamping.snapshot()  # what the journal holds; the stamping runs ahead of it
        self._pending: list[Entry] = []
        self._size = 0
        self._state: bytes | None = None
        self._checkpoints_asked = self._checkpoints_saved = 0  # checkpoints asked for and durable
        self._journal_call: asyncio.Future[Any] | None = None  # an append or a compaction; one at a time
        self._scheduled: asyncio.Handle | None = None  # the call of `_append` that is due
        self._append_waiter: asyncio.Future[None] | None = None  # resolved when the journal's next call has ended
        self._failure: JournalError | None = None
        self._ending = False
        self.turn_finished = asyncio.Event()  # set by the first checkpoint that is durable
        self.emitted = 0  # calls of `emit`; the deadline for silence reads it

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
            self._log.report(update.run_id, entries, record.principal)
        return holder

    async def count_earlier(self) -> None:
        """Count the events of earlier attempts, so that the digest covers the whole log."""
        last = 0
        while entries := await self._journal.read(self.created.run_id, last):
            last = entries[-1].id
            for entry in entries:
                self._stamping.add_earlier(entry)

    async def emit(self, draft: Draft) -> None:
        self.emitted += 1
        while self._size > PENDING_BYTES:
            await self._next_append()
        if self._failure is not None or self._ending:
            self._refuse()
        entry = self._stamping.accept(draft, self.now())
        if entry is not None:
            self._pending.append(entry)
            self._size += len(entry.line)
            self._schedule_append()

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
        self._schedule_append()
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
        self._schedule_append()

    def _schedule_append(self) -> None:
        """Schedule an append of everything that is emitted in this iteration of the loop."""
        if self._scheduled is None:
            self._scheduled = self._loop.call_soon(self._append, context=self._context)

    def _append(self) -> None:
        """Append what is pending, unless a call of the journal is under way."""
        self._scheduled = None
        if (
            self._journal_call is not None
            or self._failure is not None
            or (not self._pending and self._checkpoints_saved == self._checkpoints_asked)
        ):
            return
        entries, self._pending, self._size = self._pending, [], 0
        state, self._state = self._state, None
        update = self._stamping.snapshot()
        try:
            work = self._journal.append(update, entries, checkpoint=state)
            self._journal_call = work if isinstance(work, asyncio.Future) else asyncio.ensure_future(contained(work))
        except BaseException as problem:  # noqa: BLE001 - a journal may raise at once; waiters must get the error
            self._fail(problem)
            self._append_ended()
        else:
            self._journal_call.add_done_callback(
                partial(self._appended, update, entries, self._checkpoints_asked), context=self._context
            )

    def _appended(self, update: RunUpdate, entries: Sequence[Entry], asked: int, work: asyncio.Future[None]) -> None:
        self._journal_call = None
        try:
            work.result()
            self._checkpoints_saved = max(self._checkpoints_saved, asked)
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
        self._journal_call.add_done_callback(partial(self._compacted, written), context=self._context)

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
        if self._pending or self._checkpoints_saved < self._checkpoints_asked:
            self._append()

    async def _next_append(self) -> None:
        """Return when the next append has ended. Raises the error that the log failed with."""
        if self._failure is not None:
            raise self._failure
        if self._append_waiter is None:
            self._append_waiter = self._loop.create_future()
        await asyncio.shield(self._append_waiter)  # shared: a cancelled waiter must not cancel it for the others
