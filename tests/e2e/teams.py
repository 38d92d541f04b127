"""Teams of the tests' own, served with `--team tests.e2e.teams:NAME`: AutoGen's."""

import asyncio
import sys
import threading
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from autogen_agentchat.agents import AssistantAgent, BaseChatAgent, UserProxyAgent
from autogen_agentchat.base import Response, TaskResult, Team
from autogen_agentchat.conditions import TextMentionTermination
from autogen_agentchat.messages import (
    BaseAgentEvent,
    BaseChatMessage,
    ModelClientStreamingChunkEvent,
    TextMessage,
)
from autogen_agentchat.teams import DiGraphBuilder, GraphFlow, RoundRobinGroupChat
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


class Reciter(Silent):
    """Says each of its texts in turn."""

    def __init__(self, name: str, *texts: str) -> None:
        super().__init__(name)
        self._texts = iter(texts)

    async def turn(self) -> AsyncGenerator[Said, None]:
        text = next(self._texts)
        half = len(text) // 2
        for piece in (text[:half], text[half:]):
            yield ModelClientStreamingChunkEvent(source=self.name, content=piece)
        yield Response(chat_message=TextMessage(source=self.name, content=text))


# The halves of an emoji, a lone one, and more than an event holds.
EMOJI, LONE, LONG = "\ud83d" + "\ude00", "a\ud83d", "x" * 300_000


def approving() -> Team:
    """A writer and a critic, whose texts are hard to send."""
    members: list[Any] = [Reciter("Writer", EMOJI, LONG), Reciter("Critic", LONE, "**APPROVE**")]
    return RoundRobinGroupChat(members, termination_condition=TextMentionTermination("APPROVE"))


class Writer(Silent):
    """Says that it has written."""

    async def turn(self) -> AsyncGenerator[Said, None]:
        yield Response(chat_message=TextMessage(source=self.name, content=f"{self.name} has written"))


def asking() -> Team:
    """A team that can't be stopped and resumed where it asks a person. They see it again until they approve."""
    writer, person, last = members = Writer("Writer"), UserProxyAgent("Person", input_func=_asks), Writer("Publisher")
    built = DiGraphBuilder().add_node(writer).add_node(person).add_node(last)
    built.add_edge(writer, person).add_edge(person, writer, "again").add_edge(person, last, "approved")
    built.set_entry_point(writer)
    return GraphFlow(list(members), built.build(), max_turns=200)


def _asks(prompt: str) -> str:
    return input("Is it good? ")


class Reader(Silent):
    """Reads the server's console in a thread that no run knows of."""

    async def turn(self) -> AsyncGenerator[Said, None]:
        loop = asyncio.get_running_loop()
        line = loop.create_future()
        threading.Thread(target=lambda: loop.call_soon_threadsafe(line.set_result, sys.stdin.readline())).start()
        yield Response(chat_message=TextMessage(source=self.name, content=repr(await line)))


def reading() -> Team:
    return RoundRobinGroupChat([Reader("Reader")], max_turns=1)
