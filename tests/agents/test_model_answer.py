"""An answer that was cut keeps its text and says so, an empty one is an error, and unknown usage isn't zero."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.base import Response
from autogen_agentchat.messages import TextMessage
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core.models import ChatCompletionClient, CreateResult, RequestUsage
from pydantic import BaseModel

from askstream.agents import model_answer
from askstream.agents.model_answer import CUT_MARK
from askstream.agents.models import ModelSettings, connect
from askstream.server.events import AgentChunk, AgentResponse, AgentThinking, Usage
from askstream.server.events.errors import RunFailed
from askstream.server.runs.orchestrator import Answer
from tests.agents.fake_provider import Body, Reply, Script, provider
from tests.agents.sample_teams import Recorder, answered, orchestrator, task

CLIENTS = {"given": (False, False), "own": (True, False), "own, streaming": (True, True)}
both = pytest.mark.parametrize(("own", "streams"), CLIENTS.values(), ids=CLIENTS)


async def play(
    script: Script | list[Reply], *, own: bool, streams: bool = False, **options: object
) -> tuple[Answer, Recorder]:
    """A run of one agent, with the given client or one that it made itself."""
    sink = Recorder()
    async with provider(script) as fake:
        brought = connect(ModelSettings(base_url=fake.base_url, model="m", info={"structured_output": True}))

        def make(client: ChatCompletionClient) -> AssistantAgent:
            chosen: ChatCompletionClient = brought if own else client
            return AssistantAgent("Solo", chosen, model_client_stream=streams, **options)  # type: ignore[arg-type]

        try:
            async with orchestrator(fake, make) as team:
                return answered(await team.run(task(), sink)), sink
        finally:
            await brought.close()


@both
async def test_a_text_that_was_cut_is_kept_and_marked(own: bool, streams: bool) -> None:
    """The run goes on, as it does in process, and everybody can see that something is missing."""
    answer, sink = await play([Reply(text=["half ", "a text"], finish="length")], own=own, streams=streams)
    assert answer.final_response == "half a text" + CUT_MARK
    ((_, said),) = sink.said()
    assert said == answer.final_response
    (body,) = sink.bodies(AgentResponse)
    if streams or not own:
        assert sink.written(body.message_id) == said


@both
async def test_other_agents_see_the_mark(own: bool, streams: bool) -> None:
    """They would take the text for a whole one."""
    async with provider([Reply(text=["half"], finish="length"), Reply(text=["fine"])]) as fake:
        brought = connect(ModelSettings(base_url=fake.base_url, model="m"))

        def make(client: ChatCompletionClient) -> RoundRobinGroupChat:
            chosen = brought if own else client
            agents = [AssistantAgent(name, chosen, model_client_stream=streams) for name in "AB"]
            return RoundRobinGroupChat(list(agents), max_turns=2)

        async with orchestrator(fake, make) as team:
            await team.run(task(), Recorder())
        await brought.close()
    assert CUT_MARK.strip() in fake.requests[1]["messages"][-1]["content"]


@pytest.mark.filterwarnings("ignore:No text content")  # AutoGen's
@both
@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply(), "model_empty"),
        (Reply(text=[" \n"]), "model_empty"),
        (Reply(finish="length"), "model_cut_short"),
        (Reply(text=["Wel"], finish="content_filter"), "model_refused"),
    ],
    ids=["nothing", "spaces", "nothing before the limit", "filtered"],
)
async def test_an_answer_of_no_use_ends_the_run(reply: Reply, code: str, own: bool, streams: bool) -> None:
    """The code is the same for the given client and for one of its own."""
    with pytest.raises(RunFailed) as caught:
        await play([reply], own=own, streams=streams)
    assert caught.value.code == code


class Found(BaseModel):
    good: bool


async def test_a_structure_that_was_cut_is_an_error() -> None:
    """A mark would not make it readable."""
    with pytest.raises(RunFailed) as caught:
        await play([Reply(text=['{"good": '], finish="length")], own=False, output_content_type=Found)
    assert caught.value.code == "model_cut_short"


async def test_a_tool_call_that_was_cut_returns_to_the_model() -> None:
    """Its arguments are no JSON: the model reads that, and can try again."""

    async def look(at: str) -> str:
        """Look."""
        return f"{at} seen"

    script = [
        Reply(calls=[("look", '{"at": "he')], finish="length"),
        Reply(calls=[("look", '{"at": "here"}')]),
        Reply(text=["ok"]),
    ]
    answer, _ = await play(script, own=False, tools=[look], reflect_on_tool_use=True, max_tool_iterations=3)
    assert answer.final_response == "ok"


class Silent(AssistantAgent):
    """An agent that says nothing, and asks no model."""

    async def on_messages_stream(self, *_args: object, **_options: object) -> Any:  # type: ignore[override]
        yield Response(chat_message=TextMessage(content=" ", source=self.name))


async def test_a_team_that_says_nothing_has_not_answered() -> None:
    """Even if no model was asked."""
    async with provider([]) as fake, orchestrator(fake, partial(Silent, "Solo")) as team:
        with pytest.raises(RunFailed, match="without an answer"):
            await team.run(task(), Recorder())


@both
async def test_usage_that_nobody_counted_is_unknown(own: bool, streams: bool) -> None:
    """In the response and in the end; 0 would be a lie."""
    answer, sink = await play([Reply(text=["ok"], usage=None)], own=own, streams=streams)
    assert answer.usage == Usage(None, None)
    assert [body.usage for body in sink.bodies(AgentResponse)] == [Usage(None, None)]


def test_a_sum_with_an_unknown_part_is_unknown() -> None:
    assert Usage(3, 4) + Usage(None, None) == Usage(None, None) == Usage(None, None) + Usage()
    assert Usage(3, 4) + Usage(1, 1) == Usage(4, 5)


def test_a_cached_answer_costs_nothing() -> None:
    """There, 0 is a count."""
    result = CreateResult(content="x", finish_reason="stop", usage=RequestUsage(0, 0), cached=True)
    assert model_answer.usage(result) == Usage(0, 0)


async def test_chunks_of_a_thought_say_so_and_its_event_has_their_id() -> None:
    """A viewer can tell them from the answer at once, and join them with the thought."""
    _, sink = await play([Reply(thoughts=["it ", "may be"], text=["So."])], own=False)
    chunks = sink.bodies(AgentChunk)
    assert {body.thought for body in chunks} == {True, None}
    (thought_id,) = {body.message_id for body in chunks if body.thought}
    (event,) = [draft for draft in sink.drafts if draft.message == "it may be"]
    assert isinstance(event.body, AgentThinking)
    assert event.body.message_id == thought_id
    assert sink.written(thought_id) == "it may be"
    (said,) = sink.bodies(AgentResponse)
    assert sink.written(said.message_id) == "So."


async def test_thoughts_before_a_tool_call_are_told_as_well() -> None:
    """AutoGen drops them; and text beside a call is a thought, with the id of its chunks."""

    async def look() -> str:
        """Look."""
        return "seen"

    script = [Reply(thoughts=["hm"], text=["Let me look."], calls=[("look", "{}")]), Reply(text=["ok"])]
    _, sink = await play(script, own=False, tools=[look], reflect_on_tool_use=True)
    told = {draft.message: draft.body for draft in sink.drafts if isinstance(draft.body, AgentThinking)}
    for text in ("hm", "Let me look."):
        body = told[text]
        assert isinstance(body, AgentThinking)
        assert sink.written(body.message_id) == text


async def test_a_brought_client_keeps_its_other_names() -> None:
    """Agents may use more of their client than AutoGen's interface."""
    seen: list[object] = []

    class Curious(AssistantAgent):
        async def on_messages_stream(self, *args: object, **options: object) -> object:  # type: ignore[override]
            client: object = self._model_client
            seen.extend((getattr(client, "_create_args"), client.model_info["family"]))  # noqa: B009
            async for message in super().on_messages_stream(*args, **options):  # type: ignore[arg-type]
                yield message

    def script(_body: Body, _number: int) -> Reply:
        return Reply(text=["ok"])

    async with provider(script) as fake:
        brought = connect(ModelSettings(base_url=fake.base_url, model="m"))
        make: Callable[[ChatCompletionClient], AssistantAgent] = lambda _client: Curious("Solo", brought)  # noqa: E731
        async with orchestrator(fake, make) as team:
            for _ in range(2):
                await team.run(task(), Recorder())
        await brought.close()
    assert seen[1] == "unknown"
    assert len(seen) == 4
