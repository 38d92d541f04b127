"""Answers questions with AutoGen teams: an `Orchestrator`, many runs at once, a fresh team for each.

Don't import AutoGen here before `warm`: it takes seconds, and a starting server must respond at once.
"""

import asyncio
import importlib
import logging
from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, Any, Protocol

from askstream.agents import checkpoint, failures, memory
from askstream.agents.arguments import RunArguments
from askstream.agents.checkpoint import TeamCheckpoint
from askstream.agents.chunk_buffer import ChunkBuffer
from askstream.agents.human import MessageLimits, TeamProfile
from askstream.agents.memory import ContextWindow
from askstream.agents.models import BadModelSettings
from askstream.agents.progress import Progress, SpeakerProgress
from askstream.agents.scope import TaskScope
from askstream.agents.waits import WaitPolicy
from askstream.server import versions
from askstream.server.events import Draft, Usage
from askstream.server.events.errors import AskstreamError, RunFailed
from askstream.server.foreign import Contained, ForeignExit
from askstream.server.runs.orchestrator import About, Answer, Inquiry, Reply, Sink, SupportsWatched, Task
from askstream.server.scheduling import StartGate

if TYPE_CHECKING:
    from autogen_agentchat.base import Team
    from autogen_core.models import ChatCompletionClient

    from askstream.agents.calls import ModelCaller
    from askstream.agents.tap import ModelCalls

log = logging.getLogger(__name__)

_NOT_READY = "The team can't be made ready; the server's log says why. Ask again later."
_PACKAGES = ("autogen-agentchat", "autogen-core", "autogen-ext")


class TeamSource(Protocol):
    """Makes teams."""

    makes_in_thread: bool
    """Whether making a team is no work for the event loop."""

    @property
    def about(self) -> About:
        """The words of its teams about themselves."""
        ...

    @property
    def profile(self) -> TeamProfile:
        """The profile of its teams. Call `prepare` first."""
        ...

    async def prepare(self) -> None:
        """Do once what the first team needs. May take seconds; calling it again is allowed."""
        ...

    def team(self, values: RunArguments) -> AbstractAsyncContextManager["Team"]:
        """A fresh team, with what it needs open until the end of the block. Entering raises RunFailed."""
        ...

    async def close(self) -> None:
        """Close what is left of all teams."""
        ...


class ClientSource(Protocol):
    """Makes the one model client. It is called in a thread and raises only AskstreamError."""

    def __call__(self) -> "ChatCompletionClient": ...


