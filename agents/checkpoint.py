"""The state from which a run goes on in another process: all of its finished turns, nothing of the next."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import orjson
from pydantic import TypeAdapter

from askstream.server.events import Usage
from askstream.server.events.errors import RunFailed

# Raised whenever a run that was saved before can't be understood any more.
VERSION = 2

WaitReason: TypeAlias = Literal["question", "review", "input", "handoff"]
"""The reason to ask a person: an agent's question, the answer's approval, the turn of a `UserProxyAgent`, or a
handoff to somebody who isn't in the team."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalMessage:
    """A message that comes from outside of the team. `target` is who is handed the turn, where a team works so."""

    source: str
    text: str
    target: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The question to a person that a run waits on before its next turn."""

    kind: WaitReason
    agent_name: str
    prompt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamCheckpoint:
    """The team's own `state`, and beside it what that lacks. `state` is empty before the first turn and after the
    last, and None where the team's couldn't be saved.

    The team's thread begins with `remembered` messages of earlier runs. `shown` tells in which portions the
    termination condition was shown those after the first `skipped`: its counters are in no state, so a fresh
    condition is shown them again. `unheard` is what the next turn begins with. If that is the turn of a person's
    stand-in, `speaker` is its name, `replies` are what it is told, and `introduced` says that viewers know of the
    choice already. `ended` is True once nothing is left to do but to answer, unless `waiting` says otherwise. `asked`
    and `reviews` count the times that a person was turned to; `unanswered` is True after one who didn't reply.
    """

    state: Mapping[str, Any] | None = field(default_factory=dict[str, Any])
    remembered: int = 0
    skipped: int = 0
    shown: tuple[int, ...] = ()
    unheard: tuple[ExternalMessage, ...] = ()
    speaker: str | None = None
    replies: tuple[str, ...] = ()
    introduced: bool = False
    turns: int = 0
    messages: int = 0
    usage: Usage = field(default_factory=Usage)
    progress: int = 0
    final_response: str | None = None
    agent_name: str = ""
    ended: bool = False
    waiting: Waiting | None = None
    asked: int = 0
    reviews: int = 0
    unanswered: bool = False


_ADAPTER: Final = TypeAdapter(TeamCheckpoint)


def dump(checkpoint: TeamCheckpoint) -> bytes:
    return orjson.dumps({"version": VERSION, "checkpoint": checkpoint})


def load(saved: bytes) -> TeamCheckpoint:
    """Raises RunFailed `interrupted` for what `dump` of this version didn't write."""
    try:
        values = orjson.loads(saved)
        if values["version"] != VERSION:
            raise ValueError("another version")
        return _ADAPTER.validate_python(values["checkpoint"])
    except (ValueError, TypeError, LookupError) as problem:
        raise RunFailed("interrupted", "The run was interrupted, and what was saved of it can't be read.") from problem
