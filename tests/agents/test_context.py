"""A session's memory fits the model: it is small if the window is, and shrinks if the context is full."""

import json

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_core.models import AssistantMessage, ChatCompletionClient, LLMMessage, SystemMessage, UserMessage

from askstream.agents.context import RunMemory
from askstream.agents.memory import MEMORY_CHARACTERS, ContextWindow, remembered
from askstream.server.events.errors import RunFailed
from askstream.server.runs.orchestrator import Exchange, Task
from tests.agents.fake_provider import Body, Reply, provider
from tests.agents.sample_teams import Recorder, answered, orchestrator

HISTORY = tuple(Exchange(question=f"question {n}", answer=f"answer {n}. " * 30) for n in range(8))
ASKED = Task(run_id="r", session_id="s", question="And now?", history=HISTORY)


def agent(client: ChatCompletionClient) -> AssistantAgent:
    return AssistantAgent("Solo", client, system_message="Be brief.")


def small_model(characters: int, *, size: str = "") -> object:
    """A server whose context has room for so many characters of messages."""

    def script(body: Body, _: int) -> Reply:
        if len(json.dumps(body["messages"])) <= characters:
            return Reply(text=["fine"])
        return Reply(status=400, error={"code": 400, "message": f"exceeds the available context size{size}, sorry"})

    return script


async def test_a_full_context_costs_memory_and_not_the_run() -> None:
    """The oldest exchanges are left out, whole ones, until the prompt fits. The question and the rules stay."""
    async with provider(small_model(1000)) as fake, orchestrator(fake, agent) as team:  # type: ignore[arg-type]
        assert answered(await team.run(ASKED, Recorder())).final_response == "fine"
    sent = fake.requests[-1]["messages"]
    assert sent[0]["content"] == "Be brief."
    assert sent[-1]["content"] == "And now?"
    assert sent[1]["content"].startswith("question")
    assert 1 < len(sent) < len(fake.requests[0]["messages"])
    assert len(fake.requests) <= 5


async def test_without_memory_a_full_context_ends_the_run() -> None:
    """One request for each time that something could be left out, then the error."""
    async with provider(small_model(10)) as fake, orchestrator(fake, agent) as team:  # type: ignore[arg-type]
        with pytest.raises(RunFailed) as caught:
            await team.run(ASKED, Recorder())
    assert caught.value.code == "model_context_full"
    assert len(fake.requests[-1]["messages"]) == 2
    assert len(fake.requests) <= 6


async def test_a_size_that_the_server_named_is_remembered() -> None:
    """The next run begins with a memory that fits."""
    script = small_model(1000, size=" (200 tokens)")
    async with provider(script) as fake, orchestrator(fake, agent) as team:  # type: ignore[arg-type]
        await team.run(ASKED, Recorder())
        before = len(fake.requests)
        await team.run(ASKED, Recorder())
    assert len(fake.requests) == before + 1 > 2


async def test_a_known_window_bounds_the_memory_from_the_start() -> None:
    """As the operator's settings say."""
    async with provider(small_model(1000)) as fake, orchestrator(fake, agent, window=400) as team:  # type: ignore[arg-type]
        await team.run(ASKED, Recorder())
    assert len(fake.requests) == 1
    assert len(fake.requests[0]["messages"]) > 2


@pytest.mark.parametrize(("tokens", "characters"), [(None, MEMORY_CHARACTERS), (10**6, MEMORY_CHARACTERS), (512, 512)])
def test_memory_has_a_quarter_of_a_small_window(tokens: int | None, characters: int) -> None:
    """A token has about four characters."""
    assert ContextWindow(tokens).characters == characters


def test_answers_are_cut_in_proportion() -> None:
    """One long answer must not take all of a small memory."""
    history = [Exchange(question="q", answer="word " * 2000)] * 4
    kept = remembered(history, "A", 800)
    assert len(kept) >= 6
    assert sum(len(message.text) for message in kept) <= 800
    assert all("[...]" in message.text for message in kept[1::2])


def prompt(*contents: str) -> list[LLMMessage]:
    """Texts with a `?` are the user's."""
    return [
        UserMessage(content=text, source="user") if "?" in text else AssistantMessage(content=text, source="A")
        for text in contents
    ]


def test_only_whole_exchanges_before_the_question_are_dropped() -> None:
    """Messages of the run itself stay, whatever they are."""
    memory = RunMemory("now?", ContextWindow())
    rules: list[LLMMessage] = [SystemMessage(content="rules")]
    whole = [*rules, *prompt("1?", "one", "more", "2?", "two", "now?", "well", "x?", "y")]
    problem = type("APIError", (Exception,), {})("context length exceeded")
    assert memory.fit(whole) == whole
    assert memory.shrink(problem, whole)
    assert memory.fit(whole) == [*rules, *prompt("2?", "two", "now?", "well", "x?", "y")]
    assert memory.shrink(problem, whole)
    assert memory.fit(whole) == [*rules, *prompt("now?", "well", "x?", "y")]
    assert not memory.shrink(problem, whole)
    assert not RunMemory("other?", ContextWindow()).shrink(problem, whole)
    assert not RunMemory("now?", ContextWindow()).shrink(ValueError("context length"), whole)
