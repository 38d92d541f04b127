"""A follow-up goes to a team that is where the session's last run has left it, as AutoGen's own teams do."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest
from autogen_agentchat.agents import AssistantAgent, SocietyOfMindAgent, UserProxyAgent
from autogen_agentchat.conditions import HandoffTermination, MaxMessageTermination, TextMentionTermination
from autogen_agentchat.teams import BaseGroupChat, RoundRobinGroupChat, SelectorGroupChat, Swarm
from autogen_core.model_context import UnboundedChatCompletionContext
from autogen_core.models import ChatCompletionClient, LLMMessage, UserMessage

from askstream.agents import memory
from askstream.agents.human import TeamProfile
from askstream.agents.models import ModelSettings, connect
from askstream.server.runs.orchestrator import Answer, Exchange, Inquiry, Reply, Task
from tests.agents import fake_provider
from tests.agents.fake_provider import Body, Provider, provider
from tests.agents.human_runs import HumanRun
from tests.agents.sample_teams import (
    Make,
    Recorder,
    agent,
    agents,
    answered,
    comparable,
    forked,
    graph,
    look,
    model,
    orchestrator,
    swarm,
    task,
)

HISTORY = (Exchange(question="Why?", answer="So."),)


def round_robin(client: ChatCompletionClient) -> BaseGroupChat:
    return RoundRobinGroupChat(agents(client), termination_condition=MaxMessageTermination(5))


def selector(client: ChatCompletionClient) -> BaseGroupChat:
    return SelectorGroupChat(agents(client), client, termination_condition=MaxMessageTermination(5))


def one(client: ChatCompletionClient) -> Any:
    return agents(client, "A")[0]


def nested(client: ChatCompletionClient) -> BaseGroupChat:
    inner = RoundRobinGroupChat(agents(client, "BC"), max_turns=2, name="Inner")
    return RoundRobinGroupChat([agent(client, "A"), inner], max_turns=2)


def society(client: ChatCompletionClient) -> BaseGroupChat:
    inner = RoundRobinGroupChat(agents(client, "BC"), max_turns=2, name="Inner")
    return RoundRobinGroupChat([agent(client, "A"), SocietyOfMindAgent("S", inner, client)], max_turns=3)


def as_team(made: Any) -> BaseGroupChat:
    return made if isinstance(made, BaseGroupChat) else RoundRobinGroupChat([made], max_turns=1)


def follow_up(state: bytes | None, question: str = "And now?") -> Task:
    return replace(task(question), history=HISTORY, session_state=state)


async def ask(fake: Provider, make: Callable[..., Any], asked: Task, **options: Any) -> tuple[Answer, Recorder]:
    sink = Recorder()
    async with orchestrator(fake, make, **options) as team:
        return answered(await team.run(asked, sink)), sink


@pytest.mark.parametrize("make", [round_robin, selector, swarm, graph, one, nested, society])
async def test_a_follow_up_goes_on_like_the_team_itself(make: Callable[..., Any]) -> None:
    """The same model calls, with the same messages, as AutoGen makes for two questions to one saved and loaded team."""
    async with provider(model) as fake:
        first, _ = await ask(fake, make, task())
        second, sink = await ask(fake, make, follow_up(first.session_state))
        third, _ = await ask(fake, make, follow_up(second.session_state, "And then?"))
        served = [body["messages"] for body in fake.requests]
        client = connect(ModelSettings(model="m", base_url=fake.base_url, names="field"))
        state: Any = None
        for question in ("Why?", "And now?", "And then?"):
            team = as_team(make(client))
            if state is not None:
                await team.load_state(state)
            await team.run(task=question)
            state = await team.save_state()
        await client.close()
    assert served == [body["messages"] for body in fake.requests][len(served) :]
    assert second.total_messages == len(sink.said()) >= 1
    assert third.session_state is not None


async def test_a_swarm_goes_on_with_the_agent_that_had_the_turn() -> None:
    """And what its tools returned is still there."""

    def script(body: Body, _: int) -> fake_provider.Reply:
        name, tools = (
            str(body["messages"][0]["content"])[8],
            [tool["function"]["name"] for tool in body.get("tools", [])],
        )
        if name == "A":
            return fake_provider.Reply(calls=[("transfer_to_b", "{}")])
        if body["messages"][-1]["role"] == "tool" or "now" in str(body["messages"][-1]["content"]):
            return fake_provider.Reply(text=["DONE"])
        return fake_provider.Reply(calls=[(next(tool for tool in tools if tool == "look"), '{"at": "7"}')])

    def make(client: ChatCompletionClient) -> BaseGroupChat:
        helped = agents(client, "B")[0]
        return Swarm([agent(client, "A", handoffs=["B"]), helped], termination_condition=TextMentionTermination("DONE"))

    async with provider(script) as fake:
        first, _ = await ask(fake, make, task())
        before = len(fake.requests)
        _, sink = await ask(fake, make, follow_up(first.session_state))
        (asked,) = fake.requests[before:]
    assert [name for name, _ in sink.said()] == ["B"]
    assert "7 seen" in str(asked["messages"])
    assert "So." not in str(asked["messages"])


async def test_a_condition_counts_from_the_new_question() -> None:
    """Earlier messages end no team, and progress begins anew."""
    async with provider(model) as fake:
        first, begun = await ask(fake, round_robin, task())
        second, sink = await ask(fake, round_robin, follow_up(first.session_state))
    assert (first.total_messages, second.total_messages) == (4, 4)
    assert sink.drafts[0].body.progress == begun.drafts[0].body.progress == 0  # type: ignore[union-attr]


async def test_a_follow_up_is_resumed_from_any_checkpoint() -> None:
    """The rest equals that of an undisturbed run, from before its first turn as well."""
    async with provider(model) as fake:
        first, _ = await ask(fake, round_robin, task())
        asked = follow_up(first.session_state)
        answer, whole = await ask(fake, round_robin, asked)
        told = comparable(whole.drafts)
        for saved in (None, *whole.checkpoints):
            again, rest = await ask(fake, round_robin, replace(asked, attempt=2, checkpoint=saved))
            assert replace(again, session_state=None) == replace(answer, session_state=None)
            assert comparable(rest.drafts) == told[len(told) - len(comparable(rest.drafts)) :]


async def test_a_handoff_that_nobody_answered_is_answered_by_the_follow_up() -> None:
    """A swarm refuses any other message then."""

    def script(body: Body, _: int) -> fake_provider.Reply:
        if "now" in str(body["messages"][-1]["content"]):
            return fake_provider.Reply(text=["DONE"])
        return fake_provider.Reply(text=["Which one?"], calls=[("transfer_to_user", "{}")])

    def make(client: ChatCompletionClient) -> BaseGroupChat:
        ends = HandoffTermination("user") | TextMentionTermination("DONE")
        return Swarm([agent(client, "A", handoffs=["user"])], termination_condition=ends)

    async with provider(script) as fake:
        play = HumanRun(fake, make)
        first = await play.run(task(), [Reply(value=None, answered=False)])
        second, _ = await ask(fake, make, follow_up(first.session_state))
    assert second.final_response == "DONE"


async def test_a_team_that_a_person_left_waiting_keeps_its_state() -> None:
    """It was stopped in the middle of a turn: the state is that before the turn."""

    def make(client: ChatCompletionClient) -> BaseGroupChat:
        return RoundRobinGroupChat([agent(client, "A"), UserProxyAgent("U")], max_turns=6)

    async with provider(model) as fake:
        first = await HumanRun(fake, make).run(task(), [Reply(value=None, answered=False)])
        assert first.session_state is not None
        async with orchestrator(fake, make) as team:
            assert isinstance(await team.run(follow_up(first.session_state), Recorder()), Inquiry)


# --- text instead ----------------------------------------------------------------------------------------------------


def parallel(client: ChatCompletionClient) -> BaseGroupChat:
    return forked(agents(client))


async def test_a_kind_of_team_without_a_state_gets_text() -> None:
    """The earlier question and answer, as messages."""
    async with provider(model) as fake:
        first, _ = await ask(fake, parallel, task())
        before = len(fake.requests)
        await ask(fake, parallel, follow_up(first.session_state))
        told = str(fake.requests[before]["messages"])
    assert first.session_state is None
    assert "So." in told


async def test_a_profile_may_ask_for_text() -> None:
    """The bundled team's does: its reports are made to be read by a follow-up."""
    async with provider(model) as fake:
        first, _ = await ask(fake, round_robin, task(), profile=TeamProfile(keeps_state=False))
    assert first.session_state is None


