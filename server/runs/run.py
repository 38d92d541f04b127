"""One run while it is active: the team's work, a human's replies, limits, and exactly one terminal event at the end.

run:  [slot of its session] -> team -> Answer ------------------------> completed
                                 ^ |-> RunFailed, any other error -----> error
                                 | |-> Inquiry -> waits for a human -+
                                 +---- Reply <-----------------------+
       a team that can't be saved calls Sink.ask instead, and waits for the human in memory
       cancel, a limit, nobody watches -> cancelled;   suspend -> no terminal event: the next server resumes it

A run's life
============

    state      meaning                                               state in the journal
    queued     waits for the slot of its session                     running, or waiting
    working    the team's task runs                                  running
    waiting    a human is asked; there is no team, or it called ask  waiting
    ending     the outcome is fixed; its terminal event is written   as before
    ended      the terminal event is durable                         completed, failed or cancelled
    left       this process works on it no more                      as before: a server resumes it

    from                        to        when
    (new)                       queued    `started` is durable; or the journal has given a resumed run to us (`claim`)
    queued                      working   the slot is free
    queued                      waiting   the same, for a resumed run whose question nobody has answered
    working                     waiting   the team returns an Inquiry, or calls Sink.ask
    waiting                     working   the first reply: a human's, or that nobody answered before the deadline
    working                     ending    the team returns an Answer or raises, or a deadline has passed
    queued, working, waiting    ending    `cancel`; or an error, as when a full log has no room for `resumed`
    queued, working, waiting    left      `suspend`, after the events so far are durable
    ending                      ended     the terminal event is durable
    any but ended               left      JournalError: the log can't be written, or another server has claimed the run

The log is durable in this order, and a viewer sees nothing earlier:

1. `started`, before the team exists: no model is called for a run that a crash could lose.
2. Events, those of one loop iteration together. A checkpoint is durable together with all events before it.
3. `input_requested`, the checkpoint and the state `waiting` together, before the wait begins. Sink.ask brings no
   checkpoint: the run is resumed from an earlier one, or not at all.
4. `input_resolved` and the state `running` together. After that the human's request is answered, and the team begins.
5. The terminal event, the final state and the digest together.

`cancel` also cancels the team's task, and waits `cancel_seconds` for its end. A team that ignores this is given up: it
may go on, but `emit` refuses its events. An Answer that the team returned in time still completes the run. Deadlines
cancel with `timeout` or `orphaned`, and only while the team works. The limits on messages and sizes raise RunFailed
from `emit`. `suspend` stops the team in the same way; until it has stopped, `cancel` overrides `suspend`.

A run has one terminal event. At least one: a run without it stays unfinished in the journal, is resumed, and ends as
`interrupted` if a turn was begun too often. At most one: `run` writes it last, `end` makes `emit` refuse, and the
journal gives an ended run to no server and refuses the appends of a server that no longer has the run.

The order in 4 matters. If the human's request were answered once the reply is claimed, before it is durable:

    human      posts "yes"; the reply is claimed in memory, the answer is 200
    server     dies before `input_resolved` is durable
    next one   resumes the run, finds the question open, and waits; the acknowledged reply is lost
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, Literal, TypeAlias

from askstream.server.events import Cancelled, CancelReason, Completed, Draft, Failed, Resumed, ToolExecution
from askstream.server.events.errors import AskstreamError, JournalError, RunFailed
from askstream.server.foreign import ContainedCoroutine
from askstream.server.journal import RunState
from askstream.server.runs.history import Past
from askstream.server.runs.human_input import PendingInput, Questions
from askstream.server.runs.limits import Limits, RunDeadlines
from askstream.server.runs.log_writer import LogWriter
from askstream.server.runs.orchestrator import Answer, Inquiry, Orchestrator, Reply, Task
from askstream.server.runs.sessions import SessionSlot
from askstream.server.scheduling import FIRST_EVENT_ITERATIONS

log = logging.getLogger("__main__")

SYSTEM = "System"
_CANCEL_MESSAGES: dict[CancelReason, str] = {
    "client": "The run was stopped on request.",
    "orphaned": "The run was stopped: nobody was watching it any more.",
    "timeout": "The run was stopped: it took longer than allowed.",
    "shutdown": "The run was stopped: the server is going away.",
}
Suspend: TypeAlias = Literal["suspended"]
Outcome: TypeAlias = Answer | AskstreamError | CancelReason | Suspend
History: TypeAlias = Callable[[], Awaitable[Past]]


@dataclass(slots=True)
class TeamSink:
    """The `Sink` of one stretch of a team's work. Bound methods as attributes: a method here would be one call more for
    each event. Any, since a type checker doesn't take attributes for methods with named parameters."""

    emit: Any
    checkpoint: Any
    ask: Any
    watched: Any


