"""Driven turn by turn, a team does what it would have done by itself, and can be resumed after any turn."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
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
from autogen_agentchat.teams import (
    BaseGroupChat,
    DiGraphBuilder,
    GraphFlow,
    MagenticOneGroupChat,
    RoundRobinGroupChat,
    SelectorGroupChat,
    Swarm,
)
from autogen_core.models import ChatCompletionClient

from agents.checkpoint import load
from agents.models import ModelSettings, connect
from server.events import AgentResponse, Draft, ToolExecution
from server.events.errors import JournalError, RunFailed
from server.runs.orchestrator import Answer
from tests.agents.fake_provider import Body, Provider, Reply, provider
from tests.agents.stage import Recorder, answered, orchestrator, task

Make = Callable[[ChatCompletionClient], BaseGroupChat]


def agent(client: ChatCompletionClient, name: str, **options: Any) -> AssistantAgent:
    return AssistantAgent(name, client, system_message=f"You are {name}.", description=f"Is {name}.", **options)


def agents(client: ChatCompletionClient, names: str = "ABC") -> list[Any]:
    return [agent(client, name, tools=[look], reflect_on_tool_use=True) for name in names]


async def look(at: str) -> str:
    """Look at something."""
    return f"{at} seen"


def round_robin(client: ChatCompletionClient) -> BaseGroupChat:
    return RoundRobinGroupChat(agents(client), termination_condition=MaxMessageTermination(6))


def round_robin_of_turns(client: ChatCompletionClient) -> BaseGroupChat:
    return RoundRobinGroupChat(agents(client), max_turns=5)


def conditions(client: ChatCompletionClient) -> BaseGroupChat:
    """Ends by a condition whose parts are met at different times, and are in no saved state."""
    both: TerminationCondition = TextMentionTermination("A has spoken 2") & MaxMessageTermination(4)
    return RoundRobinGroupChat(agents(client), termination_condition=both | TokenUsageTermination(max_total_token=400))


def tokens(client: ChatCompletionClient) -> BaseGroupChat:
    return RoundRobinGroupChat(agents(client), termination_condition=TokenUsageTermination(max_total_token=100))


def portions(client: ChatCompletionClient) -> BaseGroupChat:
    """Its condition sees how many messages it is shown at a time."""

    def fourth(messages: Any) -> bool:
        counted.append(len(messages))
        return len(counted) == 5

    counted: list[int] = []
    return RoundRobinGroupChat(agents(client), termination_condition=FunctionalTermination(fourth))


def selector(client: ChatCompletionClient) -> BaseGroupChat:
    return SelectorGroupChat(agents(client), client, termination_condition=MaxMessageTermination(5))


def swarm(client: ChatCompletionClient) -> BaseGroupChat:
    members = [agent(client, name, handoffs=[to]) for name, to in ("AB", "BC", "CA")]
    return Swarm(list(members), termination_condition=MaxMessageTermination(6))


def graph(client: ChatCompletionClient) -> BaseGroupChat:
    first, second, third = members = agents(client)
    built = DiGraphBuilder().add_node(first).add_node(second).add_node(third)
    built.add_edge(first, second).add_edge(second, third)
    return GraphFlow(members, built.build())


def nested(client: ChatCompletionClient) -> BaseGroupChat:
    inner = RoundRobinGroupChat(agents(client, "BC"), max_turns=2, name="Inner")
    return RoundRobinGroupChat([agent(client, "A"), inner], max_turns=4)


KINDS = [
    round_robin, round_robin_of_turns, conditions, tokens, portions, selector, swarm, graph, nested,
]  # fmt: skip


def model(body: Body, _: int) -> Reply:
    """A model without memory: what it says follows from what it is shown alone, as does what it costs."""
    system, messages = str(body["messages"][0]["content"]), body["messages"]
    size = (len(messages), 1)
    if not system.startswith("You are "):
        speakers = [m["name"] for m in messages if "name" in m]
        return Reply(text=["ABC"[(len(str(messages)) + len(speakers)) % 3]], usage=size)
    name = system[8]
    own = sum(m["role"] == "assistant" and "tool_calls" not in m for m in messages)
    tools = [tool["function"]["name"] for tool in body.get("tools", [])]
    if "look" in tools and messages[-1]["role"] != "tool":
        return Reply(calls=[("look", f'{{"at": "{own}"}}')], usage=size)
    if handoffs := [tool for tool in tools if tool.startswith("transfer")]:
        return Reply(calls=[(handoffs[0], "{}")], usage=size)
    return Reply(text=[f"{name} has ", f"spoken {own + 1}", f" of {len(messages)}"], usage=size)


async def undisturbed(fake: Provider, make: Make) -> tuple[Answer, Recorder]:
    sink = Recorder()
    async with orchestrator(fake, make) as team:
        return answered(await team.run(task(), sink)), sink


def essence(drafts: list[Draft]) -> list[Any]:
    """What must be equal between two runs of the same: all but chunks' borders, ids made by chance, and time."""
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


