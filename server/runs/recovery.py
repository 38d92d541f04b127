"""Finds in the journal where runs resume after their server died, and in which order.

A crash is not charged to runs that merely ran at the same time:

- After a first crash all runs resume at once.
- If the server dies again before a resumed run has finished a turn, runs resume one by one: the next one when the one
  before has finished a turn, or after PROBE_SECONDS.
- Only a run that was at work alone when the server died is charged. After MOST_CHARGES it is given up.

The log has all that this needs. Each server claims every unfinished run at its start, which counts the run's attempt
up; the run's team writes `resumed`, with that attempt, when it begins to work. So a run was at work when its server
died if its last `resumed` has the record's attempt. A server that stops in order claims the runs that it leaves once
more: nobody was at work on them.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from askstream.server.events import Event, InputRequested, InputResolved, Resumed, Started
from askstream.server.events.errors import FailureCode, RunFailed
from askstream.server.journal import Checkpoint, Journal, RunRecord
from askstream.server.runs import history
from askstream.server.runs.human_input import PendingInput, reply_to
from askstream.server.runs.orchestrator import Answer, Orchestrator, Reply, Sink, Task

log = logging.getLogger("__main__")

# Crashes during which a run was at work alone. A question that brings the server down must not do so for ever.
MOST_CHARGES = 5
# Seconds until the next run resumes, if the one before hasn't finished a turn.
PROBE_SECONDS = 2.0
# A turn that was begun so often, and never finished, gets twice the time at each further start, and new runs wait
# meanwhile: else a run whose crash comes late would never be at work alone, and the server would crash for ever.
SUSPICIOUS_TRIES = 3
_MOST_DOUBLINGS = 8

DAMAGED = "What the server recorded about this run is damaged, so it can't go on. Ask again."


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The work on a run's current turn, as the log shows it.

    `was_active`: its team was at work when its server ended. `was_resumed`: after an earlier crash. `finished_turn`:
    since it began or was resumed. `tries`: how often the turn was begun again. `began_at`: the last time.
    """

    was_active: bool = False
    was_resumed: bool = False
    finished_turn: bool = False
    tries: int = 0
    charges: int = 0
    began_at: float = 0.0

    @property
    def is_suspect(self) -> bool:
        return self.charges > 0 or (self.was_active and not self.finished_turn)

    @property
    def is_held_alone(self) -> bool:
        """Whether new runs wait while it is tried."""
        return self.tries >= SUSPICIOUS_TRIES

    @property
    def probe_seconds(self) -> float:
        return PROBE_SECONDS * 2.0 ** min(max(self.tries - SUSPICIOUS_TRIES, 0), _MOST_DOUBLINGS)


@dataclass(frozen=True, slots=True)
class Recovered:
    """The state of a run that an earlier server left: its checkpoint, a human's answer to it, or the wait for one.

    `from_id` is the last event that counts; `orchestrator` repeats the work after it. `is_untouched`: its team has done
    nothing yet.
    """

    from_id: int
    orchestrator: Orchestrator
    state: bytes | None = None
    reply: Reply | None = None
    pending: PendingInput | None = None
    is_untouched: bool = False
    work: Work = Work()

    def resumed(self, task: Task) -> Task:
        attempt = 1 if self.is_untouched else task.attempt
        return replace(task, checkpoint=self.state, reply=self.reply, attempt=attempt)

    def judged(self) -> "Recovered":
        """The same, given up if it was charged too often."""
        if self.pending is not None or self.work.charges < MOST_CHARGES:
            return self
        why = f"The server stopped {MOST_CHARGES} times while only this run was at work."
        return replace(self, orchestrator=Unavailable("interrupted", why))


async def recover(journal: Journal, record: RunRecord, orchestrator: Orchestrator | None) -> Recovered:
    """Recovers an unfinished run whose record was just claimed. A damaged one can't go on: its orchestrator says so.

    `orchestrator` is None if this server lacks the one that began the run. Raises JournalError.
    """
    try:
        return await _recover(journal, record, orchestrator)
    except (ValueError, TypeError, LookupError, AttributeError):
        log.exception("run=%s can't be read", record.run_id)
        return damaged()


