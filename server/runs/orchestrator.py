"""What a run needs of whoever answers its question. AutoGen stands behind it today; another framework can tomorrow."""

from dataclasses import dataclass
from typing import Protocol

from server.events import Draft, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One question for a team.

    `attempt` is above 1 when the run goes on after its server died; `checkpoint` is then what the run's last
    `Sink.checkpoint` was given, None if it never came that far. A team that can't go on from there raises
    `RunFailed("interrupted", ...)`.
    """

    run_id: str
    session_id: str
    question: str
    attempt: int = 1
    checkpoint: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How a run ends well. `total_messages` counts the agents' messages; `usage` is summed over the whole run."""

    final_response: str
    total_messages: int
    usage: Usage
    agent_name: str


class Sink(Protocol):
    """Where an orchestrator puts what happens, in order. One run, one sink, one writer."""

    async def emit(self, draft: Draft) -> None:
        """Hands over an event. Returns at once while the log keeps up, else waits until it does.

        Durability and order are the sink's business; `progress` may be lower than before, it is raised.
        """
        ...

    async def checkpoint(self, state: bytes) -> None:
        """Saves `state` together with everything emitted before it: after a crash the run goes on from here."""
        ...


class Orchestrator(Protocol):
    """Answers questions with a team of agents, many at once."""

    @property
    def model(self) -> str:
        """The name of the model for `started`; known before any model call."""
        ...

    async def run(self, task: Task, sink: Sink) -> Answer:
        """Answers one question, telling the sink everything that happens on the way except start and end.

        Raises `RunFailed` with a stable code where the run can't go on. Cancelling it is safe at any moment: when
        the cancelled call returns, no further model or tool call begins and nothing of the run is left behind,
        within 5 s whatever a tool does.
        """
        ...
