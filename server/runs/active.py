"""The runs that are active in this process: starts them, resumes them after a crash, and stops them."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

import orjson

from askstream.server.bus import Bus
from askstream.server.events import Draft, Resumed, Started
from askstream.server.events.errors import Draining, JournalError
from askstream.server.foreign import Contained
from askstream.server.journal import Journal, RunRecord
from askstream.server.runs import recovery
from askstream.server.runs.admission import BUSY_RETRY, Admission
from askstream.server.runs.history import earlier
from askstream.server.runs.limits import Limits
from askstream.server.runs.log_writer import Burst, LogWriter
from askstream.server.runs.orchestrator import Orchestrator, Task
from askstream.server.runs.recovery import Recovered, Work
from askstream.server.runs.run import SYSTEM, Run
from askstream.server.runs.sessions import IfBusy, Sessions, SessionSlot
from askstream.server.telemetry import StreamLog

log = logging.getLogger("__main__")

# In the place of an orchestrator's name: the record's options can't be read.
_DAMAGED = ""


class ActiveRuns:
    """`group` owns the runs' tasks and must outlive every call. `orchestrators` answer, by the name in a run's options.

    A run is here from `start` until its terminal event is durable, or until it is left to the next server.
    """

    def __init__(
        self,
        journal: Journal,
        bus: Bus,
        orchestrators: Mapping[str, Orchestrator],
        limits: Limits,
        *,
        group: asyncio.TaskGroup,
        clock: Callable[[], datetime],
    ) -> None:
        self._journal, self._bus, self._orchestrators, self._limits = journal, bus, orchestrators, limits
        self._group, self._clock, self._log, self._burst = group, clock, StreamLog(), Burst(journal)
        self._runs: dict[str, Run] = {}
        self._by_key: dict[tuple[str, str | None], Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sessions, self._admission = Sessions(limits.queued), Admission(limits)
        self._resuming = asyncio.Lock()
        self._has_recovered = False
        self._may_start = asyncio.Event()  # new runs wait while a run is tried alone that may have ended the server
        self._may_start.set()
        self.closed = False

    @property
    def working(self) -> int:
        """Runs whose team works, or is about to. A run that waits for a human doesn't count."""
        return sum(run.pending is None for run in self._runs.values())

    def get(self, run_id: str) -> Run | None:
        return self._runs.get(run_id)

    def record(self, run_id: str) -> RunRecord | None:
        """The durable record of an active run, without reading the disk."""
        run = self._runs.get(run_id)
        return run.writer.durable if run else None

    def by_idempotency_key(self, principal: str, key: str) -> RunRecord | None:
        """The durable record of the active run that was started with this key."""
        run = self._by_key.get((principal, key))
        return run.writer.durable if run and run.writer.durable.last_id else None

    def busy(self, principal: str, session_id: str) -> bool:
        """Whether a run of the session is active."""
        return self._sessions.busy(principal, session_id)

    async def start(self, record: RunRecord, if_busy: IfBusy, *, is_first: bool) -> tuple[RunRecord, bool]:
        """Start a run. Return its durable record and whether it is new. `is_first`: its session has no history to read.

        If another run took the idempotency key meanwhile, return that run's record. Raises Draining, SessionBusy and
        what Admission raises.
        """
        if self.closed:
            raise Draining("The server is going away; ask again soon.", retry_after=BUSY_RETRY)
        self._admission.check(record.principal, self._runs.values())
        slot = self._sessions.join(record.principal, record.session_id, if_busy)
        task, name = _task(record)
        run = self._add(record, task, self._orchestrators[name], slot)
        # The client may disconnect before the journal has answered. A run that the journal holds must go on.
        return await asyncio.shield(self._begin(run, task.images, is_first=is_first))

    async def _begin(self, run: Run, images: tuple[str, ...], *, is_first: bool) -> tuple[RunRecord, bool]:
        new = run.writer.created
        started = Started(question=new.question, session_id=new.session_id, model=new.model, images=images or None)
        try:
            holder = await run.writer.begin(Draft(SYSTEM, "The run has started.", started))
        except BaseException:
            self._remove(run)
            raise
        if holder.run_id != run.run_id:  # another server was first
            self._remove(run)
            return holder, False
        run.may_begin = self._may_start
        self._spawn(run, is_first=is_first)
        return holder, True

    async def resume(self, run_id: str) -> None:
        """Resume a run that no server works on. No effect if it is active here, has ended, or this server drains."""
        async with self._resuming:  # the second of two calls at once finds the run active
            found = await self._recovered(run_id)
            if found is not None:
                await self._resume(*found)

    async def recover(self, ready: asyncio.Future[Any] | None = None) -> None:
        """Goes on with all runs that nobody works on. The first call finds those of a server that died, and decides in
        which order they begin; `ready` is done when their teams can begin. A run that can't be read is tried again.

        Raises JournalError.
        """
        async with self._resuming:
            unfinished = [record.run_id for record in await self._journal.unfinished()]
            found: list[tuple[RunRecord, Recovered]] = []
            for run_id in unfinished:
                with _logged(run_id):
                    found += filter(None, [await self._recovered(run_id)])
            plan = recovery.Plan(found, one_by_one=False) if self._has_recovered else recovery.plan(found)
            self._has_recovered = True
            runs: list[tuple[Run, Work]] = []
            for record, run in plan.runs:
                with _logged(record.run_id):
                    resumed = await self._resume(record, run, ready=ready, waits=plan.one_by_one)
                    runs.append((resumed, run.work))
            if plan.one_by_one:
                self._group.create_task(self._begin_one_by_one(runs))

    async def _recovered(self, run_id: str) -> tuple[RunRecord, Recovered] | None:
        """Claims a run, and reads where it goes on. None if it is active here, has ended, or this server goes away."""
        if run_id in self._runs or self.closed:
            return None
        record = await self._journal.claim(run_id)
        if record is None:
            return None
        name = _task(record)[1]
        if name == _DAMAGED:
            return record, recovery.damaged()
        return record, await recovery.recover(self._journal, record, self._orchestrators.get(name))

    async def drain(self, seconds: float) -> None:
        """Admit no more runs, give the working ones `seconds` to end, then close."""
        self.closed = True
        working = [task for task in self._tasks if self._is_working(task)]
        if working:
            await asyncio.wait(working, timeout=seconds)
        await self.close()

    async def close(self) -> None:
        """Admit no more runs and stop the active ones; if the journal survives, the next server resumes them.

        Return when they have stopped. Idempotent.
        """
        self.closed = True
        for run in self._runs.values():
            if self._journal.survives:
                run.suspend()
            else:
                run.cancel("shutdown")
        while self._tasks:
            await asyncio.wait(self._tasks)
        self._log.close()

    async def _resume(
        self,
        record: RunRecord,
        found: Recovered,
        *,
        ready: asyncio.Future[Any] | None = None,
        waits: bool = False,
    ) -> Run:
        if found.pending is None:
            record = replace(record, state="running")  # a wait in memory is over
        slot = self._sessions.join(record.principal, record.session_id, "resume")
        run = self._add(record, found.resumed(_task(record)[0]), found.orchestrator, slot)
        try:
            await run.writer.count_earlier()
        except BaseException:
            self._remove(run)
            raise
        run.pending = found.pending
        if found.pending is None:
            run.ready = ready
            charges = found.work.charges or None
            run.resumed = Resumed(attempt=record.attempt, from_id=found.from_id, charges=charges)
            if waits:
                run.may_begin.clear()
        self._spawn(run, is_first=False)
        return run

    async def _begin_one_by_one(self, runs: Sequence[tuple[Run, Work]]) -> None:
        """Lets each run begin when the one before has finished a turn, or has had its time."""
        try:
            for run, work in runs:
                if work.is_held_alone:
                    self._may_start.clear()
                run.may_begin.set()
                if run.pending is None and run.slot.may_start.is_set():
                    await run.begun.wait()
                    await self._until_turn_finished(run, work.probe_seconds)
                self._may_start.set()
        finally:
            self._may_start.set()

    async def _until_turn_finished(self, run: Run, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await run.writer.turn_finished.wait()

    def _add(self, record: RunRecord, task: Task, orchestrator: Orchestrator, slot: SessionSlot) -> Run:
        channel = self._bus.open(record.run_id, record.last_id)
        writer = LogWriter(
            record, self._journal, channel, self._limits, clock=self._clock, log=self._log, burst=self._burst
        )
        run = self._runs[record.run_id] = Run(task, orchestrator, writer, self._limits, slot)
        self._by_key[record.principal, record.idempotency_key] = run
        return run

    def _spawn(self, run: Run, *, is_first: bool) -> None:
        history = None if is_first else partial(earlier, self._journal, run.writer.created)
        task = self._group.create_task(run.run(history, self._remove), name=run.run_id)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _is_working(self, task: asyncio.Task[None]) -> bool:
        run = self._runs.get(task.get_name())
        return run is not None and run.pending is None

    def _remove(self, run: Run) -> None:
        del self._runs[run.run_id]
        key = run.writer.created.principal, run.writer.created.idempotency_key
        if self._by_key.get(key) is run:
            del self._by_key[key]
        self._sessions.leave(run.slot)
        self._bus.release(run.writer.channel, writer=True)


def _task(record: RunRecord) -> tuple[Task, str]:
    """The task of a run, and the name of its orchestrator. Another server's record may lack some options."""
    options: dict[str, Any] = {"by": "team", "review": False, "asks": True, "images": ()}
    try:
        options.update(orjson.loads(record.options))
    except (ValueError, TypeError):
        log.exception("run=%s has damaged options", record.run_id)
        options["by"] = _DAMAGED
    task = Task(
        run_id=record.run_id,
        session_id=record.session_id,
        question=record.question,
        images=tuple(options["images"]),
        review=options["review"],
        asks=options["asks"],
        attempt=record.attempt,
        principal=record.principal,
    )
    return task, options["by"]


@contextlib.contextmanager
def _logged(run_id: str) -> Generator[None]:
    """Log a failure that must not keep other runs from going on. The next `recover` tries again."""
    try:
        with Contained():
            yield
    except JournalError as problem:
        log.error("run=%s can't be resumed: %s", run_id, problem)
    except Exception:
        log.exception("run=%s can't be resumed", run_id)
