"""A team's answer is its last message with substance, without the word that ended the conversation."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from autogen_agentchat.conditions import (
    FunctionalTermination,
    MaxMessageTermination,
    SourceMatchTermination,
    TextMentionTermination,
)
from autogen_agentchat.teams import BaseGroupChat, MagenticOneGroupChat, RoundRobinGroupChat, SelectorGroupChat, Swarm
from autogen_core.models import ChatCompletionClient

from askstream.agents.answer import AnswerRule, Said
from tests.agents.fake_provider import Body, Reply, provider
from tests.agents.sample_teams import Recorder, agent, answered, orchestrator, task

POEM = "An old silent pond"
Lines = list[tuple[str, str]]


def answer_of(lines: Lines, *words: str, author: str | None = None) -> tuple[str, str]:
    rule, found = AnswerRule(words, author, frozenset({"human"})), None
    for name, text in lines:
        found = rule.after(found, Said(name, text))
    assert found is not None
    return found.agent_name, found.text


CASES: dict[str, tuple[Lines, str, tuple[str, str]]] = {
    "a consent": ([("writer", POEM), ("critic", "APPROVE")], "APPROVE", ("writer", POEM)),
    "in bold": ([("writer", POEM), ("critic", "**APPROVE**.")], "APPROVE", ("writer", POEM)),
    "inflected": ([("writer", POEM), ("critic", "Approved!")], "Approve", ("writer", POEM)),
    "with a remark": ([("writer", POEM), ("critic", "A fine poem, well made. APPROVE")], "APPROVE", ("writer", POEM)),
    "of one's own": ([("A", "It is 42.\n\nTERMINATE")], "TERMINATE", ("A", "It is 42.")),
    "on the same line": ([("A", "It is 42. TERMINATE")], "TERMINATE", ("A", "It is 42.")),
    "without a full stop": ([("A", "It is 42 TERMINATE")], "TERMINATE", ("A", "It is 42")),
    "behind another's": ([("A", "Is it?"), ("B", "It is 42. TERMINATE")], "TERMINATE", ("B", "It is 42.")),
    "under a rule": ([("A", "It is **42**\n---\n`TERMINATE`")], "TERMINATE", ("A", "It is **42**")),
    "at the beginning": ([("A", "FINAL ANSWER: 42")], "FINAL ANSWER", ("A", "42")),
    "in the middle": ([("A", "To TERMINATE a lease is easy.")], "TERMINATE", ("A", "To TERMINATE a lease is easy.")),
    "a sentence's end": ([("A", "All work is done")], "done", ("A", "All work is done")),
    "a word alone": ([("A", "All is well."), ("A", "done")], "done", ("A", "All is well.")),
    "spaces": ([("A", " as it is  ")], "TERMINATE", ("A", " as it is  ")),
    "an empty text": ([("A", "42"), ("B", " \n")], "TERMINATE", ("A", "42")),
    "a person's text": ([("A", "42"), ("human", "fine, thanks")], "TERMINATE", ("A", "42")),
    "no consent": ([("writer", POEM), ("critic", "Not yet: longer.")], "APPROVE", ("critic", "Not yet: longer.")),
    "its own version": (
        [("writer", POEM), ("critic", "APPROVE\n" + POEM * 20)], "APPROVE", ("critic", POEM * 20),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("lines", "word", "expected"), CASES.values(), ids=CASES)
def test_the_word_that_ends_a_conversation_is_no_answer(lines: Lines, word: str, expected: tuple[str, str]) -> None:
    """Neither alone nor at the end of one; a consent's remarks are about another's text."""
    assert answer_of(lines, word) == expected


def test_a_team_may_name_the_agent_whose_word_counts() -> None:
    """Its last text with substance; until it speaks, anybody's."""
    lines = [("A", "one"), ("writer", "two"), ("critic", "three")]
    assert answer_of(lines, author="writer") == ("writer", "two")
    assert answer_of([*lines, ("writer", "four")], author="writer") == ("writer", "four")
    assert answer_of(lines[:1], author="writer") == ("A", "one")


def script(*lines: str) -> Callable[[Body, int], Reply]:
    return lambda _body, number: Reply(text=[lines[number]])


def pair(client: ChatCompletionClient, ends: Any) -> BaseGroupChat:
    return RoundRobinGroupChat([agent(client, "writer"), agent(client, "critic")], termination_condition=ends)


def nested(client: ChatCompletionClient) -> BaseGroupChat:
    return RoundRobinGroupChat([pair(client, TextMentionTermination("APPROVE"))], max_turns=1, name="Outer")


def whole(client: ChatCompletionClient) -> BaseGroupChat:
    """A team that isn't driven turn by turn."""

    class OfItsOwn(RoundRobinGroupChat):
        def run_stream(self, **options: Any) -> Any:
            return super().run_stream(**options)

    members = [agent(client, "writer"), agent(client, "critic")]
    return OfItsOwn(list(members), termination_condition=TextMentionTermination("APPROVE"))


