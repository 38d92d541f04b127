"""Agents inside agents: exact usage, the right names, each text announced once, and each turn behind its cause."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent, BaseChatAgent, MessageFilterAgent, SocietyOfMindAgent
from autogen_agentchat.agents._message_filter_agent import MessageFilterConfig, PerSourceFilter
from autogen_agentchat.base import Response
from autogen_agentchat.messages import BaseChatMessage, TextMessage
from autogen_agentchat.teams import BaseGroupChat, MagenticOneGroupChat, RoundRobinGroupChat, SelectorGroupChat
from autogen_agentchat.tools import AgentTool, TeamTool
from autogen_core import CancellationToken
from autogen_core.models import ChatCompletionClient

from askstream.agents import nesting
from askstream.agents.autogen_internals import own_description
from askstream.agents.models import ModelSettings, connect
from askstream.server.events import AgentChunk, AgentResponse, AgentThinking, ToolExecution, Usage
from tests.agents.fake_provider import Body, Provider, Reply, provider
from tests.agents.sample_teams import Recorder, agent, answered, orchestrator, task

Make = Callable[..., Any]
STREAMS = [False, True]


def model(body: Body, number: int) -> Reply:
    """Calls the one tool that it is offered, once. Usage grows, so that each sum tells which calls it has."""
    usage = (2**number, 3**number)
    system = str(body["messages"][0]["content"])
    tools = [tool["function"]["name"] for tool in body.get("tools", [])]
    if tools and body["messages"][-1]["role"] != "tool":
        return Reply(calls=[(tools[0], '{"task": "do it"}')], usage=usage)
    if system.startswith("You are in a role play"):
        return Reply(text=["B"], usage=usage)
    return Reply(text=[f"Text {number} ", "by ", system[8:9]], usage=usage)


def society(client: ChatCompletionClient, **options: Any) -> BaseGroupChat:
    inner = SelectorGroupChat([agent(client, "B", **options), agent(client, "C")], client, max_turns=1)
    outer = SocietyOfMindAgent("Society", inner, client)
    return RoundRobinGroupChat([outer, agent(client, "A", **options)], max_turns=2)


def agent_tool(client: ChatCompletionClient, **options: Any) -> BaseGroupChat:
    tool = AgentTool(agent(client, "B", **options))
    return RoundRobinGroupChat([agent(client, "A", tools=[tool], reflect_on_tool_use=True, **options)], max_turns=1)


def team_tool(client: ChatCompletionClient, **options: Any) -> BaseGroupChat:
    inner = RoundRobinGroupChat([agent(client, "B", **options), agent(client, "C", **options)], max_turns=2)
    tool = TeamTool(inner, "experts", "Experts.")
    return RoundRobinGroupChat([agent(client, "A", tools=[tool], reflect_on_tool_use=True, **options)], max_turns=1)


def filtered(client: ChatCompletionClient, **options: Any) -> BaseGroupChat:
    sees = MessageFilterConfig(per_source=[PerSourceFilter(source="user")])
    return RoundRobinGroupChat(
        [agent(client, "A", **options), MessageFilterAgent("Filter", agent(client, "B", **options), sees)], max_turns=2
    )


def nested(client: ChatCompletionClient, **options: Any) -> BaseGroupChat:
    inner = RoundRobinGroupChat([agent(client, "B", **options), agent(client, "C", **options)], max_turns=2, name="I")
    return RoundRobinGroupChat([agent(client, "A", **options), inner], max_turns=2)


class Hidden(BaseChatAgent):
    """A custom agent that keeps an inner agent's messages to itself."""

    def __init__(self, client: ChatCompletionClient) -> None:
        super().__init__("Hidden", "Hides.")
        self._helpers = {"b": agent(client, "B")}

    @property
    def produced_message_types(self) -> Sequence[type[BaseChatMessage]]:
        return (TextMessage,)

    async def on_messages(self, messages: Sequence[BaseChatMessage], cancellation_token: CancellationToken) -> Response:
        result = await self._helpers["b"].run(task="x")
        result = await self._helpers["b"].run(task="y")
        return Response(chat_message=TextMessage(source=self.name, content=result.messages[-1].to_text()))

    async def on_reset(self, cancellation_token: CancellationToken) -> None: ...


def hidden(client: ChatCompletionClient, **options: Any) -> BaseGroupChat:
    return RoundRobinGroupChat([Hidden(client), agent(client, "A", **options)], max_turns=2)


KINDS = [society, agent_tool, team_tool, filtered, nested]


