"""A team's factory: called for each run, in a thread unless it is async, and its result made a team."""

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from askstream.agents import arguments, failures, resources
from askstream.agents.arguments import Parameter, RunArguments
from askstream.agents.resources import Resources, manager_of
from askstream.agents.threads import in_thread
from askstream.server.events.errors import AskstreamError, RunFailed
from askstream.server.runs.orchestrator import About

if TYPE_CHECKING:
    from autogen_agentchat.base import Team
    from autogen_core.models import ChatCompletionClient

log = logging.getLogger(__name__)


class TeamFactory:
    """Makes a team for each run. `make` is a function, a class, an async function, or one that returns a generator or
    a context manager, which owns the run's resources. Raises RunFailed `team_unavailable` for parameters that have no
    value.

    It closes `own_clients`, model clients that nobody else uses, at its end. `about` is what the team says of itself.
    """

    def __init__(
        self,
        spec: str,
        make: Callable[..., Any],
        own_clients: "Sequence[ChatCompletionClient]" = (),
        about: About | None = None,
    ) -> None:
        try:
            self._parameters = arguments.parameters(make)
        except ValueError as problem:
            raise unavailable(spec, str(problem)) from problem
        self.spec, self.about, self._make, self._own_clients = spec, about or About(), make, own_clients
        self.author: str | None = getattr(make, "answered_by", None)  # the agent whose word is the answer
        self._on_loop = _is_async(make)
        self._holders: set[asyncio.Task[None]] = set()

    @property
    def client(self) -> Parameter | None:
        """The parameter that gets the model client, if there is one."""
        return next((one for one in self._parameters if one.value == "model_client"), None)

    def keep_default_client(self) -> None:
        """Leave out the model client if the factory has a default for it: no model is configured."""
        self._parameters = tuple(one for one in self._parameters if one is not self.client or not one.optional)

    @asynccontextmanager
    async def team(self, values: RunArguments) -> AsyncGenerator["Team"]:
        """A fresh team, and its resources until the end of the block. Raises RunFailed `team_unavailable`."""
        made = await self._guarded(self._made(values))
        manager = None if is_team(made) else manager_of(made)
        if manager is None:
            yield _as_team(made, self.spec)
            return
        own = self._held(Resources(self.spec, manager))
        try:
            yield _as_team(await self._guarded(own.open()), self.spec)
        finally:
            await own.close()

    async def close(self) -> None:
        """Wait for resources that are still being closed, CLOSE_SECONDS at most, and close the clients. No run may be
        active."""
        if self._holders:
            await asyncio.wait(self._holders, timeout=resources.CLOSE_SECONDS)
        for client in self._own_clients:
            await client.close()

    def _held(self, own: Resources) -> Resources:
        self._holders.add(own.holder)
        own.holder.add_done_callback(self._holders.discard)
        return own

    async def _guarded(self, work: Any) -> Any:
        """Await `work`. All that foreign code raises becomes RunFailed, also what would end the server."""
        try:
            return await work
        except AskstreamError:
            raise
        except BaseException as problem:
            if isinstance(problem, asyncio.CancelledError) and _is_cancelled():
                raise
            raise self._raised(problem) from problem

    def _raised(self, problem: BaseException) -> RunFailed:
        failures.report(f"the team's factory {self.spec}", problem)
        return unavailable(
            self.spec, f"its factory raised {failures.kind(problem)}; the server's log has the traceback"
        )

    async def _made(self, values: RunArguments) -> Any:
        positional, named = arguments.bound(self._parameters, values)
        made = await self._called(partial(self._make, *positional, **named))
        return await made if inspect.isawaitable(made) else made

    async def _called(self, call: Callable[[], Any]) -> Any:
        """Call it in a thread, where it may block, or on the loop if it needs one: that is learnt at the first call."""
        if self._on_loop:
            return call()
        try:
            return await in_thread(call)
        except RuntimeError as problem:
            if "event loop" not in str(problem):
                raise
            self._on_loop = True
            return call()


def is_team(made: object) -> bool:
    """Whether it is a team or an agent. Imports AutoGen."""
    from autogen_agentchat.base import ChatAgent, Team

    return isinstance(made, Team | ChatAgent)


def unavailable(spec: str, why: str) -> RunFailed:
    return RunFailed("team_unavailable", f"The team {spec!r} can't be loaded: {why}.")


def _as_team(made: object, spec: str) -> "Team":
    from autogen_agentchat.base import ChatAgent, Team

    from askstream.agents.autogen_internals import single_agent_team

    match made:
        case Team():
            return made
        case ChatAgent():
            return single_agent_team(made)
        case _:
            raise unavailable(spec, f"its factory made a {type(made).__name__}, not an AutoGen team or agent")


def _is_async(make: Callable[..., Any]) -> bool:
    """Whether calling it only makes a coroutine or a generator."""
    plain: Any = inspect.unwrap(make.func if isinstance(make, partial) else make)
    called = plain if inspect.isroutine(plain) or inspect.isclass(plain) else type(plain).__call__
    return inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called)


def _is_cancelled() -> bool:
    """Whether somebody cancels this task, so that a CancelledError isn't foreign code's own."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
