"""Teams of the tests' own, served with `--team tests.e2e.teams:NAME`: AutoGen's, with a model that is none."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from autogen_agentchat.agents import BaseChatAgent
from autogen_agentchat.base import Response
from autogen_agentchat.messages import BaseAgentEvent, BaseChatMessage, TextMessage
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import CancellationToken


class Waiter(BaseChatAgent):
    """Says nothing and never finishes."""

    def __init__(self) -> None:
        super().__init__("Waiter", "waits")

    @property
    def produced_message_types(self) -> Sequence[type[BaseChatMessage]]:
        return (TextMessage,)

    async def on_messages(self, messages: Sequence[BaseChatMessage], cancellation_token: CancellationToken) -> Response:
        await asyncio.Event().wait()
        raise AssertionError("an event that nobody sets was set")

    def on_messages_stream(
        self, messages: Sequence[BaseChatMessage], cancellation_token: CancellationToken
    ) -> AsyncGenerator[BaseAgentEvent | BaseChatMessage | Response, None]:
        return super().on_messages_stream(messages, cancellation_token)

    async def on_reset(self, cancellation_token: CancellationToken) -> None:
        """It remembers nothing."""


def waiting() -> Any:
    """A team whose run ends only when it is stopped."""
    return RoundRobinGroupChat([Waiter()], max_turns=1)
