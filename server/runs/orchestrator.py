"""The protocol between a run and the orchestrator that answers its question: AutoGen, or any other."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

from askstream.server import plugins
from askstream.server.events import Draft, Json, Usage
from askstream.server.foreign import Contained


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """An earlier question of the same session, and what the team answered."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A human's answer to an `Inquiry`. `answered` is False if nobody answered in time; `value` is None then."""

    value: Json
    answered: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One question for a team, or the rest of one.

    `images` are those of the question, as `data:` addresses. `history` are the session's earlier exchanges, oldest
    first. `session_state` comes from the answer of the session's last completed run, None if that had none. `review`
    asks for a human's approval of the answer before it is final. `asks`: somebody can answer a question of the team's;
    without it the team should assume, and say so.
    `checkpoint` is the run's newest state from `Sink.checkpoint` or `Inquiry.state`, None if there is none; `reply` is
    the answer to that inquiry. `attempt` is above 1 if the run is resumed after its server died; a team that can't
    resume raises `RunFailed("interrupted", ...)`. `principal` is who asked.
    """

    run_id: str
    session_id: str
    question: str
    images: tuple[str, ...] = ()
    history: tuple[Exchange, ...] = ()
    session_state: bytes | None = None
    review: bool = False
    asks: bool = True
    attempt: int = 1
    checkpoint: bytes | None = None
    reply: Reply | None = None
    principal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The good end of a run. `total_messages` counts the agents' messages; `usage` is summed over the whole run.

    `agent_name` wrote the answer. `stop_reason` says in the team's own words why it stopped. `session_state` is kept
    for the session's next run, in the orchestrator's own form.
    """

    final_response: str
    total_messages: int
    usage: Usage
    agent_name: str
    stop_reason: str | None = None
    session_state: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquiry:
    """The team needs a human before it can go on. If `run` returns it, only `state` is kept of the team.

    `schema` is a JSON Schema of the value that is expected. `seconds` is the time to wait, None for the server's
    limit. If nobody answers in time, the run goes on with a `Reply` that says so, and the team decides.
    """

    agent_name: str
    prompt: str
    state: bytes = b""
    schema: dict[str, Any] = field(default_factory=lambda: {"type": "string"})
    seconds: float | None = None


class Sink(Protocol):
    """Receives an orchestrator's events, in order. One run, one sink, one writer."""

    async def emit(self, draft: Draft) -> None:
        """Add an event to the log. Return at once while the log keeps up, else wait until it does.

        Order is kept. It is durable later; `checkpoint` waits for that. A `progress` lower than before is raised.
        """
        ...

    async def checkpoint(self, state: bytes) -> None:
        """Save `state` together with everything emitted before it: after a crash the run resumes from here."""
        ...

    async def ask(self, inquiry: Inquiry) -> Reply:
        """Ask a human while the team waits in memory, and return the reply. `inquiry.state` isn't used.

        For a team that can't be saved where it asks; any other returns the inquiry from `run`, which survives a crash.
        After a crash the run resumes from its last checkpoint, and the reply is lost. Calls of one run are served in
        order. The wait doesn't count for the run's limits. Safe to cancel: the question is withdrawn.
        """
        ...


@runtime_checkable
class SupportsWatched(Protocol):
    """A sink of a run with a limit on silence."""

    def watched(self) -> AbstractContextManager[None]:
        """Suspends that limit within the block: whatever works there has a limit of its own."""
        ...


class Orchestrator(Protocol):
    """Answers questions with a team of agents, many at once."""

    @property
    def model(self) -> str:
        """The name of the model for `started`; known before any model call."""
        ...

    async def run(self, task: Task, sink: Sink) -> Answer | Inquiry:
        """Answer one question. Emit everything that happens on the way, except the run's start and end.

        After an `Inquiry` it is called again, for the same run, with `checkpoint` and `reply`. Raises `RunFailed` with
        a stable code if the run can't go on. Cancelling it is safe at any moment: when the cancelled call returns,
        no further model or tool call begins and nothing of the run is left behind, within 5 s whatever a tool does.
        """
        ...


@runtime_checkable
class SupportsWarm(Protocol):
    """An orchestrator with work that its first question would have to wait for."""

    async def warm(self) -> None:
        """Called when the server accepts requests. An error is logged, and it is called again after some seconds."""
        ...


class About(NamedTuple):
    """A team's words about itself. Empty: none. `starters` are questions to begin with."""

    title: str = ""
    greeting: str = ""
    starters: tuple[str, ...] = ()


@runtime_checkable
class SupportsAbout(Protocol):
    """An orchestrator that says what it is for."""

    def about(self) -> About: ...


@asynccontextmanager
async def open_named(spec: str) -> AsyncGenerator[Orchestrator]:
    """Open the orchestrator that `package.module:attribute` names: an object, or a callable without arguments.

    An async context manager is entered first, and exited at the end of the block, when no run may be active.
    Raises ValueError if the name leads to no orchestrator. The module is imported in a thread.
    """
    found: Any = await asyncio.to_thread(plugins.named, spec, {}, "an orchestrator")
    async with AsyncExitStack() as stack:
        with Contained():
            made: Any = found() if isinstance(found, type) or (callable(found) and not hasattr(found, "run")) else found
            if hasattr(made, "__aenter__"):
                made = await stack.enter_async_context(made)
        yield plugins.checked(made, Orchestrator, spec)
