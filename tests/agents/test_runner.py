"""Turn by turn a team does the same as alone, and can be resumed after any turn."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.base import TaskResult, TerminationCondition
from autogen_agentchat.conditions import (
    FunctionalTermination,
    MaxMessageTermination,
    SourceMatchTermination,
    TextMentionTermination,
    TokenUsageTermination,
)
from autogen_agentchat.messages import BaseChatMessage
from autogen_agentchat.teams import BaseGroupChat, RoundRobinGroupChat, SelectorGroupChat
from autogen_core.models import ChatCompletionClient

from askstream.agents.checkpoint import load
from askstream.agents.models import ModelSettings, connect
from askstream.server.events import Draft
from askstream.server.events.errors import JournalError, RunFailed
from tests.agents.fake_provider import Body, Reply, provider
from tests.agents.sample_teams import (
    Make,
    Recorder,
    agent,
    agents,
    answered,
    comparable,
    graph,
    model,
    orchestrator,
    swarm,
    task,
    uninterrupted,
)


def round_robin(client: ChatCompletionClient) -> BaseGroupChat:
    return RoundRobinGroupChat(agents(client), termination_condition=MaxMessageTermination(6))


def round_robin_of_turns(client: ChatCompletionClient) -> BaseGroupChat:
    return RoundRobinGroupChat(agents(client), max_turns=5)


def conditions(client: ChatCompletionClient) -> BaseGroupChat:
    """Ends by a condition whose parts are met at different times, and that no saved state has."""
    both: TerminationCondition = TextMentionTermination("A has spoken 2") & MaxMessageTermination(4)
    return RoundRobinGroupChat(agents(client), termination_condition=both | TokenUsageTermination(max_total_token=400))


def tokens(client: ChatCompletionClient) -> BaseGroupChat:
    return RoundRobinGroupChat(agents(client), termination_condition=TokenUsageTermination(max_total_token=100))


def portions(client: ChatCompletionClient) -> BaseGroupChat:
    """Its condition sees how many messages it gets at a time."""

    def fourth(messages: Any) -> bool:
        counted.append(len(messages))
        return len(counted) == 5

    counted: list[int] = []
    return RoundRobinGroupChat(agents(client), termination_condition=FunctionalTermination(fourth))


def selector(client: ChatCompletionClient) -> BaseGroupChat:
    return SelectorGroupChat(agents(client), client, termination_condition=MaxMessageTermination(5))


def nested(client: ChatCompletionClient) -> BaseGroupChat:
    inner = RoundRobinGroupChat(agents(client, "BC"), max_turns=2, name="Inner")
    return RoundRobinGroupChat([agent(client, "A"), inner], max_turns=4)


KINDS = [
    round_robin, round_robin_of_turns, conditions, tokens, portions, selector, swarm, graph, nested,
]  # fmt: skip


@pytest.mark.parametrize("make", KINDS)
async def test_stepping_changes_nothing(make: Make) -> None:
    """The same messages in the same order, and the same end, as with the team's own `run`."""
    async with provider(model) as fake:
        answer, sink = await uninterrupted(fake, make)
        client = connect(ModelSettings(model="m", base_url=fake.base_url, names="field"))
        result: TaskResult = await make(client).run(task="Why?", output_task_messages=False)
        await client.close()
    spoken = [(m.source, m.to_text()) for m in result.messages if isinstance(m, BaseChatMessage)]
    assert sink.said() == spoken
    assert len(spoken) == answer.total_messages > 2
    assert answer.final_response == spoken[-1][1]
    asked = [body["messages"] for body in fake.requests]
    half = len(asked) // 2
    assert asked[:half] == asked[half:]
    assert [bool(body.get("stream")) for body in fake.requests] == [True] * half + [False] * half


@pytest.mark.parametrize("make", KINDS)
async def test_resumed_after_any_turn_it_equals_an_undisturbed_run(make: Make) -> None:
    """From every checkpoint a fresh process emits the rest, repeats no model call, and ends the same."""
    async with provider(model) as fake:
        answer, whole = await uninterrupted(fake, make)
        asked = len(fake.requests)
        assert len(whole.checkpoints) >= 2
        for saved in whole.checkpoints:
            rest, before = Recorder(), len(fake.requests)
            async with orchestrator(fake, make) as team:
                again = await team.run(replace(task(checkpoint=saved), attempt=2), rest)
            told = comparable(whole.drafts)
            assert comparable(rest.drafts) == told[len(told) - len(comparable(rest.drafts)) :]
            assert replace(again, session_state=None) == replace(answer, session_state=None)
            repeated = fake.requests[before:]
            assert repeated == fake.requests[asked - len(repeated) : asked]
            if saved is whole.checkpoints[-1]:
                assert rest.drafts == []  # only the answer was left


@pytest.mark.parametrize("review", [False, True])
async def test_the_last_turn_saves_state_only_for_a_review(review: bool) -> None:
    """It would be the largest of the run. A review may send the team back to work, which needs it."""
    sink = Recorder()
    async with provider(model) as fake, orchestrator(fake, round_robin) as team:
        await team.run(replace(task(), review=review), sink)
    states = [load(saved).state for saved in sink.checkpoints]
    assert [bool(state) for state in states] == [True] * 4 + [review]


async def test_a_checkpoint_comes_after_all_events_of_its_turn() -> None:
    """And before those of the next."""
    sink, marks = Recorder(), list[str]()

    async def checkpoint(_: bytes) -> None:
        marks.append(sink.drafts[-1].event_type)

    sink.checkpoint = checkpoint  # type: ignore[method-assign]
    async with provider(model) as fake, orchestrator(fake, round_robin) as team:
        await team.run(task(), sink)
    assert marks == ["agent_response"] * 5


