"""Finds the agents and teams inside a team: its members, and those that an agent or a tool holds.

An agent may hold a team (SocietyOfMindAgent), another agent (MessageFilterAgent), or tools that run either (AgentTool,
TeamTool). They hang in attributes of any name, so all attributes are looked at.
"""

from collections.abc import Iterable, Iterator
from typing import TypeVar, cast

from autogen_agentchat.base import ChatAgent, Team
from autogen_core.tools import BaseTool, Workbench

_HOLDERS = (ChatAgent, Team, BaseTool, Workbench)
T = TypeVar("T")


def agents(team: Team) -> list[ChatAgent]:
    """All agents, each once, outer ones first."""
    return _of(team, ChatAgent)


def teams(team: Team) -> list[Team]:
    """`team` itself and all teams inside."""
    return _of(team, Team)


def _of(team: Team, kind: type[T]) -> list[T]:
    return [part for part in _walk(team, set()) if isinstance(part, kind)]


def _walk(part: object, seen: set[int]) -> Iterator[object]:
    if id(part) in seen:
        return
    seen.add(id(part))
    yield part
    for value in getattr(part, "__dict__", {}).values():
        for held in _held(value):
            yield from _walk(held, seen)


def _held(value: object) -> Iterator[object]:
    yield from filter(_is_holder, _items(value))


def _items(value: object) -> Iterable[object]:
    match value:
        case list() | tuple() | set() | frozenset():
            return cast(Iterable[object], value)
        case dict():
            return cast(dict[object, object], value).values()
        case _:
            return (value,)


def _is_holder(value: object) -> bool:
    return isinstance(value, _HOLDERS)
