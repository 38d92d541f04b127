"""The events of a run: a closed set of types, each with its data.

The names are the same on every transport (transports/PROTOCOL.md). A field that is None is left out on the wire; a
trailing underscore, needed if Python reserves the word (`from_`), is dropped there.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypeAlias

Json: TypeAlias = dict[str, Any] | list[Any] | str | int | float | bool | None
EventType: TypeAlias = Literal[
    "started",
    "agent_thinking",
    "agent_response",
    "tool_execution",
    "completed",
    "error",
    "cancelled",
    "input_requested",
    "input_resolved",
    "resumed",
    "agent_chunk",
]
CancelReason: TypeAlias = Literal["client", "orphaned", "timeout", "shutdown"]
ToolStatus: TypeAlias = Literal["started", "finished", "failed"]
InputOutcome: TypeAlias = Literal["answered", "timed_out"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that the model's provider counted, summed over the calls in question. None: one call wasn't counted."""

    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            _sum(self.prompt_tokens, other.prompt_tokens), _sum(self.completion_tokens, other.completion_tokens)
        )


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """First event of every run, before any model call. `images` are those of the question, as `data:` addresses."""

    question: str
    session_id: str
    model: str
    progress: int = 0
    images: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentThinking:
    """An agent's turn begins, it voices a thought, or it waits for its model.

    `message_id` is that of the chunks which announced this thought, where the model streamed it.
    """

    progress: int = 0
    message_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentResponse:
    """An agent finished its subtask; the event's message is its whole text.

    `message_id` is that of the chunks which announced this text, where the model streamed it. Content that isn't plain
    text is also in `content`: an object if `content_type` is `application/json`, a list of texts and images if it is
    `multipart/mixed`.
    """

    progress: int = 0
    usage: Usage = field(default_factory=Usage)
    message_id: str | None = None
    content_type: str | None = None
    content: Json = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolExecution:
    """A tool begins (`started`) and ends (`finished`, `failed`): two events with one `call_id`."""

    tool_name: str
    parameters: Json
    call_id: str
    status: ToolStatus
    result: Json = None
    duration_ms: int | None = None
    progress: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """Terminal: the team has answered. `response_length` counts characters, `total_messages` agents' messages.

    `answered_by` is the agent that wrote the answer. `stop_reason` says in the team's own words why it stopped.
    """

    final_response: str
    total_messages: int
    response_length: int
    usage: Usage
    duration_ms: int
    progress: int = 100
    answered_by: str | None = None
    stop_reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Terminal, `error` on the wire: `error` is a stable code; the event's message is for people."""

    error: str
    progress: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """Terminal: somebody or some limit stopped the run."""

    reason: CancelReason
    progress: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class InputRequested:
    """A human must answer before `deadline` (RFC 3339, UTC); `schema` is a JSON Schema of the value."""

    request_id: str
    prompt: str
    schema: dict[str, Any]
    deadline: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InputResolved:
    """Somebody answered, or time ran out and `value` is None."""

    request_id: str
    outcome: InputOutcome
    value: Json = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """The run goes on from a checkpoint: what came after `from_id` belongs to a turn that is done again.

    `charges`: how often the server died in this turn while no other run was at work. None for never.
    """

    attempt: int
    from_id: int
    charges: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentChunk:
    """A piece of text as the model writes it. All chunks of one text share a `message_id`.

    `thought`: the text is a thought before an answer, and no part of a response.
    """

    delta: str
    message_id: str
    thought: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Notice: events `from` to `to`, both included, that this viewer asked for are gone."""

    from_: int
    to: int
    reason: Literal["trimmed", "expired"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """Notice: this server is going away; reconnect after `retry_ms`."""

    retry_ms: int


Terminal: TypeAlias = Completed | Failed | Cancelled
EventBody: TypeAlias = (
    Started
    | AgentThinking
    | AgentResponse
    | ToolExecution
    | Terminal
    | InputRequested
    | InputResolved
    | Resumed
    | AgentChunk
)
NoticeBody: TypeAlias = Gap | Drain

EVENT_TYPES: dict[EventType, type[Any]] = {
    "started": Started,
    "agent_thinking": AgentThinking,
    "agent_response": AgentResponse,
    "tool_execution": ToolExecution,
    "completed": Completed,
    "error": Failed,
    "cancelled": Cancelled,
    "input_requested": InputRequested,
    "input_resolved": InputResolved,
    "resumed": Resumed,
    "agent_chunk": AgentChunk,
}
NOTICE_TYPES: dict[str, type[Any]] = {"gap": Gap, "drain": Drain}
TYPE_NAMES: dict[type[Any], str] = {kind: name for name, kind in [*EVENT_TYPES.items(), *NOTICE_TYPES.items()]}
TERMINAL_TYPES = frozenset({"completed", "error", "cancelled"})


class Draft(NamedTuple):
    """An event before the run's only writer gives it an id and a time."""

    agent_name: str
    message: str
    body: EventBody

    @property
    def event_type(self) -> str:
        return TYPE_NAMES[type(self.body)]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened in a run; immutable. `id` counts from 1 without a gap in the unfiltered log."""

    id: int
    run_id: str
    timestamp: datetime
    agent_name: str
    message: str
    body: EventBody

    @property
    def event_type(self) -> str:
        return TYPE_NAMES[type(self.body)]

    @property
    def terminal(self) -> bool:
        return self.event_type in TERMINAL_TYPES


@dataclass(frozen=True, slots=True)
class Notice:
    """A message to a viewer that isn't in the log: the same envelope without an `id`. Moves no cursor."""

    run_id: str
    timestamp: datetime
    message: str
    body: NoticeBody

    @property
    def event_type(self) -> str:
        return TYPE_NAMES[type(self.body)]
