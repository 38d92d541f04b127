"""A table of kinds of teams, which `classics.py`, `parts.py` and `endings.py` fill."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.base import ChatAgent, Team
from autogen_core.models import ChatCompletionClient

from tests.matrix.script import Line, scripted

Ask: TypeAlias = Callable[..., Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Cast:
    """Makes the agents of one team."""

    kind: str
    client: ChatCompletionClient
    ask: Ask  # the input function of people

    def agent(self, name: str, *lines: Line, **options: Any) -> AssistantAgent:
        options.setdefault("description", f"Is {name}.")
        return AssistantAgent(name, self.client, system_message=scripted(self.kind, name, lines), **options)

    def pair(self, *lines: Line) -> list[Any]:
        """A writer and a critic, who say the lines in turn."""
        return [self.agent("writer", *lines[::2]), self.agent("critic", *lines[1::2])]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of team."""

    make: Callable[[Cast], Any]
    answer: tuple[str, str] | None = None  # its author and the text; the last message if absent
    replies: tuple[str, ...] = ()  # of the person
    at_once: bool = False  # agents work at the same time: only each one's own order is fixed
    hangs_at: int = 1  # the number of the model call in which it is stopped
    resumes: bool = True  # after a crash; else its run ends as interrupted


KINDS: dict[str, Kind] = {}
"""By name."""


SLOW: dict[str, Kind] = {}
"""Teams with a tool that runs longer than any test."""


def slow(make: Callable[[Cast], Any]) -> Callable[[Cast], Any]:
    """Add a slow team."""
    SLOW[make.__name__] = Kind(make=make)
    return make


def kind(*answer: str, **facts: Any) -> Callable[[Callable[[Cast], Any]], Callable[[Cast], Any]]:
    """Add the team that a function makes. `answer` is the author and the text."""

    def add(make: Callable[[Cast], Any]) -> Callable[[Cast], Any]:
        KINDS[make.__name__] = Kind(make=make, answer=(answer[0], answer[1]) if answer else None, **facts)
        return make

    return add


@asynccontextmanager
async def made(name: str, client: ChatCompletionClient, ask: Ask) -> AsyncGenerator[Team | ChatAgent]:
    """A team of this kind, with what it owns."""
    built = {**KINDS, **SLOW}[name].make(Cast(name, client, ask))
    if isinstance(built, AbstractAsyncContextManager):
        async with cast("AbstractAsyncContextManager[Team]", built) as team:
            yield team
    else:
        yield built