@pytest.mark.parametrize("make", KINDS)
async def test_stepping_changes_nothing(make: Make) -> None:
    """The same messages in the same order, and the same end, as the team's own `run`."""
    async with provider(model) as fake:
        answer, sink = await undisturbed(fake, make)
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
    """From every checkpoint a fresh process tells the rest, asks the model nothing twice, and ends the same."""
    async with provider(model) as fake:
        answer, whole = await undisturbed(fake, make)
        asked = len(fake.requests)
        assert len(whole.checkpoints) >= 2
        for saved in whole.checkpoints:
            rest, before = Recorder(), len(fake.requests)
            async with orchestrator(fake, make) as team:
                again = await team.run(replace(task(checkpoint=saved), attempt=2), rest)
            told = essence(whole.drafts)
            assert essence(rest.drafts) == told[len(told) - len(essence(rest.drafts)) :]
            assert again == answer
            repeated = fake.requests[before:]
            assert repeated == fake.requests[asked - len(repeated) : asked]
            if saved is whole.checkpoints[-1]:
                assert rest.drafts == []  # nothing was left but to answer


async def test_a_checkpoint_comes_after_all_events_of_its_turn() -> None:
    """And before any of the next."""
    sink, marks = Recorder(), list[str]()

    async def checkpoint(_: bytes) -> None:
        marks.append(sink.drafts[-1].event_type)

    sink.checkpoint = checkpoint  # type: ignore[method-assign]
    async with provider(model) as fake, orchestrator(fake, round_robin) as team:
        await team.run(task(), sink)
    assert marks == ["agent_response"] * 5


async def test_usage_and_count_go_on_from_the_checkpoint() -> None:
    """They are the run's, not the attempt's."""
    async with provider(model) as fake:
        answer, sink = await undisturbed(fake, round_robin)
        saved = load(sink.checkpoints[2])
    assert (saved.messages, saved.turns) == (3, 3)
    assert saved.usage.prompt_tokens < answer.usage.prompt_tokens


@pytest.mark.parametrize(
    "saved", [b"", b"{}", b"[2]", b'{"version": 1}', b'{"version": 2}', b'{"version": 2, "checkpoint": {"turns": "x"}}']
)
async def test_a_checkpoint_that_cannot_be_read_ends_the_run(saved: bytes) -> None:
    """It says that it was interrupted, instead of starting over in silence."""
    async with provider(model) as fake, orchestrator(fake, round_robin) as team:
        with pytest.raises(RunFailed) as caught:
            await team.run(task(checkpoint=saved), Recorder())
    assert caught.value.code == "interrupted"


def parallel(client: ChatCompletionClient) -> BaseGroupChat:
    """A graph whose second step is two agents at once."""
    first, *both = members = agents(client)
    built = DiGraphBuilder()
    for member in members:
        built.add_node(member)
    for member in both:
        built.add_edge(first, member)
    return GraphFlow(members, built.build())


def cycle(client: ChatCompletionClient) -> BaseGroupChat:
    first, second, third = members = agents(client)
    built = DiGraphBuilder().add_node(first).add_node(second).add_node(third)
    built.add_edge(first, second).add_edge(second, first, "again").add_edge(second, third, "done")
    built.set_entry_point(first)
    return GraphFlow(members, built.build(), termination_condition=MaxMessageTermination(5))


class OfItsOwn(RoundRobinGroupChat):
    """A team that runs in a way of its own."""

    def run_stream(self, **options: Any) -> Any:
        return super().run_stream(**options)


def of_its_own(client: ChatCompletionClient) -> BaseGroupChat:
    return OfItsOwn(agents(client), max_turns=2)


@pytest.mark.parametrize("make", [parallel, of_its_own])
async def test_a_team_that_cannot_be_resumed_runs_in_one_go(make: Make) -> None:
    """Everything is told, nothing is saved, and a second attempt says that it was interrupted."""
    async with provider(model) as fake:
        answer, sink = await undisturbed(fake, make)
        async with orchestrator(fake, make) as team:
            with pytest.raises(RunFailed) as caught:
                await team.run(replace(task(), attempt=2), Recorder())
    assert sink.checkpoints == []
    assert len(sink.said()) == answer.total_messages
    assert caught.value.code == "interrupted"