async def test_usage_and_count_go_on_from_the_checkpoint() -> None:
    """They belong to the run, not to the attempt."""
    async with provider(model) as fake:
        answer, sink = await uninterrupted(fake, round_robin)
        saved = load(sink.checkpoints[2])
    assert (saved.messages, saved.turns) == (3, 3)
    assert (saved.usage.prompt_tokens or 0) < (answer.usage.prompt_tokens or 0)


@pytest.mark.parametrize(
    "saved", [b"", b"{}", b"[2]", b'{"version": 1}', b'{"version": 2}', b'{"version": 2, "checkpoint": {"turns": "x"}}']
)
async def test_a_checkpoint_that_cannot_be_read_ends_the_run(saved: bytes) -> None:
    """As interrupted, instead of a silent new start."""
    async with provider(model) as fake, orchestrator(fake, round_robin) as team:
        with pytest.raises(RunFailed) as caught:
            await team.run(task(checkpoint=saved), Recorder())
    assert caught.value.code == "interrupted"


async def test_a_team_without_an_end_is_stopped() -> None:
    """At the limit of messages the run fails, and no further call is made."""

    def endless(client: ChatCompletionClient) -> BaseGroupChat:
        return RoundRobinGroupChat([agent(client, "A"), agent(client, "B")])

    sink = Recorder()
    async with provider(model) as fake, orchestrator(fake, endless, max_messages=7) as team:
        with pytest.raises(RunFailed, match="7 messages") as caught:
            await team.run(task(), sink)
    assert caught.value.code == "message_limit"
    assert len(sink.said()) == 7 == len(fake.requests)


async def test_a_team_that_ends_at_the_limit_is_fine() -> None:
    """The limit itself is allowed."""

    def make(client: ChatCompletionClient) -> BaseGroupChat:
        return RoundRobinGroupChat(
            [agent(client, "A"), agent(client, "B")], termination_condition=SourceMatchTermination(["B"])
        )

    async with provider(model) as fake, orchestrator(fake, make, max_messages=2) as team:
        assert answered(await team.run(task(), Recorder())).total_messages == 2


async def test_a_team_without_a_message_has_failed() -> None:
    """The question alone met its condition."""

    def make(client: ChatCompletionClient) -> BaseGroupChat:
        return RoundRobinGroupChat(agents(client), termination_condition=TextMentionTermination("Why?"))

    async with provider(model) as fake, orchestrator(fake, make) as team:
        with pytest.raises(RunFailed, match="without an answer"):
            await team.run(task(), Recorder())
    assert fake.requests == []


class Full(Recorder):
    """A sink whose log accepts some events and then fails."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room

    async def emit(self, draft: Draft) -> None:
        if len(self.drafts) == self._room:
            raise JournalError("the disk is full")
        await super().emit(draft)


@pytest.mark.parametrize("room", range(8))
async def test_a_log_that_cannot_be_written_ends_the_run_with_its_own_error(room: int) -> None:
    """At a turn's beginning, in a text or at a response: AutoGen's wrapping is removed."""
    async with provider(model) as fake, orchestrator(fake, round_robin) as team:
        with pytest.raises(JournalError, match="the disk is full"):
            await team.run(task(), Full(room))


async def test_fifty_runs_at_once_do_not_mix() -> None:
    """Each gets the echo of its own question only, with one shared client."""

    def echo(body: Body, _: int) -> Reply:
        question = next(m["content"] for m in body["messages"] if m["role"] == "user")
        spoken = sum(m.get("name") in ("A", "B") for m in body["messages"])
        if body["messages"][-1]["role"] != "tool" and not spoken:
            return Reply(calls=[("look", f'{{"at": "{question}"}}')])
        return Reply(text=[f"{question} ", "and ", "so on"], pause=0.001)

    def pair(client: ChatCompletionClient) -> BaseGroupChat:
        return RoundRobinGroupChat(agents(client, "AB"), max_turns=3)

    async with provider(echo) as fake, orchestrator(fake, pair) as team:
        sinks = [Recorder() for _ in range(50)]
        runs = [team.run(task(f"Q{i:02}", run_id=str(i)), sink) for i, sink in enumerate(sinks)]
        answers = await asyncio.gather(*runs)
    for i, (answer, sink) in enumerate(zip(answers, sinks, strict=True)):
        assert answered(answer).final_response == f"Q{i:02} and so on"
        assert {message for _, message in sink.said()} == {f"Q{i:02} and so on"}
        others = {f"Q{j:02}" for j in range(50)} - {f"Q{i:02}"}
        assert not any(other in repr(draft) for draft in sink.drafts for other in others)


async def test_a_factory_that_returns_the_same_agents_twice_is_refused() -> None:
    """Shared agents would mix the texts of two runs, and AutoGen doesn't notice."""
    kept: list[AssistantAgent] = []

    def make(client: ChatCompletionClient) -> AssistantAgent:
        kept.append(kept[0] if kept else AssistantAgent("Solo", client))
        return kept[0]

    async with provider([Reply(text=["ok"])]) as fake, orchestrator(fake, make) as team:
        await team.run(task(), Recorder())
        with pytest.raises(RunFailed, match="must make new agents") as caught:
            await team.run(task(), Recorder())
    assert caught.value.code == "team_unavailable"
