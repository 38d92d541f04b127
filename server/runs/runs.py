"""The API of runs: start, find, answer, cancel and forget them. A run belongs to the server."""

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import orjson

from askstream.server.bus import Batch, Bus
from askstream.server.events import TERMINAL_TYPES, Event, Json, decode
from askstream.server.events.errors import (
    Draining,
    IdempotencyConflict,
    LogExpired,
    RunNotFound,
    SessionBusy,
    SessionNotFound,
)
from askstream.server.journal import Entry, Journal, ListPosition, RunRecord, holds_key
from askstream.server.runs import history
from askstream.server.runs.active import ActiveRuns
from askstream.server.runs.admission import BUSY_RETRY
from askstream.server.runs.human_input import check_late_input
from askstream.server.runs.limits import Limits
from askstream.server.runs.orchestrator import Orchestrator, Reply
from askstream.server.runs.sessions import IfBusy


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question after validation. Two requests with one key are the same if their `fingerprint` is."""

    text: str
    principal: str
    images: tuple[str, ...] = ()
    session_id: str | None = None
    if_busy: IfBusy = "reject"
    review: bool = False
    asks: bool = True
    on_disconnect: str = "continue"
    idempotency_key: str | None = None
    fingerprint: str = ""


utc_now: Callable[[], datetime] = partial(datetime.now, UTC)


# 128 random bits: the id gives access to the run, so nobody may guess it.
random_id: Callable[[], str] = partial(secrets.token_hex, 16)


# Runs of a session that are deleted together: a few milliseconds of the journal's time.
FORGOTTEN_AT_ONCE = 20


class Runs:
    """`group` owns the runs' tasks and must outlive every call. `others` are more orchestrators, by name."""

    def __init__(
        self,
        journal: Journal,
        bus: Bus,
        orchestrator: Orchestrator,
        limits: Limits,
        *,
        group: asyncio.TaskGroup,
        others: dict[str, Orchestrator] | None = None,
        clock: Callable[[], datetime] = utc_now,
        new_id: Callable[[], str] = random_id,
    ) -> None:
        self._journal, self._bus, self._clock, self._new_id = journal, bus, clock, new_id
        self._orchestrators = {"team": orchestrator, **(others or {})}
        self._active = ActiveRuns(journal, bus, self._orchestrators, limits, group=group, clock=clock)
        self.drain, self.close, self.recover = self._active.drain, self._active.close, self._active.recover
        self._key_locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    def add_orchestrator(self, name: str, orchestrator: Orchestrator) -> None:
        """Add an orchestrator for runs that are started with this name."""
        self._orchestrators[name] = orchestrator

    @property
    def active(self) -> int:
        """Runs whose team works, or is about to. A run that waits for a human doesn't count."""
        return self._active.working

    async def start(self, question: Question, *, orchestrator: str = "team") -> tuple[RunRecord, bool]:
        """Start a run, or join the holder of the question's idempotency key. Return its record, and whether it is new.

        Its first event is durable by then. Raises Draining, TooManyRuns, PrincipalLimit, RateLimited,
        SessionBusy, IdempotencyConflict, LogExpired.
        """
        is_first = question.session_id is None
        if question.idempotency_key is None:
            return await self._active.start(self._record(question, orchestrator), question.if_busy, is_first=is_first)
        # One at a time: of equal requests at once the later ones must join the run, not find their session busy.
        lock = self._key_locks.setdefault((question.principal, question.idempotency_key), asyncio.Lock())
        async with lock:
            holder, new = await self._holder(question.principal, question.idempotency_key), False
            if holder is None:
                record = self._record(question, orchestrator)
                holder, new = await self._active.start(record, question.if_busy, is_first=is_first)
        _check_holder(holder, question)
        return holder, new

    async def holder(self, question: Question) -> RunRecord:
        """Return the run that holds the question's idempotency key; start none.

        Raises RunNotFound, IdempotencyConflict, LogExpired.
        """
        holder = await self._holder(question.principal, question.idempotency_key or "")
        if holder is None:
            raise RunNotFound
        _check_holder(holder, question)
        return holder

    async def find(self, run_id: str, principal: str | None) -> RunRecord:
        """Return the run's durable record. Raises RunNotFound, also for another principal's run; None finds all."""
        record = self._active.record(run_id) or await self._journal.record(run_id)
        if record is None or principal not in (record.principal, None) or record.last_id == 0:
            raise RunNotFound
        return record

    async def page(
        self, principal: str | None, *, before: ListPosition | None = None, limit: int = 50
    ) -> list[RunRecord]:
        """Return the principal's runs, newest first; None: everybody's."""
        return await self._journal.runs(principal, before=before, limit=limit)

    async def session(
        self, session_id: str, principal: str, *, before: ListPosition | None = None, limit: int = 50
    ) -> list[RunRecord]:
        """Return the runs of a session, newest first. Raises SessionNotFound."""
        found = await self._journal.session(principal, session_id, before=before, limit=limit)
        if not found and before is None:
            raise SessionNotFound
        return found

    async def cancel(self, run_id: str, principal: str | None) -> RunRecord:
        """Cancel the run. Return its present record at once. Idempotent, also after the end."""
        record = await self.find(run_id, principal)
        if not record.ended:
            await self._active.resume(run_id)  # it isn't active if its log could not be written for a while
        run = self._active.get(run_id)
        if run is not None:
            run.cancel("client")
        return record

    async def viewer_left(self, run_id: str, principal: str) -> None:
        """Cancel a run that is tied to a viewer which has gone, unless this server sent the viewer away."""
        if not self._active.closed:
            with contextlib.suppress(RunNotFound):  # it has ended, and been forgotten
                await self.cancel(run_id, principal)

    async def submit_input(self, run_id: str, principal: str, request_id: str, value: Json) -> RunRecord:
        """Submit a human's answer. Return when it is durable. Idempotent.

        Raises InvalidRequest if the value doesn't fit, InputNotFound, InputConflict if another answer came first, and
        InputExpired if it is too late.
        """
        await self.find(run_id, principal)
        run = self._active.get(run_id)
        pending = run.pending if run else None
        if pending is not None and pending.request_id == request_id:
            pending.check(value)
            pending.claim(Reply(value=value))
            await pending.settled.wait()
        check_late_input(await history.events(self._journal, run_id), request_id, value)
        return await self.find(run_id, principal)

    def pending(self, run_id: str) -> dict[str, Any] | None:
        """Return the data of the `input_requested` that a run waits on; None if it doesn't wait."""
        run = self._active.get(run_id)
        return run.pending.as_data() if run and run.pending else None

    async def outcome(self, run_id: str) -> Event:
        """Wait for the run's terminal event. Cancelling the wait doesn't affect the run.

        Raises Draining if this server shuts down before the run has ended, and RunNotFound if the log is gone.
        """
        last: Entry | None = None
        batch = Batch([], 0)
        while not batch.ended:
            if batch.drained and await self._is_left_over(run_id):
                raise Draining(
                    "The server is going away; the run goes on: ask for it again soon.", retry_after=BUSY_RETRY
                )
            viewer = await self._bus.attach(run_id, after=batch.cursor)
            try:
                while not (batch := await viewer.next()).drained and not batch.ended:
                    last = batch.entries[-1] if batch.entries else last
            finally:
                viewer.close()
            last = batch.entries[-1] if batch.entries else last
        if last is None or last.event_type not in TERMINAL_TYPES:
            raise RunNotFound  # forgotten meanwhile, or its log can't be read on
        return decode(last.line)

    async def _is_left_over(self, run_id: str) -> bool:
        """Whether the run has no end and is left to the next server. During a drain it may still end here."""
        if self._active.get(run_id) is not None:
            return False
        record = await self._journal.record(run_id)
        return record is not None and not record.ended

    async def forget(self, run_id: str, principal: str) -> bool:
        """Delete a run that has ended, with its log. Return False if it is still active."""
        await self.find(run_id, principal)
        return await self._journal.forget(run_id)

    async def forget_session(self, session_id: str, principal: str) -> None:
        """Delete a session's runs. Raises SessionBusy while one of them is active, and SessionNotFound."""
        page = await self.session(session_id, principal, limit=FORGOTTEN_AT_ONCE)
        if self._active.busy(principal, session_id):
            raise SessionBusy("A run of this session is active; cancel it first.")
        while page:
            await asyncio.gather(*(self._journal.forget(record.run_id) for record in page))
            last = ListPosition(page[-1].created_at, page[-1].run_id)
            page = await self._journal.session(principal, session_id, before=last, limit=FORGOTTEN_AT_ONCE)

    async def _holder(self, principal: str, key: str) -> RunRecord | None:
        """Return the run that holds an idempotency key: an active one, else the journal's."""
        now = self._clock().timestamp()
        active_run = self._active.by_idempotency_key(principal, key)
        if active_run is not None and holds_key(active_run, now):
            return active_run
        return await self._journal.by_idempotency_key(principal, key, now=now)

    def _record(self, question: Question, orchestrator: str) -> RunRecord:
        options: dict[str, Any] = {"by": orchestrator, "review": question.review, "asks": question.asks}
        options["on_disconnect"] = question.on_disconnect
        if question.images:
            options["images"] = question.images
        return RunRecord(
            run_id=self._new_id(),
            principal=question.principal,
            session_id=question.session_id or self._new_id(),
            question=question.text,
            model=self._orchestrators[orchestrator].model,
            created_at=self._clock().timestamp(),
            options=orjson.dumps(options),
            idempotency_key=question.idempotency_key,
            fingerprint=question.fingerprint,
        )


def _check_holder(holder: RunRecord, question: Question) -> None:
    if holder.fingerprint != question.fingerprint:
        raise IdempotencyConflict("This idempotency key belongs to a request with another body.")
    if holder.expired_at is not None:
        raise LogExpired
