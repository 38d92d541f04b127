"""The state from which another process resumes a run: all of its finished turns, nothing of the next."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias

import orjson
from pydantic import TypeAdapter

from askstream.agents.answer import Said
from askstream.server.events import Usage
from askstream.server.events.errors import RunFailed
from askstream.server.events.unicode import mended_json

# Increase it when a run that was saved before can't be read any more.
VERSION = 2

WaitReason: TypeAlias = Literal["question", "review", "input", "handoff"]
"""The reason to ask a person: an agent's question, the answer's approval, the turn of a `UserProxyAgent`, or a
handoff to a name that isn't in the team."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalMessage:
    """A message from outside of the team. `target` is the member that gets the turn, in a swarm. `images` are
    `data:` addresses."""

    source: str
    text: str
    target: str = ""
    images: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The question to a person whose reply a run needs before its next turn."""

    kind: WaitReason
    agent_name: str
    prompt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamCheckpoint:
    """The team's own `state`, and the facts that it lacks. Stored checkpoints have these field names."""

    # Empty before the first turn and after the last; None if the team's state couldn't be saved.
    state: Mapping[str, Any] | None = field(default_factory=dict[str, Any])
    remembered: int = 0  # messages of earlier runs, at the beginning of the team's thread
    # The state lacks the termination condition's counters, so a fresh condition is shown the messages after the first
    # `skipped` again, in portions of the sizes `shown`.
    skipped: int = 0
    shown: tuple[int, ...] = ()
    unheard: tuple[ExternalMessage, ...] = ()  # the next turn begins with them
    # Before a `UserProxyAgent`'s turn: its name, its inputs, and whether viewers know that it was chosen.
    speaker: str | None = None
    replies: tuple[str, ...] = ()
    introduced: bool = False
    turns: int = 0
    messages: int = 0
    alone: int = 0  # messages since a person answered
    usage: Usage = field(default_factory=Usage)
    progress: int = 0
    final_response: str | None = None  # the last text, and after the end the answer
    agent_name: str = ""
    answer: Said | None = None
    stop_reason: str | None = None
    ended: bool = False  # only the answer is left, unless `waiting` is set
    waiting: Waiting | None = None
    asked: int = 0  # agents' questions, without inputs and handoffs
    reviews: int = 0
    unanswered: bool = False  # the last question got no reply


def concluded(at: TeamCheckpoint) -> TeamCheckpoint:
    """The checkpoint of a team that has ended, with its answer in place of its last text."""
    return replace(at, final_response=at.answer.text, agent_name=at.answer.agent_name) if at.answer else at


_ADAPTER: Final = TypeAdapter(TeamCheckpoint)


def dump(checkpoint: TeamCheckpoint) -> bytes:
    try:
        return orjson.dumps({"version": VERSION, "checkpoint": checkpoint})
    except TypeError:  # of a lone surrogate; deeper nesting than JSON allows fails again
        return orjson.dumps({"version": VERSION, "checkpoint": mended_json(asdict(checkpoint))})


def load(saved: bytes) -> TeamCheckpoint:
    """Read what `dump` wrote. Raises RunFailed `interrupted` for other bytes or another version."""
    try:
        values = orjson.loads(saved)
        if values["version"] != VERSION:
            raise ValueError("another version")
        return _ADAPTER.validate_python(values["checkpoint"])
    except (ValueError, TypeError, LookupError) as problem:
        raise RunFailed("interrupted", "The run was interrupted, and its checkpoint can't be read.") from problem