def counted(fake: Provider) -> Usage:
    return Usage(sum(2**n for n in range(len(fake.requests))), sum(3**n for n in range(len(fake.requests))))


@pytest.mark.parametrize("streams", STREAMS)
@pytest.mark.parametrize("own", [False, True], ids=["the server's client", "an own client"])
@pytest.mark.parametrize("make", KINDS)
async def test_usage_is_what_the_models_server_counted(make: Make, own: bool, streams: bool) -> None:
    """All calls of all agents, and of the inner team's manager, which no message reports."""
    sink = Recorder()
    async with provider(model) as fake:
        mine = connect(ModelSettings(base_url=fake.base_url, model="m"))

        def team_of(client: ChatCompletionClient) -> Any:
            return make(mine if own else client, model_client_stream=streams)

        async with orchestrator(fake, team_of) as team:
            answer = answered(await team.run(task(), sink))
        await mine.close()
        assert answer.usage == counted(fake)
        responses = Usage()
        for body in sink.bodies(AgentResponse):
            responses += body.usage
        choice = Usage(1, 1) if make is society else Usage()
        assert responses + choice == counted(fake)


@pytest.mark.parametrize("streams", STREAMS)
@pytest.mark.parametrize("make", KINDS)
async def test_each_streamed_text_is_announced_once_under_its_authors_name(make: Make, streams: bool) -> None:
    """The pieces of each id make up one response, of the same agent; and all pieces belong to one."""
    sink = Recorder()
    async with (
        provider(model) as fake,
        orchestrator(fake, partial(make, model_client_stream=streams)) as team,
    ):
        await team.run(task(), sink)
    responses = {d.body.message_id: d for d in sink.drafts if isinstance(d.body, AgentResponse) and d.body.message_id}
    chunks = [d for d in sink.drafts if isinstance(d.body, AgentChunk)]
    assert len(responses) >= 2
    assert {d.body.message_id for d in chunks if isinstance(d.body, AgentChunk)} == set(responses)
    for message_id, draft in responses.items():
        assert sink.written(message_id) == draft.message
    for chunk in chunks:
        assert isinstance(chunk.body, AgentChunk)
        assert chunk.agent_name == responses[chunk.body.message_id].agent_name


@pytest.mark.parametrize("make", [*KINDS, hidden])
async def test_the_messages_are_those_of_autogens_own_run(make: Make) -> None:
    """The same in the same order."""
    async with provider(model) as fake:
        sink = Recorder()
        async with orchestrator(fake, make) as team:
            await team.run(task(), sink)
    async with provider(model) as fake:
        client = connect(ModelSettings(base_url=fake.base_url, model="m"))
        stream = make(client).run_stream(task="Why?", output_task_messages=False)
        said = [(m.source, m.to_text()) async for m in stream if isinstance(m, BaseChatMessage)]
        await client.close()
    assert sink.said() == said


class Slow(Recorder):
    """A sink that lets other tasks run before each event."""

    async def emit(self, draft: Any) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        await super().emit(draft)


def turns(sink: Recorder) -> list[tuple[str, str]]:
    """Each turn's beginning, each text's first piece, each response, and each tool's beginning and end."""
    seen, found = set[str](), list[tuple[str, str]]()
    for draft in sink.drafts:
        match draft.body:
            case AgentThinking():
                found.append((draft.agent_name, "turn"))
            case AgentChunk(message_id=message_id) if message_id not in seen:
                seen.add(message_id)
                found.append((draft.agent_name, "text"))
            case AgentResponse():
                found.append((draft.agent_name, "said"))
            case ToolExecution(status=status):
                found.append((draft.agent_name, status))
            case _:
                pass
    return found


def turn(name: str) -> list[tuple[str, str]]:
    return [(name, "turn"), (name, "text"), (name, "said")]


ORDERS: dict[Make, list[tuple[str, str]]] = {
    society: [*turn("B"), ("Society", "text"), ("Society", "said"), *turn("A")],
    agent_tool: [
        ("A", "turn"), ("A", "started"), ("user", "said"), *turn("B"), ("A", "finished"), ("A", "text"), ("A", "said")
    ],
    team_tool: [
        ("A", "turn"), ("A", "started"), ("user", "said"), *turn("B"), *turn("C"), ("A", "finished"), ("A", "text"),
        ("A", "said"),
    ],
    filtered: [*turn("A"), ("Filter", "turn"), *turn("B")],
    nested: [*turn("A"), *turn("B"), *turn("C")],
}  # fmt: skip


