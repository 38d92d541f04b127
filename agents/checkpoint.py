"""What must be known to go on with a run in another process: everything of its finished turns, nothing of the next."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import orjson

from server.events import Usage
from server.events.errors import RunFailed

# Raised whenever a run that was saved before can't be understood any more.
VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The team's own `state`, and beside it what that lacks.

    `shown` tells in which portions the termination condition was shown the thread's messages: its counters are in
    no state, so a fresh condition is shown them again. `ended` is True once nothing is left to do but to answer.
    """

    state: Mapping[str, Any] = field(default_factory=dict[str, Any])
    shown: tuple[int, ...] = ()
    turns: int = 0
    messages: int = 0
    usage: Usage = field(default_factory=Usage)
    progress: int = 0
    final_response: str | None = None
    agent_name: str = ""
    ended: bool = False


def dump(checkpoint: Checkpoint) -> bytes:
    return orjson.dumps({"version": VERSION, **{f.name: getattr(checkpoint, f.name) for f in fields(Checkpoint)}})


def load(saved: bytes) -> Checkpoint:
    """Raises RunFailed `interrupted` for what `dump` of this version didn't write."""
    try:
        values = orjson.loads(saved)
        if values.pop("version") != VERSION:
            raise ValueError("another version")
        values["usage"] = Usage(**values["usage"])
        values["shown"] = tuple(values["shown"])
        return Checkpoint(**values)
    except (ValueError, TypeError, LookupError, AttributeError) as problem:
        raise RunFailed("interrupted", "The run was interrupted, and what was saved of it can't be read.") from problem
