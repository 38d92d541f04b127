"""The real client reads an answer as AutoGen's own does, and releases one that isn't read to its end."""

import asyncio
import json
from typing import Any

import PIL.Image
import pytest
from autogen_core import CancellationToken, FunctionCall, Image
from autogen_core.models import (
    AssistantMessage,
    ChatCompletionClient,
    CreateResult,
    FunctionExecutionResult,
    FunctionExecutionResultMessage,
    SystemMessage,
    UserMessage,
)
from autogen_core.tools import FunctionTool
from autogen_ext.models.openai import OpenAIChatCompletionClient
from openai.types.chat import ChatCompletionChunk

from askstream.agents.models import ModelSettings, connect
from askstream.server.events.errors import RunFailed
from tests.agents.fake_provider import Reply, provider
from tests.timing import PATIENCE

ASKED = [UserMessage(content="x", source="user")]


async def test_a_stream_is_not_a_task_for_each_piece() -> None:
    """A longer answer makes no more tasks: each costs as much as all else, and leaks if cancelled."""
    born: list[int] = []
    loop = asyncio.get_running_loop()

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        born[-1] += "anext" in repr(coro) or "_chunks" in repr(coro) or "_wrap_awaitable" in repr(coro)
        return asyncio.Task(coro, loop=loop, **options)

    async with provider([Reply(text=["one "] * 5), Reply(text=["one "] * 100)]) as fake:
        client = connect(ModelSettings(base_url=fake.base_url, model="m"))
        loop.set_task_factory(factory)
        try:
            for _ in range(2):
                born.append(0)
                assert [piece async for piece in client.create_stream(ASKED)]
        finally:
            loop.set_task_factory(None)
        await client.close()
    assert born[0] == born[1]


async def test_an_abandoned_stream_is_closed() -> None:
    """The connection is released, so the provider may stop sending."""
    async with provider([Reply(text=["one "] * 500, pause=0.01)]) as fake:
        client = connect(ModelSettings(base_url=fake.base_url, model="m"))
        stream = client.create_stream(ASKED)
        assert await anext(stream) == "one "
        await stream.aclose()
        del stream
        await asyncio.wait_for(fake.quiet.wait(), PATIENCE)
        await client.close()


async def test_a_cancelled_token_ends_the_reading() -> None:
    """As in AutoGen's own client."""
    async with provider([Reply(text=["one "] * 500, pause=0.01)]) as fake:
        client = connect(ModelSettings(base_url=fake.base_url, model="m"))
        token, got = CancellationToken(), list[str | CreateResult]()

        async def read() -> None:
            async for piece in client.create_stream(ASKED, cancellation_token=token):
                got.append(piece)
                token.cancel()

        reading = asyncio.ensure_future(read())
        await asyncio.wait({reading}, timeout=PATIENCE)
        assert reading.cancelled()
        await asyncio.wait_for(fake.quiet.wait(), PATIENCE)
        await client.close()
    assert got == ["one "]


def said(*choices: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, **fields}


def delta(finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"index": 0, "delta": fields, "finish_reason": finish, "logprobs": None}


