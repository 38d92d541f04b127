"""A copy of a team behaves like a new one, and shares nothing but model clients with the original."""

from collections.abc import Callable
from typing import Any

import pytest
from autogen_agentchat.agents import MessageFilterAgent, MessageFilterConfig, PerSourceFilter, SocietyOfMindAgent
from autogen_agentchat.base import ChatAgent, Team
from autogen_agentchat.conditions import MaxMessageTermination, TextMentionTermination
from autogen_agentchat.teams import MagenticOneGroupChat, RoundRobinGroupChat, SelectorGroupChat
from autogen_agentchat.tools import AgentTool, TeamTool
from autogen_core.models import ChatCompletionClient

from askstream.agents import copying
from askstream.agents.models import ModelSettings, connect
from tests.agents.fake_provider import provider
from tests.agents.sample_teams import agent, agents, forked, graph, model, swarm

Make = Callable[[ChatCompletionClient], Any]


def round_robin(client: ChatCompletionClient) -> Team:
    condition = TextMentionTermination("NEVER") | MaxMessageTermination(4)
    return RoundRobinGroupChat(agents(client), termination_condition=condition)


def selector(client: ChatCompletionClient) -> Team:
    return SelectorGroupChat(agents(client), client, max_turns=3)


def society(client: ChatCompletionClient) -> Team:
    inner = RoundRobinGroupChat(agents(client, "AB"), max_turns=2)
    return RoundRobinGroupChat([SocietyOfMindAgent("Mind", inner, client)], max_turns=1)


def nested(client: ChatCompletionClient) -> Team:
    inner = RoundRobinGroupChat(agents(client, "AB"), max_turns=2, name="Inner")
    return RoundRobinGroupChat([inner, agent(client, "C")], max_turns=2)


def filtered(client: ChatCompletionClient) -> Team:
    keep = MessageFilterConfig(per_source=[PerSourceFilter(source="user", position="last", count=1)])
    wrapped = MessageFilterAgent("Filter", wrapped_agent=agent(client, "B"), filter=keep)
    return RoundRobinGroupChat([agent(client, "A"), wrapped], max_turns=2)


def with_tools(client: ChatCompletionClient) -> ChatAgent:
    team = RoundRobinGroupChat([agent(client, "B")], max_turns=1)
    tools: list[Any] = [AgentTool(agent(client, "A")), TeamTool(team, "team", "A team.")]
    return agent(client, "C", tools=tools)


def magentic(client: ChatCompletionClient) -> Team:
    return MagenticOneGroupChat(agents(client, "AB"), client, max_turns=2)


def parallel(client: ChatCompletionClient) -> Team:
    return forked(agents(client))


def alone(client: ChatCompletionClient) -> ChatAgent:
    return agent(client, "A")


KINDS: tuple[Make, ...] = (
    round_robin,
    selector,
    swarm,
    graph,
    parallel,
    society,
    nested,
    filtered,
    with_tools,
    alone,
)


def name(make: Make) -> str:
    return make.__name__


async def said(team: Team | ChatAgent) -> list[tuple[str, str, str]]:
    """All messages of a run. Parallel agents may finish in any order."""
    result = await team.run(task="Why?")
    return sorted((message.source, type(message).__name__, message.to_text()) for message in result.messages)


@pytest.mark.parametrize("make", KINDS, ids=name)
async def test_a_copy_says_what_a_new_team_says(make: Make) -> None:
    """Each of two copies, after the other has run: message for message."""
    async with provider(model) as fake:
        client = connect(ModelSettings(model="fake", base_url=fake.base_url, names="field"))
        copied = copying.copier(make(client))
        expected = await said(make(client))
        assert [await said(copied()), await said(copied())] == [expected, expected]
        await client.close()


@pytest.mark.parametrize("make", [*KINDS, magentic], ids=name)
async def test_copies_share_the_model_client_and_nothing_that_remembers(make: Make) -> None:
    client = connect(ModelSettings(model="fake", base_url="http://localhost:1", names="field"))
    original = make(client)
    copied = copying.copier(original)
    teams = [original, copied(), copied()]
    parts = [copying.stateful(team) for team in teams]
    assert len({len(found) for found in parts}) == 1
    assert len({id(part) for found in parts for part in found}) == 3 * len(parts[0])
    for team in teams:
        assert copying.reachable(team, (ChatCompletionClient,)) == [client]


def test_the_search_ends_in_a_large_structure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "MOST_OBJECTS", 1000)
    assert len(copying.reachable([[number] for number in range(5000)], (list,))) <= 1001
