"""Teams for tests and a model for them, a sink that records, an orchestrator."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.teams import BaseGroupChat, DiGraphBuilder, GraphFlow, Swarm
from autogen_core.models import ChatCompletionClient

from askstream.agents.factory import CustomTeam
from askstream.agents.human import TeamProfile
from askstream.agents.memory import ContextWindow
from askstream.agents.models import ModelSettings, connect
from askstream.agents.orchestrator import AutoGenOrchestrator
from askstream.agents.team_factory import TeamFactory
from askstream.agents.waits import WaitPolicy
from askstream.server.events import AgentChunk, AgentResponse, AgentThinking, Draft, ToolExecution
from askstream.server.runs.orchestrator import Answer, Inquiry, Reply, Task
from tests.agents import fake_provider
from tests.agents.fake_provider import Body, Provider

Make = Callable[[ChatCompletionClient], BaseGroupChat]
B = TypeVar("B", AgentChunk, AgentResponse, AgentThinking, ToolExecution)


class Recorder:
    """A sink that records everything, and can be waited on."""

    def __init__(self) -> None:
        self.drafts: list[Draft] = []
        self.checkpoints: list[bytes] = []
        self.asked: list[Inquiry] = []  # in memory
        self.replies: list[Reply] = []
        self._emitted = asyncio.Event()

    async def emit(self, draft: Draft) -> None:
        self.drafts.append(draft)
        self._emitted.set()

    async def checkpoint(self, state: bytes) -> None:
        self.checkpoints.append(state)

    async def ask(self, inquiry: Inquiry) -> Reply:
        """Reply with the next of `replies`."""
        self.asked.append(inquiry)
        return self.replies.pop(0)

    async def until(self, wanted: Callable[[Draft], bool]) -> Draft:
        """Wait for the first such draft."""
        while True:
            for draft in self.drafts:
                if wanted(draft):
                    return draft
            self._emitted.clear()
            await asyncio.wait_for(self._emitted.wait(), 10)

    def bodies(self, kind: type[B]) -> list[B]:
        return [draft.body for draft in self.drafts if isinstance(draft.body, kind)]

    def said(self) -> list[tuple[str, str]]:
        """Each response's agent and text, in order."""
        return [(draft.agent_name, draft.message) for draft in self.drafts if isinstance(draft.body, AgentResponse)]

    def written(self, message_id: str | None) -> str:
        """The text that the pieces of this id make up."""
        return "".join(body.delta for body in self.bodies(AgentChunk) if body.message_id == message_id)


@asynccontextmanager
async def orchestrator(
    fake: Provider,
    make: Callable[..., Any],
    *,
    max_messages: int = 40,
    conversation_messages: int = 400,
    wait_seconds: float = 0.0,
    patience: float = 10.0,
    window: int | None = None,
    profile: TeamProfile | None = None,
    client: ChatCompletionClient | None = None,
) -> AsyncGenerator[AutoGenOrchestrator]:
    """An orchestrator of the team that `make` returns for a model client. It closes `client`."""
    settings = ModelSettings(
        model="fake",
        base_url=fake.base_url,
        names="field",
        options={"timeout": patience},
        info={"structured_output": True},
    )
    source = CustomTeam(factory(make))
    source.profile = profile or source.profile
    made = AutoGenOrchestrator(
        model="fake",
        client=lambda: client or connect(settings),
        source=source,
        max_messages=max_messages,
        conversation_messages=conversation_messages,
        waits=WaitPolicy(seconds=wait_seconds),
        window=ContextWindow(window),
    )
    try:
        yield made
    finally:
        await made.close()


def factory(make: Callable[..., Any]) -> TeamFactory:
    """A factory of the teams that `make` returns for a model client."""

    def made(model_client: ChatCompletionClient) -> Any:
        return make(model_client)

    return TeamFactory("tests:make", made)


def answered(outcome: Answer | Inquiry) -> Answer:
    """The answer of a run that needed no human."""
    assert isinstance(outcome, Answer)
    return outcome


def task(question: str = "Why?", *, run_id: str = "r", checkpoint: bytes | None = None) -> Task:
    return Task(run_id=run_id, session_id="s", question=question, checkpoint=checkpoint)


def agent(client: ChatCompletionClient, name: str, **options: Any) -> AssistantAgent:
    return AssistantAgent(name, client, system_message=f"You are {name}.", description=f"Is {name}.", **options)


def agents(client: ChatCompletionClient, names: str = "ABC") -> list[Any]:
    return [agent(client, name, tools=[look], reflect_on_tool_use=True) for name in names]


def forked(members: list[Any]) -> BaseGroupChat:
    """A graph in which all others follow the first member at once."""
    first, *rest = members
    built = DiGraphBuilder()
    for member in members:
        built.add_node(member)
    for member in rest:
        built.add_edge(first, member)
    return GraphFlow(members, built.build())


async def look(at: str) -> str:
    """Look at something."""
    return f"{at} seen"


def swarm(client: ChatCompletionClient) -> BaseGroupChat:
    members = [agent(client, name, handoffs=[to]) for name, to in ("AB", "BC", "CA")]
    return Swarm(list(members), termination_condition=MaxMessageTermination(6))


def graph(client: ChatCompletionClient) -> BaseGroupChat:
    first, second, third = members = agents(client)
    built = DiGraphBuilder().add_node(first).add_node(second).add_node(third)
    built.add_edge(first, second).add_edge(second, third)
    return GraphFlow(members, built.build())


def model(body: Body, _: int) -> fake_provider.Reply:
    """A model without memory: its text and usage follow from the request alone."""
    system, messages = str(body["messages"][0]["content"]), body["messages"]
    size = (len(messages), 1)
    if not system.startswith("You are "):
        speakers = [m["name"] for m in messages if "name" in m]
        return fake_provider.Reply(text=["ABC"[(len(str(messages)) + len(speakers)) % 3]], usage=size)
    name = system[8]
    own = sum(m["role"] == "assistant" and "tool_calls" not in m for m in messages)
    tools = [tool["function"]["name"] for tool in body.get("tools", [])]
    if "look" in tools and messages[-1]["role"] != "tool":
        return fake_provider.Reply(calls=[("look", f'{{"at": "{own}"}}')], usage=size)
    if handoffs := [tool for tool in tools if tool.startswith("transfer")]:
        return fake_provider.Reply(calls=[(handoffs[0], "{}")], usage=size)
    return fake_provider.Reply(text=[f"{name} has ", f"spoken {own + 1}", f" of {len(messages)}"], usage=size)


async def uninterrupted(fake: Provider, make: Make) -> tuple[Answer, Recorder]:
    sink = Recorder()
    async with orchestrator(fake, make) as team:
        return answered(await team.run(task(), sink)), sink


def comparable(drafts: list[Draft]) -> list[Any]:
    """The drafts without the parts that differ between two equal runs: chunks, random ids and durations."""
    told: list[Any] = []
    for draft in drafts:
        match draft.body:
            case AgentResponse():
                told.append((draft.agent_name, draft.message, replace(draft.body, message_id=None)))
            case ToolExecution():
                told.append((draft.agent_name, draft.message, replace(draft.body, duration_ms=None)))
            case _ if draft.event_type == "agent_chunk":
                pass
            case _:
                told.append((draft.agent_name, draft.message, draft.body))
    return told
