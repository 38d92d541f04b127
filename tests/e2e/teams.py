"""Teams of the tests' own, served with `--team tests.e2e.teams:NAME`: AutoGen's."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from autogen_agentchat.agents import AssistantAgent, BaseChatAgent
from autogen_agentchat.base import Response, TaskResult, Team
from autogen_agentchat.messages import (
    BaseAgentEvent,
    BaseChatMessage,
    ModelClientStreamingChunkEvent,
    TextMessage,
)
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import CancellationToken

Said = BaseAgentEvent | BaseChatMessage | Response


class Silent(BaseChatAgent):
    """An agent that remembers nothing. Its messages are made in `turn`."""

    def __init__(self, name: str) -> None:
        super().__init__(name, name)

    @property
    def produced_message_types(self) -> Sequence[type[BaseChatMessage]]:
        return (TextMessage,)

    async def on_messages(self, messages: Sequence[BaseChatMessage], cancellation_token: CancellationToken) -> Response:
        raise AssertionError("teams stream")

    async def on_messages_stream(
        self, messages: Sequence[BaseChatMessage], cancellation_token: CancellationToken
    ) -> AsyncGenerator[Said, None]:
        async for said in self.turn():
            yield said

    async def turn(self) -> AsyncGenerator[Said, None]:
        await asyncio.Event().wait()
        yield Response(chat_message=TextMessage(source=self.name, content="never"))

    async def on_reset(self, cancellation_token: CancellationToken) -> None:
        """It remembers nothing."""


class Flooder(Silent):
    """Sends more text than any buffer between two processes holds."""

    async def turn(self) -> AsyncGenerator[Said, None]:
        yield Response(chat_message=TextMessage(source=self.name, content="x" * 100_000))


class Streamer(Silent):
    """Sends a text in a thousand pieces."""

    async def turn(self) -> AsyncGenerator[Said, None]:
        for number in range(1000):
            yield ModelClientStreamingChunkEvent(source=self.name, content=f"{number} " * 300)
        yield Response(chat_message=TextMessage(source=self.name, content="all said"))


def solo(model_client: Any) -> Any:
    return AssistantAgent("Solo", model_client)


def waiting() -> Any:
    """A team whose run ends only when it is stopped."""
    return RoundRobinGroupChat([Silent("Waiter")], max_turns=1)


def flooding() -> Any:
    return RoundRobinGroupChat([Flooder("Flooder")], max_turns=30)


def streaming() -> Any:
    return RoundRobinGroupChat([Streamer("Streamer")], max_turns=2)


class Unresumable(RoundRobinGroupChat):
    """A kind of team that the server can't drive turn by turn."""

    async def run_stream(self, **options: Any) -> AsyncGenerator[BaseAgentEvent | BaseChatMessage | TaskResult, None]:
        yield TextMessage(source="Waiter", content="I begin.")
        await asyncio.Event().wait()


def unresumable() -> Team:
    return Unresumable([Silent("Waiter")], max_turns=1)
