"""A team that needs a person stops, and continues in another process as if it had never stopped."""

import asyncio
import re
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any, cast

import pytest
from autogen_agentchat.agents import AssistantAgent, UserProxyAgent
from autogen_agentchat.base import Response
from autogen_agentchat.conditions import (
    HandoffTermination,
    MaxMessageTermination,
    SourceMatchTermination,
    TextMentionTermination,
)
from autogen_agentchat.messages import TextMessage
from autogen_agentchat.teams import (
    BaseGroupChat,
    DiGraphBuilder,
    GraphFlow,
    RoundRobinGroupChat,
    SelectorGroupChat,
    Swarm,
)
from autogen_core.models import ChatCompletionClient

from askstream.agents.human import NO_REPLY, TeamProfile
from askstream.agents.insights import team as insights
from askstream.server.events import AgentThinking
from askstream.server.events.errors import RunFailed
from askstream.server.runs.orchestrator import Exchange, Inquiry, Reply
from tests.agents import fake_provider
from tests.agents.fake_provider import Body, provider
from tests.agents.human_runs import APPROVED, NOBODY_THERE, HumanRun, bundled, insights_run, sent_back, staff
from tests.agents.sample_teams import Make, Recorder, agent, comparable, orchestrator, task

# --- other teams -----------------------------------------------------------------------------------------------------


def chooses(body: Body) -> bool:
    """Whether the call asks a selector team's model for the next speaker."""
    return "role play" in str(body["messages"][0]["content"])


def counting(body: Body, _: int) -> fake_provider.Reply:
    """A model without memory: its text follows from the messages that it gets."""
    system, messages = str(body["messages"][0]["content"]), body["messages"]
    if chooses(body):
        spoken = len(re.findall("^(?:A|B|U): ", system.partition("following conversation")[2], re.MULTILINE))
        return fake_provider.Reply(text=["AUBU"[spoken % 4]])
    tools = [tool["function"]["name"] for tool in body.get("tools", [])]
    if tools and not any("enough" in str(message["content"]) for message in messages):
        return fake_provider.Reply(calls=[(tools[0], "{}")])
    return fake_provider.Reply(text=[f"{system[8]} has spoken after {messages[-1]['content']!r} in {len(messages)}"])


def with_person(client: ChatCompletionClient) -> BaseGroupChat:
    return RoundRobinGroupChat(
        [agent(client, "A"), UserProxyAgent("U", input_func=input), agent(client, "B")],
        termination_condition=TextMentionTermination("OK", sources=["U"]) | MaxMessageTermination(9),
    )


def person_first(client: ChatCompletionClient) -> BaseGroupChat:
    return RoundRobinGroupChat([UserProxyAgent("U"), agent(client, "A")], max_turns=4)


def person_chosen(client: ChatCompletionClient) -> BaseGroupChat:
    members: list[Any] = [agent(client, "A"), UserProxyAgent("U"), agent(client, "B")]
    return SelectorGroupChat(members, client, max_turns=5, emit_team_events=True)


def person_chosen_by_rule(client: ChatCompletionClient) -> BaseGroupChat:
    members: list[Any] = [agent(client, "A"), UserProxyAgent("U"), agent(client, "B")]
    order = "AUBU"
    return SelectorGroupChat(members, client, max_turns=5, selector_func=lambda thread: order[(len(thread) - 1) % 4])


def person_in_a_line(client: ChatCompletionClient) -> BaseGroupChat:
    members: list[Any] = [agent(client, "A"), UserProxyAgent("U"), agent(client, "B")]
    first, person, last = members
    built = DiGraphBuilder().add_node(first).add_node(person).add_node(last)
    built.add_edge(first, person).add_edge(person, last)
    return GraphFlow(members, built.build())


def person_handed_to(client: ChatCompletionClient) -> BaseGroupChat:
    return Swarm(
        [agent(client, "A", handoffs=["U"]), UserProxyAgent("U")],
        termination_condition=SourceMatchTermination(["A"]) & TextMentionTermination("has spoken"),
    )