class Run:
    """Call `run` once, as a task; `cancel` and `suspend` at any time, any number of times.

    `pending` is the open question to a human, else None. `begun` is set when a resumed run's team begins to work;
    `may_begin` delays that. `begun` is also set when the run has ended.
    """

    def __init__(
        self, task: Task, orchestrator: Orchestrator, writer: LogWriter, limits: Limits, slot: SessionSlot
    ) -> None:
        self._task, self._orchestrator, self.writer, self._limits = task, orchestrator, writer, limits
        self.run_id, self.principal, self.slot = task.run_id, task.principal, slot
        self.resumed: Resumed | None = None  # for a run that goes on after a crash
        self.ready: asyncio.Future[Any] | None = None  # what a resumed run's team needs, such as its libraries
        self.may_begin, self.begun = asyncio.Event(), asyncio.Event()
        self.may_begin.set()
        self.pending: PendingInput | None = None
        self._stop_with: CancelReason | Suspend | None = None
        self._stop: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._began = monotonic()
        self._silent = False  # the reason "timeout" means silence
        self._team_seconds = 0.0  # of the team's work; waiting for a human doesn't count

    def cancel(self, reason: CancelReason) -> None:
        """Return at once. The first reason given is the one that is logged. Overrides `suspend`."""
        if self._stop_with in (None, "suspended"):
            self._stop_with = reason
        self._set_stopped()

    def suspend(self) -> None:
        """Stop the team and leave the run unfinished in the journal, for the next server to resume."""
        self._stop_with = self._stop_with or "suspended"
        self._set_stopped()

    def _set_stopped(self) -> None:
        if not self._stop.done():
            self._stop.set_result(None)

    async def run(self, history: History | None, ended: Callable[["Run"], None]) -> None:
        """Return when the terminal event is durable, the run is suspended, or the log can't be written.

        `history` returns the session's earlier exchanges and is called once the run has its slot; None if there are
        none. `ended` is called last, whatever happens.
        """
        try:
            try:
                outcome = await self._outcome(history)
            except (JournalError, asyncio.CancelledError):
                raise
            except BaseException as problem:  # noqa: BLE001 - the edge of the run's task; it would end the server
                outcome = self._failed(problem)
            await self._end(outcome)
        except JournalError as problem:
            log.error("run=%s ends without a terminal event: %s", self.run_id, problem)
        except asyncio.CancelledError:
            raise
        except BaseException:
            log.exception("run=%s ends without a terminal event", self.run_id)
        finally:
            self.writer.close()
            self.begun.set()
            self.writer.turn_finished.set()
            if self.pending is not None:  # the log can't be written: `submit_input` must not wait for ever
                self.pending.settled.set()
            ended(self)

    async def _outcome(self, history: History | None) -> Outcome:
        for _ in range(FIRST_EVENT_ITERATIONS):
            await asyncio.sleep(0)
        if not (self.slot.may_start.is_set() and self.may_begin.is_set()) or self.ready is not None:
            await self._until_it_may_begin()
        if self._stop_with is not None:
            return self._stop_with
        if history is not None:
            past = await history()
            self._task = replace(self._task, history=past.exchanges, session_state=past.state)
        if self.resumed is not None:
            await self.writer.emit(Draft(SYSTEM, "The run goes on after an interruption.", self.resumed))
            await self.writer.flush()  # the team may bring the server down: the next one must know who was at work
            self.begun.set()
        outcome = await self._run_team() if self.pending is None else await self._wait_for_human(self.pending)
        while isinstance(outcome, Inquiry):
            self.pending = PendingInput.of(outcome, self._limits.input_seconds, self.writer.now())
            await self.writer.wait_for_human(self.pending.requested(), outcome.state)
            outcome = await self._wait_for_human(self.pending)
        return outcome

    async def _until_it_may_begin(self) -> None:
        """Waits for the run's turn in its session and after a crash, or for a stop."""
        for event in (self.slot.may_start, self.may_begin):
            if not event.is_set():
                await self._until_set(event)
        if self.ready is not None:
            await asyncio.wait((self.ready, self._stop), return_when=asyncio.FIRST_COMPLETED)

    async def _wait_for_human(self, pending: PendingInput) -> Outcome | Inquiry:
        """Wait for a reply, then run the team with it. If nobody answers in time, the reply says so."""
        reply = await self._reply_to(pending)
        if reply is None:
            return self._stop_with or "shutdown"
        self._task = replace(self._task, checkpoint=pending.state, reply=reply)
        return await self._run_team()

    async def _reply_to(
        self, pending: PendingInput, team_task: asyncio.Future[Any] | None = None, *withdrawn: asyncio.Future[Any]
    ) -> Reply | None:
        """Return the reply; it may say that nobody answered before the deadline, or before one of `withdrawn` was done.
        Return None if the run must stop, or `team_task` has ended first."""
        ends = (team_task,) if team_task else ()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pending.seconds_left(self.writer.now())):
                    await self._until_set(pending.claimed, *ends, *withdrawn)
            if self._stop_with is not None or any(end.done() for end in ends):
                return None
            pending.claim(Reply(value=None, answered=False))
            await self.writer.end_wait(pending.resolved())
        finally:
            self.pending = None
            pending.settled.set()
        return pending.reply

    async def _ask_in_memory(
        self, inquiry: Inquiry, answer: asyncio.Future[Reply], team_task: asyncio.Future[Any], deadlines: RunDeadlines
    ) -> None:
        """Ask a human while the team's task stays alive. `answer` gets the reply."""
        self.pending = PendingInput.of(inquiry, self._limits.input_seconds, self.writer.now())
        deadlines.pause(monotonic())
        try:
            await self.writer.wait_for_human(self.pending.requested(), None)
            reply = await self._reply_to(self.pending, team_task, answer)
        finally:
            self.pending = None
            deadlines.resume(monotonic())
        if reply is not None and not answer.done():
            answer.set_result(reply)

    async def _run_team(self) -> Outcome | Inquiry:
        """Run the team until it answers, reaches a limit or must stop. A task that ignores its cancel is given up."""
        began = monotonic()
        deadlines = RunDeadlines(
            limits=self._limits,
            began=began,
            earlier_seconds=self._team_seconds,
        )
        questions = Questions(asyncio.get_running_loop().create_future())
        sink = TeamSink(self.writer.emit, self.writer.checkpoint, questions.ask, self.writer.watched)
        team_task = asyncio.ensure_future(ContainedCoroutine(self._orchestrator.run(self._task, sink)))
        try:
            await self._watch_deadlines(team_task, deadlines, questions)
        finally:
            self._team_seconds = deadlines.seconds(monotonic())
            team_task.cancel()
            await asyncio.wait({team_task}, timeout=self._limits.cancel_seconds)
        if not team_task.done():
            log.error("run=%s: the team did not stop in time and was given up", self.run_id)
        if team_task.done() and not team_task.cancelled():
            return self._result_of(team_task)
        return self._stop_with or "shutdown"

    def _result_of(self, team_task: "asyncio.Future[Answer | Inquiry]") -> Outcome | Inquiry:
        problem = team_task.exception()
        if problem is None:
            return team_task.result()
        return self._stop_with or self._failed(problem)

    def _failed(self, problem: BaseException) -> AskstreamError:
        if isinstance(problem, AskstreamError):
            return problem
        log.error("run=%s failed", self.run_id, exc_info=problem)
        return RunFailed("internal", "The server failed while it was working on this question.")

    async def _watch_deadlines(
        self, team_task: asyncio.Future[Any], deadlines: RunDeadlines, questions: Questions
    ) -> None:
        """Return when the team has answered, or has to stop. Until then ask its questions in memory."""
        channel = self.writer.channel
        while not team_task.done() and self._stop_with is None:
            if questions.asked.done() and (question := questions.next()) is not None:
                await self._ask_in_memory(*question, team_task, deadlines)
                continue
            match deadlines.check(
                monotonic(),
                last_sign=self.writer.last_sign,
                watched=self.writer.watched_calls > 0,
                viewers=channel.viewers,
                unwatched_since=channel.unwatched_since,
            ):
                case str() as reason:
                    self._silent = deadlines.silent
                    self.cancel(reason)
                case seconds:
                    wakers = team_task, self._stop, questions.asked
                    await asyncio.wait(wakers, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)

    async def _until_set(self, event: asyncio.Event, *others: asyncio.Future[Any]) -> None:
        """Return when `event` is set, one of `others` is done, or the run must stop. Safe to cancel."""
        waiting = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait((waiting, self._stop, *others), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()

    async def _end(self, outcome: Outcome) -> None:
        if outcome == "suspended":
            await self.writer.flush()
            outcome = self._stop_with or outcome  # a cancel that came meanwhile was acknowledged
        if outcome == "suspended":
            await self.writer.release()
            return
        left = outcome.session_state if isinstance(outcome, Answer) else None
        try:
            await self.writer.end(*self._terminal(outcome), session_state=left)
        except RunFailed as problem:  # the answer doesn't fit into an event
            await self.writer.end(*self._terminal(problem))

    def _terminal(self, outcome: Answer | AskstreamError | CancelReason) -> tuple[Draft, RunState]:
        match outcome:
            case Answer():
                return Draft(outcome.agent_name, "The team has finished.", self._completed(outcome)), "completed"
            case RunFailed():
                return Draft(SYSTEM, str(outcome), Failed(error=outcome.code)), "failed"
            case AskstreamError():
                return self._terminal(RunFailed("internal", "The server could not record this run."))
            case "timeout" if self._silent:
                return Draft(SYSTEM, self._silence(), Cancelled(reason=outcome)), "cancelled"
            case _:
                return Draft(SYSTEM, _CANCEL_MESSAGES[outcome], Cancelled(reason=outcome)), "cancelled"

    def _silence(self) -> str:
        """The sentence for a run that was silent for too long: for how long, and since what."""
        text = f"The run was stopped: it gave no sign of life for {self._limits.silence_seconds:g} s"
        match self.writer.last_draft:
            case Draft(agent_name=name, body=ToolExecution(status="started", tool_name=tool)):
                return f"{text}, while {name} waited for the tool {tool}."
            case Draft(agent_name=name):
                return f"{text}; the last came from {name}."
            case None:
                return f"{text} at all."

    def _completed(self, answer: Answer) -> Completed:
        return Completed(
            final_response=answer.final_response,
            total_messages=answer.total_messages,
            response_length=len(answer.final_response),
            usage=answer.usage,
            duration_ms=round((monotonic() - self._began) * 1000),
            answered_by=answer.agent_name,
            stop_reason=answer.stop_reason,
        )