CALL = {"index": 0, "id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
STREAMS = {
    "text": [said(delta(content="a")), said(delta(content="b")), said(delta("stop")), said(usage=USAGE)],
    "a role each time": [said(delta(role="assistant", content=c)) for c in "abc"] + [said(delta("stop"))],
    "thoughts": [
        said(delta(reasoning_content="hm", content=None)),
        said(delta(reasoning_content=" ", content="")),
        said(delta(content="a")),
        said(delta(content="b", reasoning_content=None)),
        said(delta("stop")),
    ],
    "text, then a call": [
        said(delta(content="a")),
        said(delta(content="b")),
        said(delta(tool_calls=[CALL])),
        said(delta("tool_calls")),
        said(usage=USAGE),
    ],
    "nothing between": [said(delta(content="a")), said(), said(delta(content="b")), said(delta("stop"))],
    "not quite as it should be": [
        {"choices": [delta("", role="", content=c)], "model": "m", "created": "now"} for c in "ab"
    ]
    + [said(delta("stop"))],
}


async def read(client: ChatCompletionClient) -> list[Any]:
    """The pieces, and the whole as plain values."""
    pieces: list[Any] = [piece async for piece in client.create_stream(ASKED)]
    await client.close()
    return [*pieces[:-1], pieces[-1].model_dump()]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
async def test_an_answer_is_read_as_autogens_own_client_reads_it(stream: list[dict[str, Any]]) -> None:
    """Other fields beside a piece of text, and other chunks between two of them, change nothing."""
    raw = b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in stream) + b"data: [DONE]\n\n"
    info: Any = {"vision": False, "function_calling": True, "json_output": True, "family": "unknown"}
    info["structured_output"] = False
    async with provider([Reply(raw=raw)]) as fake:
        ours = await read(connect(ModelSettings(base_url=fake.base_url, model="m")))
        own = OpenAIChatCompletionClient(model="m", base_url=fake.base_url, api_key="k", model_info=info)
        assert ours == await read(own)


CONVERSATION = [
    SystemMessage(content="Be brief."),
    UserMessage(content=["What is it?", Image(PIL.Image.new("RGB", (1, 1)))], source="user"),
    AssistantMessage(content=[FunctionCall(id="1", name="look", arguments="{}")], thought="Hm.", source="A"),
    FunctionExecutionResultMessage(
        content=[FunctionExecutionResult(content="a dot", name="look", call_id="1", is_error=False)]
    ),
]
EXTRA = {"temperature": 0.5, "stop": ["x"], "stream_options": {"include_usage": True}, "extra_body": {"top_k": 3}}


async def look(at: str) -> str:
    """Looks."""
    return at


async def test_a_request_is_the_one_that_autogens_own_client_sends() -> None:
    """Pictures, tool calls, results, tools and the provider's own options have the same names."""
    info: Any = {"vision": True, "function_calling": True, "json_output": True, "family": "unknown"}
    info["structured_output"] = False
    async with provider([Reply(text=["a"])]) as fake:
        ours = connect(ModelSettings(base_url=fake.base_url, model="m", info=info, names="none"))
        own = OpenAIChatCompletionClient(
            model="m", base_url=fake.base_url, api_key="k", model_info=info, include_name_in_message=False
        )
        tools = [FunctionTool(look, "Looks.")]
        for client in (ours, own):
            assert [
                piece
                async for piece in client.create_stream(
                    CONVERSATION, tools=tools, tool_choice="required", json_output=True, extra_create_args=EXTRA
                )
            ]
            await client.close()
    first, second = fake.requests
    assert first == second
    assert first["top_k"] == 3
    assert len(first["messages"]) == 4


async def test_valid_chunks_are_not_read_the_slow_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's `construct` costs as much for a piece of text as all the rest."""

    def long_way(**_values: Any) -> ChatCompletionChunk:
        raise AssertionError("the long way")

    monkeypatch.setattr(ChatCompletionChunk, "construct", long_way)
    replies = [Reply(text=["one "] * 9), Reply(calls=[("look", "{}")]), Reply(thoughts=["hm"], text=["a"])]
    async with provider(replies) as fake:
        client = connect(ModelSettings(base_url=fake.base_url, model="m"))
        for _ in replies:
            assert [piece async for piece in client.create_stream(ASKED)]
        await client.close()


async def test_anything_but_a_chunk_is_an_error_of_its_own() -> None:
    """JSON that is no object is the provider's error, not a bug of the team."""
    async with provider([Reply(raw=b"data: 5\n\ndata: [DONE]\n\n")]) as fake:
        client = connect(ModelSettings(base_url=fake.base_url, model="m"))
        with pytest.raises(RunFailed, match="chat completions API"):
            await anext(client.create_stream(ASKED))
        await client.close()