def hands_over(client: ChatCompletionClient) -> BaseGroupChat:
    return Swarm([agent(client, "A", handoffs=["B"]), agent(client, "B", handoffs=["user"])],
                 termination_condition=HandoffTermination("user") | TextMentionTermination("has spoken"))  # fmt: skip


def one_hands_over(client: ChatCompletionClient) -> BaseGroupChat:
    return RoundRobinGroupChat(
        [agent(client, "A", handoffs=["user"])],
        termination_condition=HandoffTermination("user") | TextMentionTermination("has spoken"),
    )


YES = Reply(value="enough")
CASES: list[tuple[Make, bool, list[Reply]]] = [
    (with_person, False, [YES, Reply(value="OK")]),
    (with_person, False, [NOBODY_THERE]),
    (with_person, True, [NOBODY_THERE, sent_back("More."), Reply(value="OK"), APPROVED]),
    (person_first, False, [YES, YES]),
    (person_first, True, [YES, YES, sent_back("Again"), YES, YES, APPROVED]),
    (person_chosen, False, [YES, YES]),
    (person_chosen_by_rule, False, [YES, YES]),
    (person_in_a_line, False, [YES]),
    (person_in_a_line, True, [YES, sent_back("Again"), YES, APPROVED]),
    (person_handed_to, False, [Reply(value="no"), YES]),
    (hands_over, False, [Reply(value="no"), YES]),
    (hands_over, True, [YES, APPROVED]),
    (one_hands_over, False, [YES]),
]


def asked_of(play: HumanRun) -> list[tuple[str, str]]:
    return [(asked.agent_name, asked.prompt) for asked in play.inquiries]


async def test_a_user_proxy_answers_with_the_reply() -> None:
    """In its own turn; the other agents get the text, and the team's condition sees it."""
    async with provider(counting) as fake:
        play = HumanRun(fake, with_person)
        answer = await play.run(task(), [YES, Reply(value="OK")])
        assert len(fake.requests) == 3
    assert asked_of(play) == [("U", "Enter your response:")] * 2
    assert [name for name, _ in play.sink.said()] == ["A", "U", "B", "A", "U"]
    assert play.sink.said()[2][1] == "B has spoken after 'enough' in 4"
    assert answer.total_messages == 5
    assert answer.agent_name == "A"  # a person's text is no answer to a person
    begun = [draft.agent_name for draft in play.sink.drafts if isinstance(draft.body, AgentThinking)]
    assert begun == ["A", "U", "B", "A", "U"]


async def test_a_user_proxy_without_a_reply_is_not_waited_for_again() -> None:
    """The team is notified once; if it asks again, the last text of an agent is the answer."""
    async with provider(counting) as fake:
        play = HumanRun(fake, with_person)
        answer = await play.run(task(), [NOBODY_THERE])
    assert [name for name, _ in play.sink.said()] == ["A", "U", "B", "A"]
    assert play.sink.said()[1][1] == NO_REPLY
    assert answer.final_response == play.sink.said()[-1][1]


async def test_a_selectors_model_is_not_asked_again_for_the_speaker() -> None:
    """It chose the person, who keeps the turn. The choice counts as the model's, emitted once and paid for once."""
    async with provider(counting) as fake:
        play = HumanRun(fake, person_chosen)
        answer = await play.run(task(), [YES, YES])
        assert answer.usage.prompt_tokens == 10 * len(fake.requests)
        choices = [str(body["messages"]) for body in fake.requests if chooses(body)]
    assert [name for name, _ in play.sink.said()] == ["A", "U", "B", "U", "A"]
    assert len(choices) == 5
    assert sum(draft.message.startswith("Gives the turn") for draft in play.sink.drafts) == 5
    assert "['U', 'B']" in choices[1]
    assert "['A', 'B']" in choices[2]


