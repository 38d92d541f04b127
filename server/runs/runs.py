"""All runs of this process: starting one, finding one, stopping one. A run belongs to the server, not to a viewer."""

import asyncio
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from server.bus import Bus
from server.events import Completed, Draft, Event, Started, decode
from server.events.errors import Draining, IdempotencyConflict, RunFailed, RunNotFound, TooManyRuns
from server.journal import Journal, Page, RunRecord
from server.runs.limits import Limits
from server.runs.orchestrator import Answer, Orchestrator, Sink, Task
from server.runs.run import SYSTEM, Run
from server.runs.writer import Writer

log = logging.getLogger("__main__")

# What a refused client is asked to wait, in seconds. A run takes from a few seconds to minutes.
BUSY_RETRY = 5
# How often a run is taken up. A question that brings the server down must not do so for ever.
ATTEMPTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What somebody asks, after validation. `fingerprint` tells whether two requests with one key are the same."""

    text: str
    principal: str
    session_id: str | None = None
    on_disconnect: str = "continue"
    idempotency_key: str | None = None
    fingerprint: str = ""


def utc_now() -> datetime:
    return datetime.now(UTC)


def random_id() -> str:
    """128 random bits: a run's id is what lets somebody watch it, so nobody may guess one."""
    return secrets.token_hex(16)


