"""Invalid Unicode from a model, a tool, an agent or a factory ends no run, and is U+FFFD for everybody."""

import logging
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core.models import ChatCompletionClient

from askstream.agents import failures
from askstream.server.events import AgentChunk, Draft, ToolExecution
from askstream.server.events.codec import encode_as
from tests.agents.fake_provider import Reply, provider
from tests.agents.sample_teams import Recorder, agent, answered, orchestrator, task
from tests.server.events.test_codec import MOMENT

HIGH, LOW, FACE = "\ud83d", "\ude00", "\U0001f600"
Make = Callable[[ChatCompletionClient], Any]


def encoded(draft: Draft) -> bytes:
    return encode_as(draft, 1, "r", MOMENT)


async def returns_half() -> str:
    """Returns half a character."""
    return f"a{HIGH}"


async def raises_half() -> str:
    """Fails with half a character."""
    raise ValueError(f"a{HIGH}")


@pytest.mark.parametrize("streams", [False, True])
async def test_an_emoji_in_two_halves_is_whole(streams: bool) -> None:
    """In the pieces, in the answer, and in the team's state."""

    def make(client: ChatCompletionClient) -> RoundRobinGroupChat:
        return RoundRobinGroupChat([agent(client, "A", model_client_stream=streams)], max_turns=2)

    sink = Recorder()
    replies = [Reply(text=["Hi ", HIGH, LOW, "!"]), Reply(text=["x", HIGH])]
    async with provider(replies) as fake, orchestrator(fake, make) as team:
        answer = answered(await team.run(task(), sink))
    assert sink.said() == [("A", f"Hi {FACE}!"), ("A", "x\ufffd")]
    assert answer.final_response == "x\ufffd"
    ids = [draft.body.message_id for draft in sink.drafts if isinstance(draft.body, AgentChunk)]
    assert sink.written(ids[0]) == f"Hi {FACE}!"
    assert sink.written(ids[-1]) == "x\ufffd"
    assert all(orjson.loads(saved)["checkpoint"]["state"] is not None for saved in sink.checkpoints[:-1])
    assert f"Hi {FACE}!" in str(fake.requests[1]["messages"])


@pytest.mark.parametrize("tool", [returns_half, raises_half])
async def test_half_a_character_from_a_tool_is_replaced(tool: Any, caplog: pytest.LogCaptureFixture) -> None:
    """In the log, in the checkpoint, and in what goes to the model."""
    caplog.set_level(logging.CRITICAL, failures.__name__)  # pytest can't send half a character in a report

    def make(client: ChatCompletionClient) -> RoundRobinGroupChat:
        return RoundRobinGroupChat([agent(client, "A", tools=[tool], reflect_on_tool_use=True)], max_turns=2)

    sink = Recorder()
    replies = [Reply(calls=[(tool.__name__, "{}")]), Reply(text=["ok"])]
    async with provider(replies) as fake, orchestrator(fake, make) as team:
        await team.run(task(), sink)
    results = [body.result for body in sink.bodies(ToolExecution) if body.status != "started"]
    assert results == ["a\ufffd"]
    assert fake.requests[1]["messages"][-1]["content"] == "a\ufffd"
    assert b"a\xef\xbf\xbd" in sink.checkpoints[0]
    assert all(b"\\ud83d" not in encoded(draft) for draft in sink.drafts)


async def test_half_a_character_from_a_factory_is_replaced() -> None:
    """In an agent's instructions and its description, and in a tool's description."""

    def make(client: ChatCompletionClient) -> Any:
        from autogen_agentchat.agents import AssistantAgent
        from autogen_core.tools import FunctionTool

        tool = FunctionTool(returns_half, description=f"Looks{HIGH}")
        return AssistantAgent("A", client, tools=[tool], system_message=f"Be{HIGH}", description=f"Is{HIGH}")

    sink = Recorder()
    async with provider([Reply(text=["ok"])]) as fake, orchestrator(fake, make) as team:
        await team.run(task(), sink)
    assert fake.requests[0]["messages"][0]["content"] == "Be\ufffd"
    assert fake.requests[0]["tools"][0]["function"]["description"] == "Looks\ufffd"
    assert "Is\ufffd".encode() in encoded(sink.drafts[0])


async def test_half_a_character_in_a_tools_arguments_is_replaced() -> None:
    """A model wrote it."""

    async def look(at: str) -> str:
        """Looks."""
        return at

    def make(client: ChatCompletionClient) -> Any:
        return agent(client, "A", tools=[look])

    sink = Recorder()
    replies = [Reply(calls=[("look", f'{{"at": "{HIGH}"}}')])]
    async with provider(replies) as fake, orchestrator(fake, make) as team:
        answer = answered(await team.run(task(), sink))
    assert answer.final_response == "\ufffd"
