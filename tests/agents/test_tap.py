"""A model's text reaches viewers piece by piece; its team gets whole messages, and the run its usage."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent, BaseChatAgent
from autogen_agentchat.base import Response
from autogen_agentchat.messages import BaseChatMessage, ModelClientStreamingChunkEvent, TextMessage
from autogen_agentchat.teams import RoundRobinGroupChat, SelectorGroupChat
from autogen_core import CancellationToken
from autogen_core.models import ChatCompletionClient, CreateResult, UserMessage
from pydantic import BaseModel

from askstream.agents.chunk_buffer import ChunkBuffer
from askstream.agents.models import ModelSettings, connect
from askstream.agents.tap import ModelCalls, Speaker, Tap, speaking
from askstream.server.events import AgentChunk, AgentResponse, AgentThinking, ToolExecution, Usage
from askstream.server.runs.orchestrator import Answer
from tests.agents.fake_provider import Body, Reply, Script, provider
from tests.agents.sample_teams import Recorder, answered, orchestrator, task
from tests.timing import FACTOR, MS

Make = Callable[[ChatCompletionClient], object]


async def play(script: Script | Sequence[Reply], make: Make) -> tuple[Answer, Recorder]:
    sink = Recorder()
    async with provider(script) as fake, orchestrator(fake, make) as team:
        return answered(await team.run(task(), sink)), sink


def solo(**options: Any) -> Make:
    return lambda client: AssistantAgent("Solo", client, **options)


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streaming agent"])
async def test_pieces_and_response_are_one_text_under_one_id(streams: bool) -> None:
    """Whether the agent streams or not, its pieces are emitted once, and make up its response."""
    pieces = [f"word{i} " for i in range(50)]
    _, sink = await play([Reply(text=pieces, pause=0.002)], solo(model_client_stream=streams))
    (said,) = sink.bodies(AgentResponse)
    assert said.message_id is not None
    assert sink.written(said.message_id) == "".join(pieces) == sink.said()[0][1]
    assert 1 < len(sink.bodies(AgentChunk)) < 50
    assert sink.drafts[-1].event_type == "agent_response"


async def test_autogens_streaming_agent_gets_no_pieces() -> None:
    """It doesn't need them, and passing a piece through a team costs more than all the rest."""
    async with provider([Reply(text=["a", "b", "c"])]) as fake:
        client = connect(ModelSettings(base_url=fake.base_url, model="m"))
        tap = Tap(client, ChunkBuffer(Recorder()), ModelCalls())
        speaking.set(Speaker("Solo", needs_whole_only=True))
        got = [piece async for piece in tap.create_stream([UserMessage(content="x", source="user")])]
        await client.close()
    assert [piece.content if isinstance(piece, CreateResult) else piece for piece in got] == ["abc"]


async def test_pieces_come_while_the_model_writes() -> None:
    """The first arrives before the provider has sent the last."""
    hold, sink = asyncio.Event(), Recorder()
    script = [Reply(text=["early ", "late"], hold=hold)]
    async with provider(script) as fake, orchestrator(fake, solo()) as team:
        running = asyncio.ensure_future(team.run(task(), sink))
        await sink.until(lambda draft: draft.event_type == "agent_chunk")
        assert not running.done()
        hold.set()
        assert answered(await running).final_response == "early late"


async def test_usage_is_the_providers_own() -> None:
    """It counts every call, also those with tools, and is in the response of each agent."""

    async def look() -> str:
        """Look."""
        return "seen"

    script = [Reply(calls=[("look", "{}")], usage=(100, 10)), Reply(text=["ok"], usage=(7, 3))]
    answer, sink = await play(script, solo(tools=[look], reflect_on_tool_use=True))
    assert answered(answer).usage == Usage(107, 13)
    assert [body.usage for body in sink.bodies(AgentResponse)] == [Usage(107, 13)]


async def test_usage_is_asked_for() -> None:
    """Providers count streamed tokens only on request."""
    async with provider([Reply(text=["ok"])]) as fake, orchestrator(fake, solo()) as team:
        await team.run(task(), Recorder())
    assert fake.requests[0]["stream_options"] == {"include_usage": True}


async def test_thoughts_are_a_text_of_their_own() -> None:
    """A reasoning model's thoughts have their own id, are emitted as thinking, and are in no response."""
    script = [Reply(thoughts=["the thing ", "think"], text=["So ", "it is."])]
    _, sink = await play(script, solo())
    (said,) = sink.bodies(AgentResponse)
    assert sink.written(said.message_id) == "So it is."
    others = {body.message_id for body in sink.bodies(AgentChunk)} - {said.message_id}
    assert [sink.written(message_id) for message_id in others] == ["the thing think"]
    thoughts = [draft.message for draft in sink.drafts if isinstance(draft.body, AgentThinking)]
    assert thoughts[-1] == "the thing think"


async def test_text_beside_tool_calls_is_a_thought() -> None:
    """Its pieces belong to no response."""

    async def look() -> str:
        """Look."""
        return "seen"

    script = [Reply(text=["Let me look."], calls=[("look", "{}")]), Reply(text=["Seen."])]
    _, sink = await play(script, solo(tools=[look], reflect_on_tool_use=True))
    (said,) = sink.bodies(AgentResponse)
    assert sink.written(said.message_id) == "Seen."
    order = [draft.event_type for draft in sink.drafts]
    assert order == [
        "agent_thinking", "agent_chunk", "agent_thinking", "tool_execution", "tool_execution",
        "agent_chunk", "agent_response",
    ]  # fmt: skip
    assert [body.status for body in sink.bodies(ToolExecution)] == ["started", "finished"]


