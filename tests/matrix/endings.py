"""Every termination condition of AutoGen, each ending the same team; alone, and with `|` and `&`."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from autogen_agentchat.agents import BaseChatAgent
from autogen_agentchat.base import Response, Team, TerminationCondition
from autogen_agentchat.conditions import (
    ExternalTermination,
    FunctionalTermination,
    FunctionCallTermination,
    HandoffTermination,
    MaxMessageTermination,
    SourceMatchTermination,
    StopMessageTermination,
    TextMentionTermination,
    TextMessageTermination,
    TimeoutTermination,
    TokenUsageTermination,
)
from autogen_agentchat.messages import BaseChatMessage, StopMessage, TextMessage
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import CancellationToken

from tests.matrix.classics import look
from tests.matrix.kinds import KINDS, Cast, Kind
from tests.timing import MS

# A time that ends a team in its slow member's first turn: longer than the writer's turn before, on a busy machine.
MOST, PAUSE = 1_000 * MS, 1_200 * MS


class Closer(BaseChatAgent):
    """At its second turn it sets an external condition or sends a StopMessage. It is slow if time ends the team."""

    def __init__(self, ends: TerminationCondition) -> None:
        super().__init__("closer", "Is closer.")
        self._external = ends if isinstance(ends, ExternalTermination) else None
        self._pause = PAUSE if isinstance(ends, TimeoutTermination) else 0.0
        self._turns = 0

    @property
    def produced_message_types(self) -> Sequence[type[BaseChatMessage]]:
        return (TextMessage, StopMessage)

    async def on_messages(self, messages: Sequence[BaseChatMessage], cancellation_token: CancellationToken) -> Response:
        self._turns += 1
        await asyncio.sleep(self._pause)
        if self._turns == 2 and self._external:
            self._external.set()
        kind = StopMessage if self._turns == 2 and not self._external else TextMessage
        return Response(chat_message=kind(source=self.name, content=f"Turn {self._turns} of the closer."))

    async def on_reset(self, cancellation_token: CancellationToken) -> None:
        self._turns = 0

    async def save_state(self) -> dict[str, Any]:
        return {"turns": self._turns}

    async def load_state(self, state: Any) -> None:
        self._turns = state["turns"]


def _third_is_writer(messages: Sequence[Any]) -> bool:
    return any(message.source == "writer" and "Second" in message.to_text() for message in messages)


async def _is_long(messages: Sequence[Any]) -> bool:
    return sum(len(message.to_text()) for message in messages) > 30


CONDITIONS: dict[str, Callable[[], TerminationCondition]] = {
    "max_message": lambda: MaxMessageTermination(4),
    "max_message_with_events": lambda: MaxMessageTermination(5, include_agent_event=True),
    "text_mention": lambda: TextMentionTermination("Second", sources=["writer"]),
    "token_usage": lambda: TokenUsageTermination(max_total_token=150),
    "handoff": lambda: HandoffTermination("closer"),
    "timeout": lambda: TimeoutTermination(MOST),
    "external": ExternalTermination,
    "source_match": lambda: SourceMatchTermination(["closer"]),
    "text_message": lambda: TextMessageTermination("closer"),
    "function_call": lambda: FunctionCallTermination("look"),
    "functional": lambda: FunctionalTermination(_third_is_writer),
    "functional_async": lambda: FunctionalTermination(_is_long),
    "stop_message": StopMessageTermination,
    "either": lambda: MaxMessageTermination(9) | TextMentionTermination("Second"),
    "both": lambda: MaxMessageTermination(3) & SourceMatchTermination(["closer"]),
    "nested": lambda: (MaxMessageTermination(2) & TextMentionTermination("Second")) | MaxMessageTermination(30),
}


def _ended_by(condition: Callable[[], TerminationCondition]) -> Callable[[Cast], Team]:
    def make(cast: Cast) -> Team:
        ends = condition()
        writer = cast.agent(
            "writer", "First text.", [["look", {"at": "sky"}]], "Second text.", "Third text.",
            tools=[look], handoffs=["closer"], reflect_on_tool_use=True,
        )  # fmt: skip
        members: list[Any] = [writer, Closer(ends)]
        return RoundRobinGroupChat(members, termination_condition=ends, max_turns=12)

    return make


KINDS.update({f"ended_by_{name}": Kind(make=_ended_by(made), hangs_at=0) for name, made in CONDITIONS.items()})
