"""One run while it is alive: the team at work, its limits, and exactly one terminal event whatever is raised."""

import asyncio
import contextlib
import logging
import time

from server.events import Cancelled, CancelReason, Completed, Draft, Failed, Resumed
from server.events.errors import AskstreamError, JournalError, RunFailed
from server.journal import State
from server.runs.limits import Limits
from server.runs.orchestrator import Answer, Orchestrator, Task
from server.runs.writer import Writer

log = logging.getLogger("__main__")

SYSTEM = "System"
_STOPPED: dict[CancelReason, str] = {
    "client": "The run was stopped on request.",
    "orphaned": "The run was stopped: nobody was watching it any more.",
    "timeout": "The run was stopped: it took longer than allowed.",
    "shutdown": "The run was stopped: the server is going away.",
}


class Run:
    """Call `live` once, as a task; `cancel` at any time, any number of times."""

    def __init__(self, task: Task, orchestrator: Orchestrator, writer: Writer, limits: Limits) -> None:
        self._task, self._orchestrator, self.writer, self._limits = task, orchestrator, writer, limits
        self.resumed_from: int | None = None  # the checkpoint's event, for a run that goes on after a crash
        self._reason: CancelReason | None = None
        self._stop = asyncio.Event()
        self._began = time.monotonic()

    def cancel(self, reason: CancelReason) -> None:
        """Returns at once; the first reason given is the one that is told."""
        self._reason = self._reason or reason
        self._stop.set()

    async def live(self) -> None:
        """Returns when the terminal event is durable, or when the log can't be written."""
        pump = asyncio.ensure_future(self.writer.pump())
        try:
            await self._tell_resumed()
            await self._end(await self._answered())
        except JournalError as problem:
            log.error("run=%s ends without a terminal event: %s", self._task.run_id, problem)
        finally:
            pump.cancel()
            await asyncio.wait({pump})

    async def _tell_resumed(self) -> None:
        if self.resumed_from is not None:
            body = Resumed(attempt=self._task.attempt, from_id=self.resumed_from)
            await self.writer.emit(Draft(SYSTEM, "The run goes on after an interruption.", body))

    async def _answered(self) -> Answer | AskstreamError | CancelReason:
        """What became of the question. Waits for the team, for a limit, or for a cancel; leaves no task behind."""
        answering = asyncio.ensure_future(self._orchestrator.run(self._task, self.writer))
        stopping = asyncio.ensure_future(self._stopped())
        try:
            await asyncio.wait({answering, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            answering.cancel()
            await asyncio.wait({answering}, timeout=self._limits.cancel_seconds)
        if not answering.done():
            log.error("run=%s: the team did not stop in time and was given up", self._task.run_id)
        if answering.done() and not answering.cancelled():
            return self._outcome(answering)
        return self._reason or "shutdown"

    def _outcome(self, answering: asyncio.Future[Answer]) -> Answer | AskstreamError | CancelReason:
        problem = answering.exception()
        if problem is None:
            return answering.result()
        if self._reason is not None:
            return self._reason
        if isinstance(problem, AskstreamError):
            return problem
        log.error("run=%s failed: %s", self._task.run_id, type(problem).__name__)
        log.debug("run=%s failed", self._task.run_id, exc_info=problem)
        return RunFailed("internal", "The server failed while it was working on this question.")

    async def _stopped(self) -> None:
        """Returns when a cancel was asked for or a limit has passed."""
        deadline = self._began + self._limits.run_seconds
        heard, quiet_since = self.writer.emitted, time.monotonic()
        while self._reason is None:
            now = time.monotonic()
            if heard != self.writer.emitted:
                heard, quiet_since = self.writer.emitted, now
            left = min(deadline, quiet_since + self._limits.silence_seconds) - now
            if left <= 0:
                self.cancel("timeout")
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._stop.wait()

    async def _end(self, outcome: Answer | AskstreamError | CancelReason) -> None:
        try:
            await self.writer.end(*self._terminal(outcome))
        except RunFailed as problem:  # the answer doesn't fit into an event
            await self.writer.end(*self._terminal(problem))

    def _terminal(self, outcome: Answer | AskstreamError | CancelReason) -> tuple[Draft, State]:
        match outcome:
            case Answer():
                return Draft(outcome.agent_name, "The team has finished.", self._completed(outcome)), "completed"
            case RunFailed():
                return Draft(SYSTEM, str(outcome), Failed(error=outcome.code)), "failed"
            case AskstreamError():
                return self._terminal(RunFailed("internal", "The server could not record this run."))
            case _:
                return Draft(SYSTEM, _STOPPED[outcome], Cancelled(reason=outcome)), "cancelled"

    def _completed(self, answer: Answer) -> Completed:
        return Completed(
            final_response=answer.final_response,
            total_messages=answer.total_messages,
            response_length=len(answer.final_response),
            usage=answer.usage,
            duration_ms=round((time.monotonic() - self._began) * 1000),
        )