class Runs:
    """`group` owns the runs' tasks and must outlive every call."""

    def __init__(
        self,
        journal: Journal,
        bus: Bus,
        orchestrator: Orchestrator,
        limits: Limits,
        *,
        group: asyncio.TaskGroup,
        clock: Callable[[], datetime] = utc_now,
        new_id: Callable[[], str] = random_id,
    ) -> None:
        self._journal, self._bus, self._orchestrator, self._limits = journal, bus, orchestrator, limits
        self._group, self._clock, self._new_id = group, clock, new_id
        self._live: dict[str, Run] = {}
        self._living: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def active(self) -> int:
        return len(self._live)

    def last_id(self, run_id: str) -> int:
        """The newest durable event of a run that is active here, 0 for any other."""
        run = self._live.get(run_id)
        return run.writer.durable.last_id if run else 0

    async def start(self, question: Question, *, orchestrator: Orchestrator | None = None) -> tuple[RunRecord, bool]:
        """Starts a run, or joins the one that holds the question's idempotency key: the record, and whether it is new.

        The first event is durable then. `orchestrator` answers in place of the server's own. Raises TooManyRuns and
        IdempotencyConflict.
        """
        if self._closed:
            raise Draining("The server is going away; ask again soon.", retry_after=BUSY_RETRY)
        if self.active >= self._limits.active_runs:
            raise TooManyRuns(
                f"All {self._limits.active_runs} places for active runs are taken.", retry_after=BUSY_RETRY
            )
        orchestrator = orchestrator or self._orchestrator
        record = self._record(question, orchestrator.model)
        task = Task(run_id=record.run_id, session_id=record.session_id, question=record.question)
        run = self._admit(record, task, orchestrator)
        try:
            holder = await self._create(run.writer)
        except BaseException:
            self._gone(run)
            raise
        if holder.run_id == record.run_id:
            self._bring_to_life(run)
            return run.writer.durable, True
        self._gone(run)
        return self._joined(holder, question), False

    async def find(self, run_id: str, principal: str) -> RunRecord:
        """The run's record as far as it is durable. Raises RunNotFound, also for somebody else's."""
        run = self._live.get(run_id)
        record = run.writer.durable if run else await self._journal.record(run_id)
        if record is None or record.principal != principal or record.last_id == 0:
            raise RunNotFound
        return record

    async def list(self, principal: str, *, before: Page | None = None, limit: int = 50) -> list[RunRecord]:
        """The principal's runs, newest first."""
        return await self._journal.runs(principal, before=before, limit=limit)

    async def cancel(self, run_id: str, principal: str) -> RunRecord:
        """Asks the run to stop and returns at once, with the record as it stands. Again is fine; so is too late."""
        record = await self.find(run_id, principal)
        run = self._live.get(run_id)
        if run is not None:
            run.cancel("client")
        return record

    async def outcome(self, run_id: str) -> Event:
        """Waits for the run's terminal event. Cancelling the wait does nothing to the run."""
        viewer = await self._bus.attach(run_id)
        try:
            while True:
                batch = await viewer.next()
                if batch.ended and batch.entries:
                    return decode(batch.entries[-1].line)
                if batch.ended:
                    raise RunNotFound
        finally:
            viewer.close()

    async def forget(self, run_id: str, principal: str) -> bool:
        """Deletes a run that has ended, with its log. False for one that is still active."""
        await self.find(run_id, principal)
        return await self._journal.forget(run_id)

    async def recover(self) -> None:
        """Takes up what an earlier process left unfinished: no run is ever without a terminal event."""
        for left in await self._journal.unfinished():
            record = await self._journal.claim(left.run_id)
            if record is not None:
                await self._resume(record)

    async def close(self) -> None:
        """Starts no more runs, asks those that are active to stop, and returns when they have. Again is fine."""
        self._closed = True
        for run in self._live.values():
            run.cancel("shutdown")
        while self._living:
            await asyncio.wait(self._living)

    async def _resume(self, record: RunRecord) -> None:
        checkpoint = await self._journal.checkpoint(record.run_id)
        task = Task(
            run_id=record.run_id,
            session_id=record.session_id,
            question=record.question,
            attempt=record.attempt,
            checkpoint=checkpoint.state if checkpoint else None,
        )
        orchestrator = self._orchestrator if record.attempt <= ATTEMPTS else GivenUp()
        run = self._admit(record, task, orchestrator)
        await run.writer.read_back()
        run.resumed_from = checkpoint.last_id if checkpoint else 1
        self._bring_to_life(run)

    def _admit(self, record: RunRecord, task: Task, orchestrator: Orchestrator) -> Run:
        channel = self._bus.open(record.run_id, record.last_id)
        writer = Writer(record, self._journal, channel, self._limits, clock=self._clock)
        run = self._live[record.run_id] = Run(task, orchestrator, writer, self._limits)
        return run

    def _record(self, question: Question, model: str) -> RunRecord:
        return RunRecord(
            run_id=self._new_id(),
            principal=question.principal,
            session_id=question.session_id or self._new_id(),
            question=question.text,
            model=model,
            created_at=self._clock().timestamp(),
            options=orjson.dumps({"on_disconnect": question.on_disconnect}),
            idempotency_key=question.idempotency_key,
            fingerprint=question.fingerprint,
        )

    async def _create(self, writer: Writer) -> RunRecord:
        record = writer.record
        started = Started(question=record.question, session_id=record.session_id, model=record.model)
        entry = writer.first(Draft(SYSTEM, "The run has started.", started))
        holder = await self._journal.create(writer.record, [entry])
        if holder.run_id == record.run_id:
            writer.created(entry)
        return holder

    def _joined(self, holder: RunRecord, question: Question) -> RunRecord:
        if holder.fingerprint != question.fingerprint:
            raise IdempotencyConflict("This idempotency key belongs to a request with another body.")
        return holder

    def _bring_to_life(self, run: Run) -> None:
        task = self._group.create_task(self._lives(run), name=f"run {run.writer.record.run_id}")
        self._living.add(task)
        task.add_done_callback(self._living.discard)

    async def _lives(self, run: Run) -> None:
        try:
            await run.live()
        finally:
            self._gone(run)

    def _gone(self, run: Run) -> None:
        del self._live[run.writer.record.run_id]
        self._bus.release(run.writer.channel, writer=True)


class GivenUp:
    """Stands in for the team of a run under which the server has died again and again."""

    model = "none"

    async def run(self, task: Task, sink: Sink) -> Answer:
        raise RunFailed("interrupted", f"The server stopped {ATTEMPTS} times while this run was going on.")


def response(event: Event) -> str | None:
    """The final response that a terminal event carries, None where the run didn't complete."""
    return event.body.final_response if isinstance(event.body, Completed) else None