def damaged() -> Recovered:
    """The state of a run whose record or log can't be read: it ends as `internal`."""
    return Recovered(1, Unavailable("internal", DAMAGED))


async def _recover(journal: Journal, record: RunRecord, orchestrator: Orchestrator | None) -> Recovered:
    checkpoint = await journal.checkpoint(record.run_id)
    from_id = checkpoint.last_id if checkpoint else 1
    tail = await history.events(journal, record.run_id, from_id - 1)
    resumptions = await history.events(journal, record.run_id, only="resumed")
    work = _work(record, checkpoint, resumptions, tail)
    if orchestrator is None:
        why = "What was to answer is not part of this server any more."
        return Recovered(from_id, Unavailable("interrupted", why), work=work)
    asked = tail[0] if checkpoint and tail and isinstance(tail[0].body, InputRequested) else None
    reply = reply_to(asked.body.request_id, tail) if asked and isinstance(asked.body, InputRequested) else None
    state = checkpoint.state if checkpoint else None
    if asked is not None and state is not None and reply is None:
        return Recovered(asked.id, orchestrator, pending=PendingInput.from_log(asked, state))
    untouched = checkpoint is None and all(isinstance(event.body, Started | Resumed) for event in tail)
    return Recovered(asked.id + 1 if asked else from_id, orchestrator, state, reply, None, untouched, work)


def _work(
    record: RunRecord, checkpoint: Checkpoint | None, resumptions: Sequence[Event], tail: Sequence[Event]
) -> Work:
    """Return the work of the attempt before `record.attempt`, which was just claimed."""
    attempt, saved = record.attempt - 1, checkpoint.last_id if checkpoint else 0
    last = resumptions[-1] if resumptions else None
    resumed = last.body if last is not None and isinstance(last.body, Resumed) else None
    was_resumed = resumed is not None and resumed.attempt == attempt
    was_answered = any(isinstance(event.body, InputResolved) for event in tail)
    is_fresh = last is None or last.id <= saved  # a turn was finished since
    return Work(
        was_active=attempt == 1 or was_resumed or (was_answered and is_fresh),
        was_resumed=was_resumed,
        finished_turn=saved > (last.id if last is not None and was_resumed else 0),
        tries=sum(event.id > saved for event in resumptions),
        charges=0 if is_fresh or resumed is None else resumed.charges or 0,
        began_at=last.timestamp.timestamp() if last is not None else record.created_at,
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """The runs in the order in which they resume: all at once, or one by one."""

    runs: Sequence[tuple[RunRecord, Recovered]]
    one_by_one: bool


def plan(found: Sequence[tuple[RunRecord, Recovered]]) -> Plan:
    """Plan what follows a crash. `found` are all unfinished runs, oldest first."""
    active = _active(found)
    one_by_one = any(found.work.was_resumed and not found.work.finished_turn for _, found in active)
    charged = active[0][0].run_id if len(active) == 1 else None
    judged = [(record, _charged(run) if record.run_id == charged else run) for record, run in found]
    if one_by_one:  # first the suspects, of these the one that began last; they are sorted stably
        judged.sort(key=lambda each: (not each[1].work.is_suspect, -each[1].work.began_at * each[1].work.is_suspect))
    return Plan([(record, run.judged()) for record, run in judged], one_by_one)


def _active(found: Sequence[tuple[RunRecord, Recovered]]) -> list[tuple[RunRecord, Recovered]]:
    """The runs that were at work when their server ended. Those behind another one of their session were not."""
    active: dict[tuple[str, str], tuple[RunRecord, Recovered]] = {}
    for record, run in found:
        if run.pending is not None or run.work.was_active:
            active.setdefault((record.principal, record.session_id), (record, run))
    return [(record, run) for record, run in active.values() if run.pending is None]


def _charged(run: Recovered) -> Recovered:
    return replace(run, work=replace(run.work, charges=run.work.charges + 1))


class Unavailable:
    """An orchestrator for a run that can't go on: it fails with the reason."""

    model = "none"

    def __init__(self, code: FailureCode, why: str) -> None:
        self._code: FailureCode = code
        self._why = why

    async def run(self, task: Task, sink: Sink) -> Answer:
        raise RunFailed(self._code, self._why)
