"""The runs that are alive in this process: how one begins, goes on after a crash, and is brought to rest."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import orjson

from askstream.server.bus import Bus
from askstream.server.events import Draft, Started
from askstream.server.events.errors import Draining, TooManyRuns
from askstream.server.journal import Journal, RunRecord
from askstream.server.runs import history, recovery
from askstream.server.runs.limits import Limits
from askstream.server.runs.log_writer import Writer
from askstream.server.runs.orchestrator import Orchestrator, Task
from askstream.server.runs.run import SYSTEM, Run
from askstream.server.runs.sessions import IfBusy, Sessions, Turn
from askstream.server.telemetry import StreamLog

# What a refused client is asked to wait, in seconds. A run takes from a few seconds to minutes.
BUSY_RETRY = 5


class Lives:
    """`group` owns the runs' tasks and must outlive every call. `orchestrators` answer, by what a run was started by.

    A run is here from `admit` until its terminal event is durable, or until it is left to the next server.
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
        self._group, self._clock, self._log = group, clock, StreamLog()
        self._runs: dict[str, Run] = {}
        self._keyed: dict[tuple[str, str | None], Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sessions = Sessions(limits.queued)
        self._taking_up = asyncio.Lock()
        self.closed = False

    @property
    def active(self) -> int:
        """Runs whose team is at work, or about to be. One that waits for a human takes up no place."""
        return sum(run.pending is None for run in self._runs.values())

    def get(self, run_id: str) -> Run | None:
        return self._runs.get(run_id)

    def record(self, run_id: str) -> RunRecord | None:
        """The durable record of a run that is alive, without a look at the disk."""
        run = self._runs.get(run_id)
        return run.writer.durable if run else None

    def keyed(self, principal: str, key: str) -> RunRecord | None:
        """The durable record of the run that is alive and was started with this idempotency key."""
        run = self._keyed.get((principal, key))
        return run.writer.durable if run and run.writer.durable.last_id else None

    def busy(self, principal: str, session_id: str) -> bool:
        """Whether a run of the session is alive."""
        return self._sessions.busy(principal, session_id)

    def admit(self, record: RunRecord, if_busy: IfBusy) -> Run:
        """Gives a new run its place. `begin` must follow. Raises Draining, TooManyRuns and SessionBusy."""
        if self.closed:
            raise Draining("The server is going away; ask again soon.", retry_after=BUSY_RETRY)
        if self.active >= self._limits.active_runs:
            most = self._limits.active_runs
            raise TooManyRuns(f"All {most} places for active runs are taken.", retry_after=BUSY_RETRY)
        turn = self._sessions.join(record.principal, record.session_id, if_busy)
        return self._admit(record, _task(record), self._orchestrators[_options(record)["by"]], turn)

    async def begin(self, run: Run, *, alone: bool) -> tuple[RunRecord, bool]:
        """Writes the first event and brings the run to life; its durable record, and whether it is new.

        It isn't where its idempotency key was taken meanwhile: the record is that of the key's holder then. `alone`
        says that it is the first run of its session, so that there is no history to read.
        """
        record = run.writer.record
        started = Started(question=record.question, session_id=record.session_id, model=record.model)
        try:
            entry = run.writer.first(Draft(SYSTEM, "The run has started.", started))
            holder = await self._journal.create(run.writer.record, [entry])
        except BaseException:
            self._gone(run)
            raise
        if holder.run_id != record.run_id:  # another server was first
            self._gone(run)
            return holder, False
        run.writer.created(entry)
        self._bring_to_life(run, alone=alone)
        return run.writer.durable, True

    async def take_up(self, run_id: str) -> None:
        """Goes on with a run that nobody works on, unless it is alive here, has ended, or this server goes away."""
        async with self._taking_up:  # of two who want it at once the second finds it alive
            if run_id not in self._runs and not self.closed:
                record = await self._journal.claim(run_id)
                if record is not None:
                    await self._resume(record)

    async def drain(self, seconds: float) -> None:
        """Admits no more runs, gives those that are active so long to end, then closes."""
        self.closed = True
        working = [task for task in self._tasks if self._is_working(task)]
        if working:
            await asyncio.wait(working, timeout=seconds)
        await self.close()

    async def close(self) -> None:
        """Admits no more runs and stops those that are active, for the next server to go on with if there can be one.

        Returns when they have stopped. Again is fine.
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

    async def _resume(self, record: RunRecord) -> None:
        left = await recovery.look(self._journal, record, self._orchestrators.get(_options(record)["by"]))
        turn = self._sessions.join(record.principal, record.session_id, "resume")
        run = self._admit(record, left.continued(_task(record)), left.team, turn)
        try:
            await run.writer.read_back()
        except BaseException:
            self._gone(run)
            raise
        run.pending, run.resumed_from = left.pending, left.from_id if left.pending is None else None
        self._bring_to_life(run, alone=False)

    def _admit(self, record: RunRecord, task: Task, team: Orchestrator, turn: Turn) -> Run:
        channel = self._bus.open(record.run_id, record.last_id)
        writer = Writer(record, self._journal, channel, self._limits, clock=self._clock, log=self._log)
        run = self._runs[record.run_id] = Run(task, team, writer, self._limits, turn)
        self._keyed[record.principal, record.idempotency_key] = run
        return run

    def _bring_to_life(self, run: Run, *, alone: bool) -> None:
        task = self._group.create_task(self._lives(run, alone=alone), name=run.run_id)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _is_working(self, task: asyncio.Task[None]) -> bool:
        run = self._runs.get(task.get_name())
        return run is not None and run.pending is None

    async def _lives(self, run: Run, *, alone: bool) -> None:
        try:
            await run.live(history.none if alone else lambda: history.before(self._journal, run.writer.record))
        finally:
            self._gone(run)

    def _gone(self, run: Run) -> None:
        del self._runs[run.run_id]
        key = run.writer.record.principal, run.writer.record.idempotency_key
        if self._keyed.get(key) is run:
            del self._keyed[key]
        self._sessions.leave(run.turn)
        self._bus.release(run.writer.channel, writer=True)


def _task(record: RunRecord) -> Task:
    return Task(
        run_id=record.run_id,
        session_id=record.session_id,
        question=record.question,
        review=_options(record)["review"],
        attempt=record.attempt,
    )


def _options(record: RunRecord) -> dict[str, Any]:
    """What the run was started with; another server's record may lack some of it."""
    return {"by": "team", "review": False, **orjson.loads(record.options)}