async def test_a_team_that_leads_itself_runs_in_one_go() -> None:
    """MagenticOne: its orchestrator's own calls are nobody's turn, what it says is told, and it comes to an answer."""

    def leader(body: Body, _: int) -> Reply:
        asked = str(body["messages"][-1]["content"])
        if "is_request_satisfied" not in asked:
            return Reply(text=["It is so."])
        done = {"reason": "all said", "answer": "is it" in str(body["messages"]) and len(body["messages"]) > 4}
        speaker = {"reason": "knows", "answer": "A"}
        no = {"reason": "no", "answer": False}
        ledger = {
            "is_request_satisfied": done,
            "is_in_loop": no,
            "is_progress_being_made": {"reason": "yes", "answer": True},
            "next_speaker": speaker,
            "instruction_or_question": {"reason": "ask", "answer": "How is it?"},
        }
        return Reply(text=[orjson.dumps(ledger).decode()])

    def make(client: ChatCompletionClient) -> BaseGroupChat:
        return MagenticOneGroupChat([agent(client, "A")], client, max_turns=3)

    async with provider(leader) as fake:
        answer, sink = await undisturbed(fake, make)
    assert answer.final_response
    assert {"A", "MagenticOneOrchestrator"} == {name for name, _ in sink.said()}
    assert {body.agent_name for body in sink.drafts if body.event_type == "agent_chunk"} == {"A"}
    assert answer.usage.prompt_tokens == 10 * len(fake.requests)
    assert sink.checkpoints == []


def test_only_straight_graphs_are_stepped() -> None:
    """Where several edges meet, part or turn back, a saved state lacks which of them were walked."""
    from agents.anatomy import can_step

    client = connect(ModelSettings(model="gpt-4o", api_key="x"))
    kinds = {make.__name__: can_step(make(client)) for make in (graph, parallel, cycle, swarm)}
    assert kinds == {"graph": True, "parallel": False, "cycle": False, "swarm": True}
    assert not can_step(MagenticOneGroupChat(agents(client), client))


async def test_a_team_without_an_end_is_stopped() -> None:
    """At the limit of messages the run fails and says so; no further call is made."""

    def endless(client: ChatCompletionClient) -> BaseGroupChat:
        return RoundRobinGroupChat([agent(client, "A"), agent(client, "B")])

    sink = Recorder()
    async with provider(model) as fake, orchestrator(fake, endless, max_messages=7) as team:
        with pytest.raises(RunFailed, match="7 messages") as caught:
            await team.run(task(), sink)
    assert caught.value.code == "message_limit"
    assert len(sink.said()) == 7 == len(fake.requests)


async def test_a_team_in_one_go_is_stopped_too() -> None:
    """One message late: it is known only by then that the team wants more."""

    def endless(client: ChatCompletionClient) -> BaseGroupChat:
        return OfItsOwn([agent(client, "A"), agent(client, "B")])

    async with provider(model) as fake, orchestrator(fake, endless, max_messages=7) as team:
        with pytest.raises(RunFailed) as caught:
            await asyncio.wait_for(team.run(task(), Recorder()), 10)
    assert caught.value.code == "message_limit"


async def test_a_team_that_ends_at_the_limit_is_fine() -> None:
    """The limit is how many there may be."""

    def make(client: ChatCompletionClient) -> BaseGroupChat:
        return RoundRobinGroupChat(
            [agent(client, "A"), agent(client, "B")], termination_condition=SourceMatchTermination(["B"])
        )

    async with provider(model) as fake, orchestrator(fake, make, max_messages=2) as team:
        assert answered(await team.run(task(), Recorder())).total_messages == 2


async def test_a_team_that_says_nothing_has_failed() -> None:
    """Its condition was met by the question already."""

    def make(client: ChatCompletionClient) -> BaseGroupChat:
        return RoundRobinGroupChat(agents(client), termination_condition=TextMentionTermination("Why?"))

    async with provider(model) as fake, orchestrator(fake, make) as team:
        with pytest.raises(RunFailed, match="without an answer"):
            await team.run(task(), Recorder())
    assert fake.requests == []


class Full(Recorder):
    """A sink whose log takes a number of events and no more."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room

    async def emit(self, draft: Draft) -> None:
        if len(self.drafts) == self._room:
            raise JournalError("the disk is full")
        await super().emit(draft)


@pytest.mark.parametrize("room", range(8))
async def test_a_log_that_cannot_be_written_ends_the_run_with_its_own_error(room: int) -> None:
    """Wherever it is met, in a turn's beginning, a piece of text or a response: AutoGen's wrapping is taken off."""
    async with provider(model) as fake, orchestrator(fake, round_robin) as team:
        with pytest.raises(JournalError, match="the disk is full"):
            await team.run(task(), Full(room))


async def test_fifty_runs_at_once_do_not_mix() -> None:
    """Each hears its own question's echo and nothing else, under one shared client."""

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


async def test_a_factory_that_hands_out_the_same_agents_twice_is_told_so() -> None:
    """Shared agents would mix what two runs say; AutoGen wouldn't notice."""
    kept: list[AssistantAgent] = []

    def make(client: ChatCompletionClient) -> AssistantAgent:
        kept.append(kept[0] if kept else AssistantAgent("Solo", client))
        return kept[0]

    async with provider([Reply(text=["ok"])]) as fake, orchestrator(fake, make) as team:
        await team.run(task(), Recorder())
        with pytest.raises(RunFailed, match="must make new agents") as caught:
            await team.run(task(), Recorder())
    assert caught.value.code == "team_unavailable"
