"""A team that does what its question says, served with `--team tests.chaos.team:factory`: no model, and fast.

Two agents take turns. Each turn has its number, so that a log shows whether a turn was lost or repeated.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from autogen_agentchat.agents import BaseChatAgent
from autogen_agentchat.base import Response
from autogen_agentchat.conditions import HandoffTermination, TextMentionTermination
from autogen_agentchat.messages import (
    BaseAgentEvent,
    BaseChatMessage,
    HandoffMessage,
    ModelClientStreamingChunkEvent,
    TextMessage,
    ToolCallExecutionEvent,
    ToolCallRequestEvent,
)
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import CancellationToken, FunctionCall
from autogen_core.models import FunctionExecutionResult

DONE = "That is all."


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run's script. `turns` counts the turns of each agent; `asks` and `fails` name one of them, 0 none.

    `pause` is the length of each step in seconds. A `stubborn` run ignores its cancel during a step.
    """

    tag: str
    turns: int = 3
    pause: float = 0.02
    chunks: int = 4
    size: int = 100
    asks: int = 0
    fails: int = 0
    stubborn: bool = False

    def question(self) -> str:
        return json.dumps({"plan": asdict(self)})

    @classmethod
    def of(cls, question: str) -> Self:
        return cls(**json.loads(question)["plan"])


class Member(BaseChatAgent):
    """Its state is its question and the number of its turns."""

    def __init__(self, name: str, *, last: bool = False) -> None:
        super().__init__(name, f"{name} takes its turns")
        self._last = last
        self._question = ""
        self._turns = 0

    @property
    def produced_message_types(self) -> Sequence[type[BaseChatMessage]]:
        return (TextMessage, HandoffMessage)

    async def on_messages(self, messages: Sequence[BaseChatMessage], cancellation_token: CancellationToken) -> Response:
        raise AssertionError("teams stream")

    async def on_messages_stream(
        self, messages: Sequence[BaseChatMessage], cancellation_token: CancellationToken
    ) -> AsyncGenerator[BaseAgentEvent | BaseChatMessage | Response, None]:
        for message in messages:
            if isinstance(message, TextMessage) and message.content.startswith('{"plan"'):
                self._question, self._turns = message.content, 0  # earlier runs' plans come first
        plan = Plan.of(self._question)
        turn = self._turns + 1
        for number in range(plan.chunks):
            yield ModelClientStreamingChunkEvent(source=self.name, content=f"{turn}.{number} ")
            await _works(plan)
        if turn == plan.fails:
            raise RuntimeError("this turn fails")
        async for event in self._tool(plan, turn):
            yield event
        self._turns = turn
        yield Response(chat_message=self._said(plan, turn))

    def _said(self, plan: Plan, turn: int) -> TextMessage | HandoffMessage:
        text = f"{self.name} turn {turn} of {plan.tag}: {'x' * plan.size}"
        if self._last and turn == plan.asks:
            return HandoffMessage(source=self.name, target="user", content=text)
        if self._last and turn >= plan.turns:
            text += DONE
        return TextMessage(source=self.name, content=text)

    async def _tool(self, plan: Plan, turn: int) -> AsyncGenerator[BaseAgentEvent, None]:
        call_id = f"{self.name}-{turn}"
        call = FunctionCall(id=call_id, name="work", arguments=json.dumps({"turn": turn}))
        yield ToolCallRequestEvent(source=self.name, content=[call])
        await asyncio.to_thread(time.sleep, plan.pause)  # AutoGen, too, runs a plain function in a thread
        done = FunctionExecutionResult(content="worked", name="work", call_id=call_id, is_error=False)
        yield ToolCallExecutionEvent(source=self.name, content=[done])

    async def on_reset(self, cancellation_token: CancellationToken) -> None:
        self._question, self._turns = "", 0

    async def save_state(self) -> Mapping[str, Any]:
        return {"question": self._question, "turns": self._turns}

    async def load_state(self, state: Mapping[str, Any]) -> None:
        self._question, self._turns = state["question"], state["turns"]


async def _works(plan: Plan) -> None:
    """Wait for the plan's pause; a stubborn plan waits to the end although it is cancelled."""
    end = time.monotonic() + plan.pause
    while (left := end - time.monotonic()) > 0:
        with contextlib.suppress(*([asyncio.CancelledError] if plan.stubborn else [])):
            await asyncio.sleep(left)


def factory() -> RoundRobinGroupChat:
    """Fresh agents for each run."""
    ends = TextMentionTermination(DONE) | HandoffTermination("user")
    return RoundRobinGroupChat([Member("Alpha"), Member("Omega", last=True)], termination_condition=ends)