def others(client: ChatCompletionClient) -> BaseGroupChat:
    return RoundRobinGroupChat(agents(client, "AB"), max_turns=2)


def other_kind(client: ChatCompletionClient) -> BaseGroupChat:
    return SelectorGroupChat(agents(client), client, max_turns=2)


class Picky(AssistantAgent):
    """Loads no state."""

    async def load_state(self, state: Any) -> None:
        raise RuntimeError("not mine")


def picky(client: ChatCompletionClient) -> BaseGroupChat:
    return RoundRobinGroupChat([Picky(name, client, system_message=f"You are {name}.") for name in "ABC"], max_turns=2)


@pytest.mark.parametrize("make", [others, other_kind, picky])
async def test_a_team_that_has_changed_gets_text(make: Make) -> None:
    """Other members, another kind, or an agent that refuses its part: the run goes on with a fresh team."""
    async with provider(model) as fake:
        first, _ = await ask(fake, round_robin, task())
        before = len(fake.requests)
        await ask(fake, make, follow_up(first.session_state))
        told = [str(body["messages"]) for body in fake.requests[before:]]
    assert all("So." in each for each in told)
    assert not any("spoken 1 of 2" in each and "Why?" in each for each in told[:1])


@pytest.mark.parametrize("state", [b"", b"[]", b"{}", b'{"session": 1}', b'{"session": 9}', b'{"version": 2}', b"\xff"])
async def test_a_state_that_cannot_be_read_is_ignored(state: bytes) -> None:
    """It may be another orchestrator's, or an earlier version's."""
    async with provider(model) as fake:
        await ask(fake, round_robin, follow_up(state))
        assert "So." in str(fake.requests[0]["messages"])