class AutoGenOrchestrator:
    """An `Orchestrator`. `model` is the name that viewers see. Close it when no run is active."""

    def __init__(
        self,
        *,
        model: str,
        client: ClientSource,
        source: TeamSource,
        max_messages: int = 40,
        conversation_messages: int = 400,
        waits: WaitPolicy | None = None,
        window: ContextWindow | None = None,
    ) -> None:
        self._model = model
        self._waits, self._window = waits or WaitPolicy(), window or ContextWindow()
        self._connect = client
        self._source = source
        self._limits = MessageLimits(max_messages, conversation_messages)
        self._start_gate = StartGate()
        self._warming: asyncio.Task[ChatCompletionClient] | None = None

    @property
    def model(self) -> str:
        return self._model

    def about(self) -> About:
        return self._source.about

    async def warm(self) -> None:
        """Import AutoGen and make the model client before the first run. Runs that start meanwhile wait for it."""
        await self._client()

    async def try_team(self, spec: str) -> None:
        """Make two teams and discard them. Raises RunFailed `team_unavailable` if runs of the team would fail."""
        client = await self._client()
        from askstream.agents import trial
        from askstream.agents.tap import ModelCalls, Tap

        values = _arguments(Tap(client, ChunkBuffer(_NULL_SINK), ModelCalls()), _TRIAL)
        await trial.make_twice(spec, partial(self._source.team, values))

    async def run(self, task: Task, sink: Sink) -> Answer | Inquiry:
        try:
            client = await self._client()
        except BadModelSettings as problem:
            log.error("run=%s: %s", task.run_id, problem)
            raise RunFailed(
                "team_unavailable", "The server's settings for the model are wrong: see its log."
            ) from problem
        except AskstreamError:
            raise
        except Exception as problem:
            log.exception("run=%s: the team can't be made ready", task.run_id)
            raise RunFailed("team_unavailable", _NOT_READY) from problem
        try:
            return await self._with_team(task, sink, client)
        except memory.StateRefused as problem:
            log.info("run=%s: its session's earlier answers go to the team as text: %s", task.run_id, problem)
            return await self._with_team(replace(task, session_state=None), sink, client, problem.spent)
        except ForeignExit as problem:
            failures.report(f"run={task.run_id}: the team", problem)
            raise failures.of_team() from problem

    async def close(self) -> None:
        """Close the model client, and wait until ended runs have closed their resources."""
        await self._source.close()
        warming = self._warming
        if warming is None:
            return
        await asyncio.wait({warming})
        if not warming.cancelled() and warming.exception() is None:
            try:
                with Contained():
                    await warming.result().close()
            except Exception:
                log.exception("the model client can't be closed")

    async def _client(self) -> "ChatCompletionClient":
        if self._warming is None or _failed(self._warming):  # a failure may have been temporary
            self._warming = asyncio.get_running_loop().create_task(self._warmed())
        return await asyncio.shield(self._warming)  # one waiter's cancel must not reach the others

    async def _warmed(self) -> "ChatCompletionClient":
        await self._source.prepare()
        return await asyncio.to_thread(self._load)

    def _load(self) -> "ChatCompletionClient":
        with Contained():
            importlib.import_module("askstream.agents.runner")  # imports AutoGen in this thread, not in the loop's
            versions.warn({name: metadata.version(name) for name in _PACKAGES})
            return self._connect()

    async def _with_team(
        self, task: Task, sink: Sink, client: "ChatCompletionClient", spent: Usage | None = None
    ) -> Answer | Inquiry:
        """Open the team's resources outside of the run's scope, whose end cancels every task in it."""
        from askstream.agents.autogen_internals import MESSAGE_HANDLERS, VITAL_COROUTINES
        from askstream.agents.calls import ModelCaller
        from askstream.agents.context import RunMemory
        from askstream.agents.tap import ModelCalls, Tap

        start = None if task.checkpoint is None else checkpoint.load(task.checkpoint)
        buffer = ChunkBuffer(sink)
        model_calls = ModelCalls(start.usage if start else spent)
        caller = ModelCaller(buffer, self._waits, RunMemory(task.question, self._window))
        tap = Tap(client, buffer, model_calls, caller, _watched(client, sink))
        if not self._source.makes_in_thread:
            await self._start_gate.enter()
        async with self._source.team(_arguments(tap, task)) as team:
            if self._source.makes_in_thread:
                await self._start_gate.enter()
            answer = self._answer(team, task, start, sink, buffer, model_calls, caller)
            return await TaskScope(VITAL_COROUTINES, MESSAGE_HANDLERS).run(answer)

    async def _answer(
        self,
        team: "Team",
        task: Task,
        start: TeamCheckpoint | None,
        sink: Sink,
        buffer: ChunkBuffer,
        model_calls: "ModelCalls",
        caller: "ModelCaller",
    ) -> Answer | Inquiry:
        from askstream.agents import own_client
        from askstream.agents.autogen_internals import members
        from askstream.agents.runner import TeamRunner

        runner: TeamRunner | None = None
        try:
            with Contained():
                own_client.wrap(team, caller, model_calls)
                names = [agent.name for agent in members(team)]
                profile = self._source.profile if task.asks else replace(self._source.profile, questions=0)
                progress = _progress(profile, names, start.progress if start else 0)
                runner = TeamRunner(buffer, model_calls, progress, profile, limits=self._limits, window=self._window)
                return await runner.run(team, task, start, sink.checkpoint)
        except (AskstreamError, memory.StateRefused):
            raise
        except Exception as problem:
            cause = _cause_of(problem, buffer, model_calls, task.run_id)
            if _is_context_full(cause) and runner is not None and runner.in_first_turn_of_session_state:
                raise memory.StateRefused("the model can't read all of its state", model_calls.usage) from problem
            raise cause from problem
        finally:
            buffer.close()


def _arguments(client: "ChatCompletionClient", task: Task) -> RunArguments:
    from askstream.agents.autogen_internals import ask_person

    return RunArguments(
        model_client=client,
        input_func=ask_person,
        session_id=task.session_id,
        principal=task.principal,
        asks=task.asks,
    )


def _watched(client: object, sink: Sink) -> Callable[[], AbstractContextManager[None]]:
    """Suspend the run's limit on silence during a call of a client that has limits of its own."""
    if isinstance(sink, SupportsWatched) and getattr(client, "limits_silence", False):
        return sink.watched
    return nullcontext


def _progress(profile: TeamProfile, members: Collection[str], now: int) -> Progress:
    return SpeakerProgress(members, now=now) if profile.steps is None else Progress(profile.steps, now=now)


def _cause_of(problem: Exception, buffer: ChunkBuffer, model_calls: "ModelCalls", run_id: str) -> Exception:
    """The cause of an error of which AutoGen kept only the text: the sink's error, that of a failed model call, or the
    team's own."""
    if buffer.problem is not None:
        return buffer.problem
    head = str(problem).partition("\n")[0]
    for cause in model_calls.problems.values():
        if type(cause).__name__ in head or cause is problem:
            failure = failures.of_model(cause)
            log.warning("run=%s: %s, from a %s", run_id, failure.code, failures.origin(cause))
            log.debug("run=%s: the model call failed", run_id, exc_info=problem)
            return failure
    hidden = model_calls.problems.values()
    for agent_name, cause in model_calls.agent_problems.items():
        if type(cause).__name__ in head or cause is problem:
            failures.report(f"run={run_id} agent={agent_name}", cause, hidden=hidden)
            break
    else:
        failures.report(f"run={run_id}: the team", problem, hidden=hidden)
    return failures.of_text(head)


def _is_context_full(problem: Exception) -> bool:
    return isinstance(problem, RunFailed) and problem.code == "model_context_full"


def _failed(task: asyncio.Task[Any]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


class _NullSink:
    """A sink for a team that never runs."""

    async def emit(self, draft: Draft) -> None: ...

    async def checkpoint(self, state: bytes) -> None: ...

    async def ask(self, inquiry: Inquiry) -> Reply:
        raise AssertionError("a team that never runs asks for nothing")


_NULL_SINK = _NullSink()
_TRIAL = Task(run_id="trial", session_id="trial", question="")
