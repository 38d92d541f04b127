"""Finds in the journal where a run resumes after its server died."""

from dataclasses import dataclass, replace

from askstream.server.events import InputRequested, Resumed
from askstream.server.events.errors import RunFailed
from askstream.server.journal import Journal, RunRecord
from askstream.server.runs import history
from askstream.server.runs.human_input import PendingInput, last_reply
from askstream.server.runs.orchestrator import Answer, Orchestrator, Reply, Sink, Task

# Most times that a turn is repeated. A question that crashes the server must not do so for ever.
MAX_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Recovered:
    """The state of a run that an earlier server left: its checkpoint, a human's answer to it, or the wait for one.

    `from_id` is the last event that counts; `orchestrator` repeats the work after it.
    """

    from_id: int
    orchestrator: Orchestrator
    state: bytes | None = None
    reply: Reply | None = None
    pending: PendingInput | None = None

    def resumed(self, task: Task) -> Task:
        return replace(task, checkpoint=self.state, reply=self.reply)


async def recover(journal: Journal, record: RunRecord, orchestrator: Orchestrator | None) -> Recovered:
    """Recovers an unfinished run. `orchestrator` is None if this server lacks the one that began the run."""
    checkpoint = await journal.checkpoint(record.run_id)
    from_id = checkpoint.last_id if checkpoint else 1
    if orchestrator is None:
        return Recovered(from_id, Unavailable("What was to answer is not part of this server any more."))
    tail = await history.events(journal, record.run_id, from_id - 1)
    asked = tail[0] if checkpoint and tail and isinstance(tail[0].body, InputRequested) else None
    reply = last_reply(tail) if asked else None
    state = checkpoint.state if checkpoint else None
    if asked is not None and state is not None and reply is None:
        return Recovered(asked.id, orchestrator, pending=PendingInput.from_log(asked, state))
    if sum(isinstance(event.body, Resumed) for event in tail) >= MAX_ATTEMPTS:
        orchestrator = Unavailable(f"The server stopped {MAX_ATTEMPTS} times while this run was going on.")
    return Recovered(asked.id + 1 if asked else from_id, orchestrator, state, reply)


class Unavailable:
    """An orchestrator for a run that can't go on: it fails with the reason."""

    model = "none"

    def __init__(self, why: str) -> None:
        self._why = why

    async def run(self, task: Task, sink: Sink) -> Answer:
        raise RunFailed("interrupted", self._why)
