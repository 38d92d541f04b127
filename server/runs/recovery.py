"""How a run goes on after its server died: all of it is read off the journal."""

from dataclasses import dataclass, replace

from server.events import InputRequested, Resumed
from server.events.errors import RunFailed
from server.journal import Journal, RunRecord
from server.runs import history
from server.runs.inquiry import Pending, last_answer
from server.runs.orchestrator import Answer, Reply, Sink, Task

# How often a turn is begun again. A question that brings the server down must not do so for ever.
ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Left:
    """What an earlier server left of a run: the checkpoint's state, a human's answer to it, or the wait for one.

    `from_id` is the last event that stands; what came after it is done again.
    """

    from_id: int
    state: bytes | None
    reply: Reply | None
    pending: Pending | None
    hopeless: bool

    def continued(self, task: Task) -> Task:
        return replace(task, checkpoint=self.state, reply=self.reply)


async def look(journal: Journal, record: RunRecord) -> Left:
    """What is left of an unfinished run."""
    checkpoint = await journal.checkpoint(record.run_id)
    if checkpoint is None:
        return Left(1, None, None, None, await _stuck(journal, record, 1))
    tail = await history.events(journal, record.run_id, checkpoint.last_id - 1)
    hopeless = await _stuck(journal, record, checkpoint.last_id)
    asked = tail[0] if tail and isinstance(tail[0].body, InputRequested) else None
    if asked is None:
        return Left(checkpoint.last_id, checkpoint.state, None, None, hopeless)
    reply = last_answer(tail)
    if reply is None:
        return Left(asked.id, None, None, Pending.from_log(asked, checkpoint.state), hopeless=False)
    return Left(asked.id + 1, checkpoint.state, reply, None, hopeless)


async def _stuck(journal: Journal, record: RunRecord, last_id: int) -> bool:
    """Whether the run was taken up ATTEMPTS times without coming to another checkpoint."""
    tail = await history.events(journal, record.run_id, last_id)
    return sum(isinstance(event.body, Resumed) for event in tail) >= ATTEMPTS


class GivenUp:
    """Stands in for the team of a run under which the server has died again and again."""

    model = "none"

    async def run(self, task: Task, sink: Sink) -> Answer:
        raise RunFailed("interrupted", f"The server stopped {ATTEMPTS} times while this run was going on.")