async def test_a_state_too_large_for_a_model_is_not_kept() -> None:
    """Each call would read it: the next follow-up gets text."""
    long = "x" * memory.STATE_BYTES

    async with provider([fake_provider.Reply(text=[long])]) as fake:
        first, _ = await ask(fake, one, task())
    assert first.final_response == long
    assert first.session_state is None


async def test_a_state_has_no_part_of_the_run_beside_the_teams_own() -> None:
    """A journal may show what it holds; field names are those of the stored states."""
    async with provider(model) as fake:
        first, _ = await ask(fake, one, task())
    assert first.session_state is not None
    kept = orjson.loads(first.session_state)
    assert sorted(kept) == ["messages", "session", "shape", "state", "target"]
    assert kept["shape"] == {"kind": "RoundRobinGroupChat", "members": ["A"]}


class Noted(UnboundedChatCompletionContext):
    """Adds a note to each of the user's messages: then no exchange is recognised that could be left out."""

    async def get_messages(self) -> list[LLMMessage]:
        return [
            message.model_copy(update={"content": f"{message.content} (a note)"})
            if isinstance(message, UserMessage)
            else message
            for message in await super().get_messages()
        ]


async def test_a_state_that_fills_the_context_gives_way_to_the_answers_as_text() -> None:
    """It does so if no single exchange can be left out of the prompts."""

    def script(body: Body, _: int) -> fake_provider.Reply:
        if any(message["role"] == "tool" for message in body["messages"]):
            if "now" in str(body["messages"]):
                return fake_provider.Reply(status=400, error={"message": "This exceeds the context length."})
            return fake_provider.Reply(text=["noted"])
        if "now" in str(body["messages"]):
            return fake_provider.Reply(text=["fine"])
        return fake_provider.Reply(calls=[("look", '{"at": "7"}')])

    def make(client: ChatCompletionClient) -> BaseGroupChat:
        helped = agent(client, "A", tools=[look], reflect_on_tool_use=True, model_context=Noted())
        return RoundRobinGroupChat([helped], max_turns=1)

    async with provider(script) as fake:
        first, _ = await ask(fake, make, task())
        assert first.session_state is not None
        second, sink = await ask(fake, make, follow_up(first.session_state))
    assert second.final_response == "fine"
    assert sink.said() == [("A", "fine")]
    assert "So." in str(fake.requests[-1]["messages"])


async def test_a_small_window_bounds_the_state() -> None:
    """The next run gets the answers as text then."""
    async with provider(model) as fake:
        whole, _ = await ask(fake, one, task())
        small, _ = await ask(fake, one, task(), window=10)
    assert whole.session_state is not None
    assert small.session_state is None
