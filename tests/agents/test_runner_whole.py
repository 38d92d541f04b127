"""A team that can't be stepped runs in one go, with the same limits."""

import asyncio
from dataclasses import replace
from typing import Any

import orjson
import pytest
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.teams import BaseGroupChat, DiGraphBuilder, GraphFlow, MagenticOneGroupChat, RoundRobinGroupChat
from autogen_core.models import ChatCompletionClient

from askstream.agents.models import ModelSettings, connect
from askstream.server.events.errors import RunFailed
from tests.agents.fake_provider import Body, Reply, provider
from tests.agents.sample_teams import (
    Make,
    Recorder,
    agent,
    agents,
    forked,
    graph,
    model,
    orchestrator,
    swarm,
    task,
    uninterrupted,
)


def parallel(client: ChatCompletionClient) -> BaseGroupChat:
    return forked(agents(client))


def cycle(client: ChatCompletionClient) -> BaseGroupChat:
    first, second, third = members = agents(client)
    built = DiGraphBuilder().add_node(first).add_node(second).add_node(third)
    built.add_edge(first, second).add_edge(second, first, "again").add_edge(second, third, "done")
    built.set_entry_point(first)
    return GraphFlow(members, built.build(), termination_condition=MaxMessageTermination(5))


class OfItsOwn(RoundRobinGroupChat):
    """A team that overrides `run_stream`."""

    def run_stream(self, **options: Any) -> Any:
        return super().run_stream(**options)


def of_its_own(client: ChatCompletionClient) -> BaseGroupChat:
    return OfItsOwn(agents(client), max_turns=2)


@pytest.mark.parametrize("make", [parallel, of_its_own])
async def test_a_team_that_cannot_be_resumed_runs_in_one_go(make: Make) -> None:
    """All events are emitted, nothing is saved, and a second attempt ends as interrupted."""
    async with provider(model) as fake:
        answer, sink = await uninterrupted(fake, make)
        async with orchestrator(fake, make) as team:
            with pytest.raises(RunFailed) as caught:
                await team.run(replace(task(), attempt=2), Recorder())
    assert sink.checkpoints == []
    assert len(sink.said()) == answer.total_messages
    assert caught.value.code == "interrupted"


async def test_a_team_that_leads_itself_runs_in_one_go() -> None:
    """MagenticOne: its orchestrator's own calls are nobody's turn, its messages are emitted, and it gives an answer."""

    def leader(body: Body, _: int) -> Reply:
        asked = str(body["messages"][-1]["content"])
        if "is_request_satisfied" not in asked:
            return Reply(text=["It is so."])
        done = {"reason": "all said", "answer": "is it" in str(body["messages"]) and len(body["messages"]) > 4}
        speaker = {"reason": "knows", "answer": "A"}
        no = {"reason": "no", "answer": False}
        model_calls = {
            "is_request_satisfied": done,
            "is_in_loop": no,
            "is_progress_being_made": {"reason": "yes", "answer": True},
            "next_speaker": speaker,
            "instruction_or_question": {"reason": "ask", "answer": "How is it?"},
        }
        return Reply(text=[orjson.dumps(model_calls).decode()])

    def make(client: ChatCompletionClient) -> BaseGroupChat:
        return MagenticOneGroupChat([agent(client, "A")], client, max_turns=3)

    async with provider(leader) as fake:
        answer, sink = await uninterrupted(fake, make)
    assert answer.final_response
    assert {"A", "MagenticOneOrchestrator"} == {name for name, _ in sink.said()}
    assert {body.agent_name for body in sink.drafts if body.event_type == "agent_chunk"} == {"A"}
    assert answer.usage.prompt_tokens == 10 * len(fake.requests)
    assert sink.checkpoints == []


def test_only_straight_graphs_are_stepped() -> None:
    """If edges meet, fork or turn back, a saved state doesn't say which of them were walked."""
    from askstream.agents.autogen_internals import can_step

    client = connect(ModelSettings(model="gpt-4o", api_key="x"))
    kinds = {make.__name__: can_step(make(client)) for make in (graph, parallel, cycle, swarm)}
    assert kinds == {"graph": True, "parallel": False, "cycle": False, "swarm": True}
    assert not can_step(MagenticOneGroupChat(agents(client), client))


async def test_a_team_in_one_go_is_stopped_too() -> None:
    """One message late: only then it is known that the team wants more."""

    def endless(client: ChatCompletionClient) -> BaseGroupChat:
        return OfItsOwn([agent(client, "A"), agent(client, "B")])

    async with provider(model) as fake, orchestrator(fake, endless, max_messages=7) as team:
        with pytest.raises(RunFailed) as caught:
            await asyncio.wait_for(team.run(task(), Recorder()), 10)
    assert caught.value.code == "message_limit"