@pytest.mark.parametrize("streams", STREAMS)
@pytest.mark.parametrize(("make", "order"), ORDERS.items(), ids=lambda value: getattr(value, "__name__", ""))
async def test_a_turn_begins_after_the_message_that_caused_it(
    make: Make, order: list[tuple[str, str]], streams: bool
) -> None:
    """Also in teams inside teams, with a log that is slower than they are, and a model that answers at once."""
    sink = Slow()
    async with (
        provider(model) as fake,
        orchestrator(fake, partial(make, model_client_stream=streams)) as team,
    ):
        await team.run(task(), sink)
    found = turns(sink)
    if make is society:
        found.remove(("Society", "turn"))
    assert found == order


def magentic(client: ChatCompletionClient) -> BaseGroupChat:
    return MagenticOneGroupChat([agent(client, "A")], client, max_turns=4)


async def test_in_magentic_one_a_turn_begins_after_the_managers_instruction() -> None:
    """The manager's messages and the agents' turns come by different ways."""

    def manager_says(body: Body, number: int) -> Reply:
        asked = str(body["messages"][-1]["content"])
        if "is_request_satisfied" not in asked:
            return Reply(text=[f"Text {number}"])
        ends = len(body["messages"]) > 4
        facts = {"is_request_satisfied": ends, "is_in_loop": False, "is_progress_being_made": True}
        parts = [f'"{name}": {{"reason": "r", "answer": {str(value).lower()}}}' for name, value in facts.items()]
        for name, text in (("next_speaker", "A"), ("instruction_or_question", "Go.")):
            parts.append(f'"{name}": {{"reason": "r", "answer": "{text}"}}')
        return Reply(text=["{" + ", ".join(parts) + "}"])

    sink = Slow()
    async with (
        provider(manager_says) as fake,
        orchestrator(fake, magentic) as team,
    ):
        await team.run(task(), sink)
    manager = ("MagenticOneOrchestrator", "said")
    found = turns(sink)
    assert found[:3] == [manager, manager, ("A", "turn")]  # the plan, the instruction
    for place, step in enumerate(found):
        if step == ("A", "turn"):
            assert found[place - 1] == manager


async def test_an_agent_that_hides_an_inner_agents_messages_does_not_wait_for_them() -> None:
    """They never come to the runner. The first loss is noticed once; the run goes on."""
    sink = Recorder()
    async with provider(model) as fake, orchestrator(fake, hidden) as team:
        answer = answered(await asyncio.wait_for(team.run(task(), sink), 10))
        assert answer.usage == counted(fake)
    assert [name for name, _ in sink.said()] == ["Hidden", "A"]


async def test_a_tool_that_asks_a_model_by_itself_writes_no_text_of_the_agents() -> None:
    """Its usage counts, and no viewer gets a text that belongs to no message."""

    def make(client: ChatCompletionClient) -> AssistantAgent:
        async def expert(task: str) -> str:
            """Asks an expert."""
            return (await agent(client, "B").run(task=task)).messages[-1].to_text()

        return agent(client, "A", tools=[expert], reflect_on_tool_use=True)

    sink = Recorder()
    async with provider(model) as fake, orchestrator(fake, make) as team:
        answer = answered(await team.run(task(), sink))
        assert answer.usage == counted(fake)
    (said,) = sink.bodies(AgentResponse)
    assert {body.message_id for body in sink.bodies(AgentChunk)} == {said.message_id}


CLIENT = connect(ModelSettings(model="gpt-4o", api_key="x"))


@pytest.mark.parametrize("make", [*KINDS, hidden])
def test_all_agents_are_found_each_once(make: Make) -> None:
    """In teams, agents, tools, and in an attribute of any name."""
    found = [agent.name for agent in nesting.agents(make(CLIENT))]
    assert {"A", "B"} <= set(found)
    assert len(found) == len(set(found))


def test_a_default_description_says_nothing() -> None:
    """A turn begins with an agent's own description only."""
    inner = RoundRobinGroupChat([AssistantAgent("B", CLIENT)])
    sees = MessageFilterConfig(per_source=[])
    plain = [
        AssistantAgent("A", CLIENT),
        SocietyOfMindAgent("S", inner, CLIENT),
        MessageFilterAgent("F", AssistantAgent("C", CLIENT), sees),
    ]
    assert [own_description(one) for one in plain] == ["", "", ""]
    assert own_description(AssistantAgent("A", CLIENT, description="Plans.")) == "Plans."
    wrapped = MessageFilterAgent("F", AssistantAgent("C", CLIENT, description="Plans."), sees)
    assert own_description(wrapped) == "Plans."