MENTIONED = "Text 'APPROVE' mentioned"
ENDS: dict[str, tuple[Callable[[ChatCompletionClient], BaseGroupChat], str]] = {
    "a mention": (lambda c: pair(c, TextMentionTermination("APPROVE")), MENTIONED),
    "one of two": (lambda c: pair(c, MaxMessageTermination(9) | TextMentionTermination("APPROVE")), MENTIONED),
    "a function": (
        lambda c: pair(c, FunctionalTermination(lambda messages: messages[-1].to_text() == "APPROVE")),
        "Functional termination condition met",
    ),
    "a source": (lambda c: pair(c, SourceMatchTermination(["critic"]) & TextMentionTermination("APPROVE")), MENTIONED),
    "a team inside": (nested, "Maximum number of turns 1 reached."),
    "in one go": (whole, MENTIONED),
}


@pytest.mark.parametrize(("make", "reason"), ENDS.values(), ids=ENDS)
async def test_a_writers_text_is_the_answer_and_not_the_critics_word(
    make: Callable[[ChatCompletionClient], BaseGroupChat], reason: str
) -> None:
    """By whichever condition the team ends; AutoGen's own reason is passed on."""
    sink = Recorder()
    async with provider(script(POEM, "APPROVE")) as fake, orchestrator(fake, make) as team:
        answer = answered(await team.run(task(), sink))
    assert (answer.agent_name, answer.final_response, answer.total_messages) == ("writer", POEM, 2)
    assert reason in str(answer.stop_reason)
    assert sink.said() == [("writer", POEM), ("critic", "APPROVE")]


async def test_the_reason_of_the_end_is_the_same_after_a_crash() -> None:
    """The last checkpoint has the answer and the reason."""

    def make(client: ChatCompletionClient) -> BaseGroupChat:
        return pair(client, TextMentionTermination("APPROVE"))

    sink = Recorder()
    async with provider(script(POEM, "APPROVE")) as fake, orchestrator(fake, make) as team:
        answer = answered(await team.run(task(), sink))
        for saved in sink.checkpoints[-1:]:
            again = answered(await team.run(task(checkpoint=saved), Recorder()))
            assert again == replace(answer, session_state=None)  # which the last checkpoint is too small for
    assert answered(answer).stop_reason == MENTIONED


async def test_a_factory_names_the_agent_whose_word_counts() -> None:
    """By its attribute `answered_by`."""
    from askstream.agents.factory import CustomTeam
    from askstream.agents.team_factory import TeamFactory

    def make(client: ChatCompletionClient) -> BaseGroupChat:
        return pair(client, MaxMessageTermination(3))

    make.answered_by = "writer"  # type: ignore[attr-defined]
    profile = CustomTeam(TeamFactory("tests:make", make)).profile
    async with provider(script(POEM, "Make it longer.")) as fake, orchestrator(fake, make, profile=profile) as team:
        answer = answered(await team.run(task(), Recorder()))
    assert (answer.agent_name, answer.final_response) == ("writer", POEM)


async def test_a_handoff_is_no_answer() -> None:
    """A swarm that ends with one answers with the last text before it."""

    def make(client: ChatCompletionClient) -> BaseGroupChat:
        members = [agent(client, "A", handoffs=["B"]), agent(client, "B", handoffs=["A"])]
        return Swarm(list(members), termination_condition=MaxMessageTermination(3))

    replies = [Reply(text=["It is 42."]), Reply(calls=[("transfer_to_b", "{}")])]
    async with provider(replies) as fake, orchestrator(fake, make) as team:
        answer = answered(await team.run(task(), Recorder()))
    assert (answer.agent_name, answer.final_response) == ("A", "It is 42.")


@pytest.mark.parametrize("kind", [SelectorGroupChat, MagenticOneGroupChat])
async def test_the_answer_of_a_managed_team_has_its_author(kind: type) -> None:
    """A selector's choice is none, and MagenticOne's manager answers by itself."""

    def model(body: Body, number: int) -> Reply:
        asked = str(body["messages"][-1]["content"])
        if "is_request_satisfied" in asked:
            done = '{"reason": "r", "answer": %s}'
            facts_of = {"is_request_satisfied": number > 4, "is_in_loop": False, "is_progress_being_made": True}
            parts = [f'"{name}": {done % str(value).lower()}' for name, value in facts_of.items()]
            parts += [
                f'"{name}": {done % text}'
                for name, text in [("next_speaker", '"A"'), ("instruction_or_question", '"go"')]
            ]
            return Reply(text=["{" + ", ".join(parts) + "}"])
        if kind is SelectorGroupChat and "A has" not in asked and len(body["messages"]) == 1:
            return Reply(text=["A"])
        return Reply(text=["It is 42."])

    def make(client: ChatCompletionClient) -> BaseGroupChat:
        members = [agent(client, "A"), agent(client, "B")]
        return kind(list(members), client, max_turns=3 if kind is MagenticOneGroupChat else 1)

    async with provider(model) as fake, orchestrator(fake, make) as team:
        answer = answered(await team.run(task(), Recorder()))
    assert answer.final_response == "It is 42."
    assert answer.agent_name == ("A" if kind is SelectorGroupChat else "MagenticOneOrchestrator")