@pytest.mark.serial
async def test_parallel_tools_end_one_by_one() -> None:
    """A quick call's end is emitted while a slow one still runs, each with its own duration."""
    release, sink = asyncio.Event(), Recorder()

    async def slow() -> str:
        """Take long."""
        await release.wait()
        return "slow"

    async def quick() -> str:
        """Be quick."""
        return "quick"

    script = [Reply(calls=[("slow", "{}"), ("quick", "{}")]), Reply(text=["ok"])]
    make = solo(tools=[slow, quick], reflect_on_tool_use=True)
    async with provider(script) as fake, orchestrator(fake, make) as team:
        running = asyncio.ensure_future(team.run(task(), sink))
        await sink.until(lambda draft: isinstance(draft.body, ToolExecution) and draft.body.status == "finished")
        await asyncio.sleep(100 * MS)
        assert [body.result for body in sink.bodies(ToolExecution)] == [None, None, "quick"]
        release.set()
        await running
    ends = [body for body in sink.bodies(ToolExecution) if body.status == "finished"]
    assert [body.result for body in ends] == ["quick", "slow"]
    quick_took, slow_took = (body.duration_ms or 0 for body in ends)
    assert quick_took < 100 * FACTOR <= slow_took
    assert "one_end" not in str(sink.checkpoints)


class Answering(BaseModel):
    good: bool


async def test_a_structured_answer_is_streamed_too() -> None:
    """It uses the client's other streaming method."""
    _, sink = await play([Reply(text=['{"good": ', "true}"])], solo(output_content_type=Answering))
    assert json.loads(sink.said()[0][1]) == {"good": True}
    assert "".join(body.delta for body in sink.bodies(AgentChunk)) == '{"good": true}'


async def test_a_selectors_choice_is_no_agents_text() -> None:
    """It counts in the usage, and no viewer gets it as an agent's text."""

    def script(body: Body, number: int) -> Reply:
        choosing = "select" in str(body["messages"][0]["content"]).lower() and len(body["messages"]) == 1
        return Reply(text=["B"] if choosing else ["Fine."], usage=(1, 1))

    def make(client: ChatCompletionClient) -> SelectorGroupChat:
        agents = [AssistantAgent(name, client, system_message="Answer.") for name in "AB"]
        return SelectorGroupChat(list(agents), client, max_turns=1)

    answer, sink = await play(script, make)
    assert sink.said() == [("B", "Fine.")]
    assert {draft.agent_name for draft in sink.drafts} == {"B"}
    assert answered(answer).usage == Usage(2, 2)


class Assembling(BaseChatAgent):
    """A custom agent that needs the pieces and streams by itself."""

    def __init__(self, name: str, client: ChatCompletionClient) -> None:
        super().__init__(name, "Assembles.")
        self._client = client

    @property
    def produced_message_types(self) -> Sequence[type[BaseChatMessage]]:
        return (TextMessage,)

    async def on_messages(self, messages: Sequence[BaseChatMessage], cancellation_token: CancellationToken) -> Response:
        raise NotImplementedError

    async def on_messages_stream(
        self, messages: Sequence[BaseChatMessage], cancellation_token: CancellationToken
    ) -> AsyncGenerator[Any, None]:
        text = ""
        async for piece in self._client.create_stream([UserMessage(content="x", source="user")]):
            if isinstance(piece, CreateResult):
                break
            text += piece
            yield ModelClientStreamingChunkEvent(content=piece, source=self.name, full_message_id="own")
        yield Response(chat_message=TextMessage(content=text, source=self.name, id="own"))

    async def on_reset(self, cancellation_token: CancellationToken) -> None: ...


async def test_an_agent_that_needs_the_pieces_gets_them() -> None:
    """They are emitted through its own events, and only once."""
    answer, sink = await play([Reply(text=["a", "b", "c"])], lambda client: Assembling("CustomTeam", client))
    assert answer.final_response == "abc"
    assert sink.written("own") == "abc"
    assert [body.message_id for body in sink.bodies(AgentResponse)] == ["own"]
    assert answered(answer).usage == Usage(10, 5)


async def test_a_team_with_its_own_client_is_streamed_and_counted() -> None:
    """There is no tap: its events and its messages' usage give the same result."""
    async with provider([Reply(text=["a", "b"], usage=(4, 2))]) as fake:
        own = connect(ModelSettings(api_key="x", base_url=fake.base_url, model="m"))
        sink = Recorder()

        def make(_: ChatCompletionClient) -> AssistantAgent:
            return AssistantAgent("Solo", own, model_client_stream=True)

        async with orchestrator(fake, make) as team:
            answer = await team.run(task(), sink)
        await own.close()
    (said,) = sink.bodies(AgentResponse)
    assert sink.written(said.message_id) == "ab"
    assert answered(answer).usage == said.usage == Usage(4, 2)


async def test_each_turn_begins_with_a_thought() -> None:
    """Before any model call of that turn."""
    sink = Recorder()
    seen: list[list[str]] = []

    def script(body: Body, number: int) -> Reply:
        seen.append([draft.event_type for draft in sink.drafts])
        return Reply(text=["ok"])

    def make(client: ChatCompletionClient) -> RoundRobinGroupChat:
        agents = [AssistantAgent(name, client, description=f"Is {name}.") for name in "AB"]
        return RoundRobinGroupChat(list(agents), max_turns=2)

    async with provider(script) as fake, orchestrator(fake, make) as team:
        await team.run(task(), sink)
    assert [kinds[-1] for kinds in seen] == ["agent_thinking", "agent_thinking"]
    assert [d.message for d in sink.drafts if d.event_type == "agent_thinking"] == ["Is A.", "Is B."]