async def test_a_choice_emitted_before_the_question_is_not_emitted_again() -> None:
    """Whether the choice is emitted before the turn stops is a matter of chance; here it is."""

    class Patient(UserProxyAgent):
        async def on_messages_stream(self, messages: Any, cancellation_token: Any) -> AsyncGenerator[Any, None]:
            await play.sink.until(lambda draft: draft.message == "Gives the turn to U.")
            async for message in super().on_messages_stream(messages, cancellation_token):
                yield message

    def make(client: ChatCompletionClient) -> BaseGroupChat:
        members: list[Any] = [agent(client, "A"), Patient("U")]
        return SelectorGroupChat(members, client, max_turns=2, emit_team_events=True)

    async with provider(counting) as fake:
        play = HumanRun(fake, make)
        await play.run(task(), [YES])
    assert [draft.message for draft in play.sink.drafts if draft.message.startswith("Gives")] == [
        "Gives the turn to A.",
        "Gives the turn to U.",
    ]


class Thorough(UserProxyAgent):
    """Asks for two inputs in one turn."""

    async def on_messages_stream(self, messages: Any, cancellation_token: Any) -> AsyncGenerator[Any, None]:
        assert callable(self.input_func)
        answers = [await cast(Any, self.input_func)(prompt, cancellation_token) for prompt in ("First?", "Second?")]
        yield Response(chat_message=TextMessage(content=" and ".join(answers), source=self.name))


async def test_a_user_proxy_may_ask_more_than_once_in_a_turn() -> None:
    """Each reply is asked for once, and the turn continues with all of them."""

    def make(client: ChatCompletionClient) -> BaseGroupChat:
        return RoundRobinGroupChat([agent(client, "A"), Thorough("U")], max_turns=2)

    async with provider(counting) as fake:
        play = HumanRun(fake, make)
        await play.run(task(), [Reply(value="yes"), Reply(value="no")])
        assert len(fake.requests) == 1
    assert asked_of(play) == [("U", "First?"), ("U", "Second?")]
    assert play.sink.said()[-1] == ("U", "yes and no")


async def test_a_handoff_to_a_person_comes_back_with_their_answer() -> None:
    """To the agent that handed over, as a swarm requires; it has the context."""
    async with provider(counting) as fake:
        play = HumanRun(fake, hands_over)
        answer = await play.run(task("Why so late?"), [Reply(value="no"), YES])
    assert all("Why so late?" in str(body["messages"]) for body in fake.requests)
    assert asked_of(play)[0][0] == "B"
    assert [name for name, _ in play.sink.said()] == ["A", "B", "B", "B"]
    assert answer.final_response.startswith("B has spoken after 'enough'")


async def test_a_second_handoff_without_a_reply_ends_the_team() -> None:
    """The team was notified that nobody answered, and handed over again."""
    async with provider(counting) as fake:
        play = HumanRun(fake, hands_over)
        answer = await play.run(task(), [NOBODY_THERE])
    assert [name for name, _ in play.sink.said()] == ["A", "B", "B"]
    assert answer.agent_name == "B"


async def test_earlier_messages_end_no_team() -> None:
    """The condition sees this run only, and counts from its question."""

    def make(client: ChatCompletionClient) -> BaseGroupChat:
        ends = TextMentionTermination("DONE") | MaxMessageTermination(3)
        return RoundRobinGroupChat([agent(client, "A")], termination_condition=ends)

    async with provider(counting) as fake:
        now = replace(task(), history=(Exchange(question="Before?", answer="DONE"),) * 3)
        answer = await HumanRun(fake, make).run(now)
        told = [(m.get("name"), m["content"]) for m in fake.requests[0]["messages"][1:]]
    assert answer.total_messages == 2
    assert told == [("user", "Before?"), ("assistant", "DONE")] * 3 + [("user", "Why?")]


