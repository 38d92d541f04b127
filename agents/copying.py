"""Copies of a team that exists once, and objects that two teams share."""

import copy
import gc
from collections.abc import Callable, Iterable
from types import BuiltinFunctionType, CodeType, CoroutineType, FrameType, FunctionType, GeneratorType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autogen_core.models import ChatCompletionClient

# A team has a few hundred objects. This bounds the search of one that holds a large structure of data.
MOST_OBJECTS = 200_000

# `copy.deepcopy` shares these, and they lead to the whole program.
_SHARED = (
    type,
    ModuleType,
    FunctionType,
    BuiltinFunctionType,
    CodeType,
    FrameType,
    CoroutineType,
    GeneratorType,
    str,
    bytes,
    int,
    float,
)


def copier(original: Any) -> Callable[[], Any]:
    """A function that returns a deep copy of a team or agent. The copies share its model clients, which hold
    connections. `original` must not have run, and must never run: its agents remember.

    Raises what `copy.deepcopy` raises if it can't be copied.
    """
    shared = clients(original)

    def copied() -> Any:
        return copy.deepcopy(original, {id(client): client for client in shared})

    copied()
    return copied


def clients(team: Any) -> "list[ChatCompletionClient]":
    """The model clients of a team or agent."""
    from autogen_core.models import ChatCompletionClient

    return reachable(team, (ChatCompletionClient,))


def stateful(team: Any) -> list[Any]:
    """All parts of a team that hold a conversation's state: no two runs may share one."""
    from autogen_agentchat.base import ChatAgent, Team, TerminationCondition
    from autogen_agentchat.conditions import ExternalTermination
    from autogen_core.model_context import ChatCompletionContext

    kinds = (ChatAgent, Team, TerminationCondition, ChatCompletionContext)
    # An external condition is a stop button for all runs, meant to be shared.
    return [one for one in reachable(team, kinds) if not isinstance(one, ExternalTermination)]


def shared_names(first: Iterable[Any], second: Iterable[Any]) -> list[str]:
    """The names of the objects that are in both, or of their classes."""
    before = {id(one) for one in first}
    names = [str(getattr(one, "name", type(one).__name__)) for one in second if id(one) in before]
    return sorted(set(names))


def reachable(root: Any, kinds: tuple[type[Any], ...]) -> list[Any]:
    """The objects of these kinds that `root` leads to, itself included."""
    seen, found, left = {id(root)}, list[Any](), [root]
    while left and len(seen) < MOST_OBJECTS:
        one = left.pop()
        if isinstance(one, kinds):
            found.append(one)
        for other in gc.get_referents(one):
            if id(other) not in seen and not isinstance(other, _SHARED):
                seen.add(id(other))
                left.append(other)
    return found
