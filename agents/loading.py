"""Custom teams: `package.module:factory` names a function that makes a new AutoGen team for each run."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from askstream.agents import failures
from askstream.server import plugins
from askstream.server.events.errors import RunFailed
from askstream.server.foreign import Contained

if TYPE_CHECKING:
    from autogen_agentchat.base import Team
    from autogen_core.models import ChatCompletionClient

_CLIENT = "model_client"


@dataclass(frozen=True, slots=True)
class LoadedFactory:
    """A team's factory, sync or async. `client` says how it accepts the configured model client, if it does."""

    spec: str
    make: Callable[..., Any]
    client: Literal["keyword", "first", "none"]

    async def team(self, client: "ChatCompletionClient | None") -> "Team":
        """Make a fresh team. Raises RunFailed `team_unavailable` if the factory fails or returns anything else."""
        try:
            with Contained():
                made = self._call(client)
                if inspect.isawaitable(made):
                    made = await made
        except Exception as problem:
            failures.report(f"the team's factory {self.spec}", problem)
            why = f"its factory raised {failures.kind(problem)}; the server's log has the traceback"
            raise _unavailable(self.spec, why) from problem
        return _as_team(made, self.spec)

    def _call(self, client: "ChatCompletionClient | None") -> Any:
        match self.client:
            case "keyword":
                return self.make(**{_CLIENT: client})
            case "first":
                return self.make(client)
            case "none":
                return self.make()


def load(spec: str) -> LoadedFactory:
    """Import the factory that `spec` names, from the current folder too. This runs the module's code.

    Raises RunFailed `team_unavailable`, with what was expected and what was found.
    """
    module, colon, name = spec.partition(":")
    if not (module and colon and name):
        raise _unavailable(spec, "it must read package.module:factory")
    make = _load_attribute(spec)
    if not callable(make):
        raise _unavailable(spec, f"{name} is a {type(make).__name__} and can't be called")
    return LoadedFactory(spec, make, _client_parameter(spec, make))


def from_callable(make: Callable[..., Any]) -> LoadedFactory:
    """Wrap a factory. Raises RunFailed `team_unavailable` if it needs more than the model client."""
    name = getattr(make, "__qualname__", type(make).__qualname__)
    return LoadedFactory(name, make, _client_parameter(name, make))


def _load_attribute(spec: str) -> Any:
    try:
        return plugins.load(spec)
    except ValueError as problem:
        raise _unavailable(spec, str(problem)) from problem


def _client_parameter(spec: str, make: Callable[..., Any]) -> Literal["keyword", "first", "none"]:
    try:
        parameters = inspect.signature(make).parameters.values()
    except ValueError:  # a builtin without a signature
        return "none"
    if any(p.name == _CLIENT and p.kind is not p.POSITIONAL_ONLY for p in parameters):
        return "keyword"
    required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if len(required) > 1 or any(p.kind is p.KEYWORD_ONLY for p in required):
        names = ", ".join(p.name for p in required)
        raise _unavailable(spec, f"its factory needs {names}, and is given at most the model client")
    return "first" if required else "none"


def _as_team(made: object, spec: str) -> "Team":
    from autogen_agentchat.base import ChatAgent, Team

    from askstream.agents.autogen_internals import single_agent_team

    match made:
        case Team():
            return made
        case ChatAgent():
            return single_agent_team(made)
        case _:
            raise _unavailable(spec, f"its factory made a {type(made).__name__}, not an AutoGen team or agent")


def _unavailable(spec: str, why: str) -> RunFailed:
    return RunFailed("team_unavailable", f"The team {spec!r} can't be loaded: {why}.")