@pytest.mark.parametrize(
    ("make", "profile", "script", "review", "replies"),
    [
        *((make, None, counting, review, replies) for make, review, replies in CASES),
        (bundled, insights.PROFILE, staff(questions=1), True, [Reply(value="a"), sent_back("b"), APPROVED]),
        (bundled, insights.PROFILE, staff(questions=9), True, [Reply(value="a"), NOBODY_THERE, NOBODY_THERE]),
    ],
)  # fmt: skip
async def test_resumed_from_any_checkpoint_it_equals_an_undisturbed_run(
    make: Make, profile: TeamProfile | None, script: fake_provider.Script, review: bool, replies: list[Reply]
) -> None:
    """From each checkpoint before, while or after it waited: no call of a finished turn is repeated, no event is
    emitted twice, and the rest equals that of an undisturbed run."""
    now = replace(task(), review=review, history=(Exchange(question="Before?", answer="So."),))
    async with provider(script) as fake:
        whole = HumanRun(fake, make, profile)
        answer = await whole.run(now, replies)
        asked, told = len(fake.requests), comparable(whole.sink.drafts)
        waits = [saved.state for saved in whole.inquiries]
        assert len(whole.sink.checkpoints) >= len(waits)
        for number, saved in enumerate(whole.sink.checkpoints):
            rest, before = HumanRun(fake, make, profile), len(fake.requests)
            left = replies[sum(wait in whole.sink.checkpoints[:number] for wait in waits) :]
            again = await rest.run(replace(now, attempt=2, checkpoint=saved), left)
            assert replace(again, session_state=None) == replace(answer, session_state=None)
            assert comparable(rest.sink.drafts) == told[len(told) - len(comparable(rest.sink.drafts)) :]
            repeated = fake.requests[before:]
            assert repeated == fake.requests[asked - len(repeated) : asked]
            if saved is whole.sink.checkpoints[-1] and not left:
                assert repeated == []


async def test_a_waiting_run_was_saved_before_it_asks() -> None:
    """A server that dies before the question is stored asks it again, without repeating any work."""
    async with provider(staff(questions=1)) as fake:
        play = insights_run(fake)
        first = await play.stretch(task())
        assert isinstance(first, Inquiry)
        again = await play.stretch(replace(task(checkpoint=play.sink.checkpoints[-1]), attempt=2))
        assert again == first
        assert len(fake.requests) == 1


# --- limits ----------------------------------------------------------------------------------------------------------


async def test_an_input_function_that_answers_by_itself_is_kept() -> None:
    """Only functions that read the server's console are replaced."""

    def make(client: ChatCompletionClient) -> BaseGroupChat:
        person = UserProxyAgent("U", input_func=lambda prompt: f"{prompt} yes")
        return RoundRobinGroupChat([agent(client, "A"), person], max_turns=2)

    async with provider(counting) as fake:
        play = HumanRun(fake, make)
        await play.run(task())
    assert play.sink.said()[-1] == ("U", "Enter your response:  yes")


class Forgetful(AssistantAgent):
    async def save_state(self) -> Any:
        raise RuntimeError("no state")


async def test_a_team_that_cannot_be_saved_is_not_begun_again() -> None:
    """Its work would be done twice: the run ends as interrupted."""

    def make(client: ChatCompletionClient) -> BaseGroupChat:
        return RoundRobinGroupChat([Forgetful("A", client)], max_turns=2)

    async with provider(counting) as fake:
        play = HumanRun(fake, make)
        await play.run(task())
        with pytest.raises(RunFailed) as caught:
            await play.run(replace(task(checkpoint=play.sink.checkpoints[0]), attempt=2))
        assert len(fake.requests) == 2
    assert caught.value.code == "interrupted"


async def test_a_run_is_not_resumed_with_a_changed_team() -> None:
    """The saved state names agents that don't exist any more."""
    async with provider(counting) as fake:
        play = HumanRun(fake, with_person)
        assert isinstance(await play.stretch(task()), Inquiry)
        with pytest.raises(RunFailed) as caught:
            await HumanRun(fake, hands_over).run(replace(task(checkpoint=play.sink.checkpoints[0]), attempt=2))
    assert caught.value.code == "interrupted"


async def test_waiting_leaves_nothing_behind() -> None:
    """No task of the team outlives its question, also if it stops in the middle of a turn: only the saved state is
    left."""
    async with provider(counting) as fake, orchestrator(fake, with_person) as team:
        assert isinstance(await team.run(task(), Recorder()), Inquiry)
        before = asyncio.all_tasks()
        for _ in range(3):
            assert isinstance(await team.run(task(), Recorder()), Inquiry)
        assert asyncio.all_tasks() == before
