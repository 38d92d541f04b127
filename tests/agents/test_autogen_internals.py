"""The private names of AutoGen that we use still exist."""

import inspect

import pytest
from autogen_agentchat.agents import AssistantAgent, UserProxyAgent
from autogen_agentchat.base import AndTerminationCondition, OrTerminationCondition
from autogen_agentchat.conditions import TextMentionTermination
from autogen_agentchat.teams import BaseGroupChat, DiGraphBuilder, GraphFlow, RoundRobinGroupChat, SelectorGroupChat
from autogen_core import SingleThreadedAgentRuntime
from autogen_core.tools import StaticStreamWorkbench

from askstream.agents.autogen_internals import MESSAGE_HANDLERS, ONE_TURN, PRIVATE, VITAL_COROUTINES, members
from askstream.agents.models import ModelSettings, connect
from askstream.agents.provider import AzureClient, OpenAIClient
from tests.agents.fake_provider import Reply, provider
from tests.agents.sample_teams import Recorder, orchestrator, task

CLIENT = connect(ModelSettings(model="gpt-4o", api_key="x"))


def examples() -> dict[type, object]:
    agent = AssistantAgent("A", CLIENT)
    return {
        AssistantAgent: agent,
        UserProxyAgent: UserProxyAgent("U"),
        SelectorGroupChat: SelectorGroupChat([agent, UserProxyAgent("U")], CLIENT),
        BaseGroupChat: RoundRobinGroupChat([agent]),
        GraphFlow: GraphFlow([agent], DiGraphBuilder().add_node(agent).build()),
        StaticStreamWorkbench: StaticStreamWorkbench([]),
        TextMentionTermination: TextMentionTermination("x"),
        AndTerminationCondition: TextMentionTermination("x") & TextMentionTermination("y"),
        OrTerminationCondition: TextMentionTermination("x") | TextMentionTermination("y"),
    }


@pytest.mark.parametrize(("kind", "names"), PRIVATE.items())
def test_each_private_name_is_there(kind: type, names: tuple[str, ...]) -> None:
    """On an instance of its class. If an upgrade moves one, this test fails first."""
    made = examples()[kind]
    assert [name for name in names if not hasattr(made, name)] == []


def test_the_coroutine_that_runs_tools_still_exists() -> None:
    source = inspect.getsource(AssistantAgent)
    assert all(f"async def {name}(" in source for name in VITAL_COROUTINES)
    handling = inspect.getsource(SingleThreadedAgentRuntime)
    assert all(f"async def {name}(" in handling for name in MESSAGE_HANDLERS)


@pytest.mark.parametrize("client", [OpenAIClient, AzureClient])
def test_the_overridden_methods_still_yield_the_chunks(client: type) -> None:
    """Otherwise nothing notices an answer that broke off."""
    base = client.__bases__[-1]
    for name in ("_create_stream_chunks", "_create_stream_chunks_beta_client"):
        assert hasattr(base, name)
        assert f"self.{name}(" in inspect.getsource(base.__bases__[0])


async def test_a_step_ends_with_the_expected_stop_reason() -> None:
    """AutoGen's text when only the limit of one turn stopped a team."""
    async with provider([Reply(text=["ok"])]) as fake:
        client = connect(ModelSettings(model="m", base_url=fake.base_url, names="field"))
        result = await RoundRobinGroupChat([AssistantAgent("A", client)], max_turns=1).run(task="x")
        await client.close()
    assert result.stop_reason == ONE_TURN


def test_members_are_found_in_nested_teams() -> None:
    inner = RoundRobinGroupChat([AssistantAgent(name, CLIENT) for name in "BC"], name="Inner")
    outer = RoundRobinGroupChat([AssistantAgent("A", CLIENT), inner])
    assert [agent.name for agent in members(outer)] == ["A", "B", "C"]


async def test_a_members_turn_in_a_nested_team_begins_with_a_thought() -> None:
    def make(client: object) -> RoundRobinGroupChat:
        inner = RoundRobinGroupChat([AssistantAgent("B", client)], max_turns=1, name="Inner")  # type: ignore[arg-type]
        return RoundRobinGroupChat([inner], max_turns=1)

    sink = Recorder()
    async with provider([Reply(text=["ok"])]) as fake, orchestrator(fake, make) as team:
        await team.run(task(), sink)
    assert [(d.agent_name, d.event_type) for d in sink.drafts] == [
        ("B", "agent_thinking"),
        ("B", "agent_chunk"),
        ("B", "agent_response"),
    ]
