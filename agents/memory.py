"""A team's memory of its session: the state that it had at the end of the last run, tool results and turn included.

For kinds of teams without such a state, and where it has grown too large, the memory is text: earlier questions and
answers, as messages before the question.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson
from pydantic import TypeAdapter

from askstream.agents import model_errors
from askstream.agents.checkpoint import ExternalMessage, TeamCheckpoint
from askstream.server.events import Usage
from askstream.server.runs.orchestrator import Exchange, Task

# Characters, about four to a token. Every model call of a run, some twenty, reads all of it: 12,000 are 3,000 tokens a
# call, less than the tools return. A question may have 4,000, so the last exchange always fits, and mostly the last
# four.
MEMORY_CHARACTERS = 12_000
# The maximum for one answer. Its findings and figures come first; its SQL, which the team can write again, last.
ANSWER_CHARACTERS = 3_000
# The part of its end that stays: there it says how the question was understood.
END_CHARACTERS = 600

# Of a small context, the memory gets a quarter: so many characters for each of its tokens. A state, which holds the
# tools' results as well, gets half.
CHARACTERS_PER_TOKEN = 1
STATE_BYTES_PER_TOKEN = 2

# The maximum for one agent's part of a state, in bytes of JSON. Each model call of that agent reads all of it: these
# are about 30,000 tokens.
STATE_BYTES = 120_000
# Increase it when a state that was saved before can't be read any more.
STATE_VERSION = 1

USER = "user"
_SQL = "\n## SQL"
_CUT = "\n\n[...]\n\n"


log = logging.getLogger(__name__)


class ContextWindow:
    """The number of tokens that the model can read, None while unknown. All runs of a server share one."""

    def __init__(self, tokens: int | None = None) -> None:
        self.tokens = tokens

    def learn(self, problem: BaseException) -> None:
        """Remember the size that an error names, if it is smaller than the known one."""
        found = model_errors.window(problem)
        if found is not None and (self.tokens is None or found < self.tokens):
            self.tokens = found

    @property
    def characters(self) -> int:
        """The maximum of the memory's characters."""
        return MEMORY_CHARACTERS if self.tokens is None else min(MEMORY_CHARACTERS, self.tokens * CHARACTERS_PER_TOKEN)

    @property
    def state_bytes(self) -> int:
        """The maximum for one agent's part of a state."""
        return STATE_BYTES if self.tokens is None else min(STATE_BYTES, self.tokens * STATE_BYTES_PER_TOKEN)


class StateRefused(Exception):
    """A team can't go on from the session's state, after it has used `spent`. The team can't be used any more."""

    def __init__(self, why: str, spent: Usage | None = None) -> None:
        super().__init__(why)
        self.spent = spent


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamShape:
    """The parts of a team that a state fits to."""

    kind: str
    members: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionState:
    """A team's own `state` between two runs. `messages` counts those of its thread; `target` is the agent that waits
    for a person to whom it has handed the turn, if any. Stored states have these field names."""

    shape: TeamShape
    state: Mapping[str, Any]
    messages: int
    target: str = ""


_ADAPTER: Final = TypeAdapter(SessionState)


def dump_state(left: SessionState, most: int = STATE_BYTES) -> bytes | None:
    """None for a state that can't be stored, or with a part of more than `most` bytes, too much for a model to read."""
    try:
        largest = max(len(orjson.dumps(part)) for part in left.state["agent_states"].values())
        return orjson.dumps({"session": STATE_VERSION, **_ADAPTER.dump_python(left)}) if largest <= most else None
    except (TypeError, ValueError, LookupError) as problem:
        log.warning("the team's state can't be kept for its session (%s)", type(problem).__name__)
        return None


def load_state(saved: bytes | None, shape: TeamShape | None) -> SessionState | None:
    """Read what `dump_state` wrote. None for other bytes or another version, and for a team of another shape."""
    if saved is None or shape is None:
        return None
    try:
        values = orjson.loads(saved)
        kept = _ADAPTER.validate_python(values) if values.pop("session") == STATE_VERSION else None
    except (ValueError, TypeError, LookupError, AttributeError):
        return None
    return kept if kept is not None and kept.shape == shape else None


def first_checkpoint(
    task: Task, answerer: str, shape: TeamShape | None = None, characters: int = MEMORY_CHARACTERS
) -> TeamCheckpoint:
    """The first checkpoint of a run. A team of `shape` goes on from the session's state, if there is one that fits.
    Else its first turn begins with the remembered messages, then the question."""
    kept = load_state(task.session_state, shape)
    if kept is not None:
        asked = ExternalMessage(source=USER, text=task.question, target=kept.target, images=task.images)
        return TeamCheckpoint(state=kept.state, unheard=(asked,), remembered=kept.messages, skipped=kept.messages)
    earlier = remembered(task.history, answerer, characters)
    question = ExternalMessage(source=USER, text=task.question, images=task.images)
    return TeamCheckpoint(unheard=(*earlier, question), remembered=len(earlier), skipped=len(earlier))


def remembered(
    history: Sequence[Exchange], answerer: str, characters: int = MEMORY_CHARACTERS
) -> tuple[ExternalMessage, ...]:
    """The latest exchanges that fit into `characters`, oldest first. `answerer` is the source of the answers."""
    kept: list[Exchange] = []
    left = characters
    for exchange in reversed(history):
        short = replace(exchange, answer=_short(exchange.answer, ANSWER_CHARACTERS * characters // MEMORY_CHARACTERS))
        left -= len(short.question) + len(short.answer)
        if left < 0:
            break
        kept.insert(0, short)
    return tuple(
        said
        for exchange in kept
        for said in (
            ExternalMessage(source=USER, text=exchange.question),
            ExternalMessage(source=answerer, text=exchange.answer),
        )
    )


def _short(answer: str, most: int) -> str:
    """Cut an answer to `most` characters. A longer one loses its middle, from its SQL on if it has any. Whole
    paragraphs of its end stay, as many as fit into END_CHARACTERS, or into a fifth of a smaller maximum."""
    if len(answer) <= most:
        return answer
    tail = answer[-min(END_CHARACTERS, most // 5) :].partition("\n\n")[2]
    head = answer[: max(0, most - len(_CUT) - len(tail))]
    end = head.find(_SQL)
    if end < 0:
        end = head.rfind("\n")
    return (head[:end] if end > 0 else head).rstrip() + _CUT + tail
