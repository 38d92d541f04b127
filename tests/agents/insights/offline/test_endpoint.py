"""The analyst over HTTP, asked by the real OpenAI client: streaming, tool calls, usage, and refusals."""

import asyncio
import logging
import signal
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from askstream.agents.insights.offline import MODEL, Endpoint, serve
from askstream.agents.insights.offline.completions import chunks_of

TOOLS: Any = [{"type": "function", "function": {"name": "describe_schema", "parameters": {"type": "object"}}}]
PLANNER: Any = [
    {"role": "system", "content": "You are PlanningAgent, and so on."},
    {"role": "user", "content": "What was revenue in March 2026?", "name": "user"},
]
STRANGER: Any = [{"role": "user", "content": "Write a poem."}]


@pytest.fixture
async def endpoint() -> AsyncGenerator[Endpoint]:
    async with serve() as opened:
        yield opened


@pytest.fixture
async def client(endpoint: Endpoint) -> AsyncGenerator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=endpoint.base_url, api_key=endpoint.api_key, max_retries=0) as opened:
        yield opened


async def test_it_answers_in_words_without_usage(client: openai.AsyncOpenAI) -> None:
    """The plain form. Rules read no tokens, so there are none to count."""
    answer = await client.chat.completions.create(model=MODEL, messages=STRANGER)
    content = answer.choices[0].message.content
    assert content is not None
    assert "rules, not a language model" in content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is None
    assert answer.model == MODEL


async def test_it_calls_tools(client: openai.AsyncOpenAI) -> None:
    """A call with the thought behind it; its result leads on to the plan."""
    answer = await client.chat.completions.create(model=MODEL, messages=PLANNER, tools=TOOLS)
    (call,) = answer.choices[0].message.tool_calls or []
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.content
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("describe_schema", "{}")
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"tables": []}'}
    messages: Any = [*PLANNER, answer.choices[0].message.model_dump(exclude_none=True), result]
    then = await client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS)
    assert "This isn't the bundled sales warehouse" in (then.choices[0].message.content or "")


async def test_streamed_it_is_the_same(client: openai.AsyncOpenAI) -> None:
    """Deltas joined give the whole; several of them, cut where words end."""
    whole = await client.chat.completions.create(model=MODEL, messages=STRANGER)
    stream = await client.chat.completions.create(
        model=MODEL, messages=STRANGER, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    deltas = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(deltas) == whole.choices[0].message.content
    assert sum(map(bool, deltas)) > 3
    assert all(delta[-1].isspace() for delta in deltas[1:-2])
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)


async def test_streamed_tool_calls_can_be_put_together(client: openai.AsyncOpenAI) -> None:
    """The client's own accumulation gives what the plain form gives."""
    whole = await client.chat.completions.create(model=MODEL, messages=PLANNER, tools=TOOLS)
    async with client.chat.completions.stream(model=MODEL, messages=PLANNER, tools=TOOLS) as stream:
        streamed = (await stream.get_final_completion()).choices[0]
    plain = whole.choices[0].message.tool_calls or []
    built = streamed.message.tool_calls or []
    assert [(call.id, call.function.name) for call in built] == [
        (call.id, call.function.name) for call in plain if call.type == "function"
    ]
    assert streamed.finish_reason == "tool_calls"


async def test_its_model_is_listed(client: openai.AsyncOpenAI) -> None:
    """Under the name that says what it is."""
    assert [model.id for model in (await client.models.list()).data] == ["offline-analyst (rules, no LLM)"]


async def test_without_the_key_nothing_is_answered(endpoint: Endpoint) -> None:
    """Other users of the machine can't ask."""
    async with openai.AsyncOpenAI(base_url=endpoint.base_url, api_key="wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()
        with pytest.raises(openai.AuthenticationError):
            await client.chat.completions.create(model=MODEL, messages=STRANGER)


BAD = (b"", b"{", b"[]", b"null", b"{}", b'{"messages": 1}', b'{"messages": [1]}', b'{"messages": "x"}')


@pytest.mark.parametrize("body", BAD)
async def test_a_bad_body_is_refused(endpoint: Endpoint, body: bytes) -> None:
    """With a status and a code, as OpenAI does it."""
    async with httpx2.AsyncClient() as client:
        answer = await client.post(
            f"{endpoint.base_url}/chat/completions",
            content=body,
            headers={"authorization": f"Bearer {endpoint.api_key}"},
        )
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] in ("invalid_json", "invalid_request")


@pytest.mark.parametrize("tools", [None, 1, "x", [1], [{"function": 3}], [{"function": {"name": None}}]])
async def test_odd_tools_and_options_do_no_harm(endpoint: Endpoint, tools: object) -> None:
    """They are passed over."""
    async with httpx2.AsyncClient() as client:
        answer = await client.post(
            f"{endpoint.base_url}/chat/completions",
            json={"messages": PLANNER, "tools": tools, "stream_options": None},
            headers={"authorization": f"Bearer {endpoint.api_key}"},
        )
    assert answer.status_code == 200


async def test_a_body_over_the_limit_is_refused(endpoint: Endpoint) -> None:
    """Its length is bounded."""
    async with httpx2.AsyncClient() as client:
        answer = await client.post(
            f"{endpoint.base_url}/chat/completions",
            content=b"x" * (4 * 1024 * 1024 + 1),
            headers={"authorization": f"Bearer {endpoint.api_key}"},
        )
    assert answer.status_code == 413


async def test_it_listens_on_the_loopback_alone_with_a_key_of_its_own(endpoint: Endpoint) -> None:
    """Two endpoints share neither port nor key."""
    async with serve() as other:
        assert endpoint.base_url.startswith("http://127.0.0.1:")
        assert other.base_url != endpoint.base_url
        assert other.api_key != endpoint.api_key
        assert len(other.api_key) >= 32


async def test_it_is_a_guest_in_its_process() -> None:
    """Signals and logging stay as the host has them."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    logs = [(name, logging.getLogger(name).level, list(logging.getLogger(name).handlers)) for name in ("", "uvicorn")]
    async with serve():
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
        assert logs == [
            (name, logging.getLogger(name).level, list(logging.getLogger(name).handlers)) for name in ("", "uvicorn")
        ]


async def test_closed_it_leaves_nothing_behind() -> None:
    """Neither tasks nor an open port, also when the context ends by an error or with a client connected."""
    before = len(asyncio.all_tasks())
    clients: list[openai.AsyncOpenAI] = []

    async def broken() -> None:
        async with serve() as endpoint:
            clients.append(openai.AsyncOpenAI(base_url=endpoint.base_url, api_key=endpoint.api_key, max_retries=0))
            await clients[0].models.list()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await broken()
    assert len(asyncio.all_tasks()) == before
    with pytest.raises(openai.APIConnectionError):
        await clients[0].models.list()
    await clients[0].close()


async def test_many_ask_at_once(client: openai.AsyncOpenAI) -> None:
    """Each gets its own answer."""
    months = ["January", "February", "March", "April"] * 10

    async def asked(month: str) -> str:
        question: Any = [PLANNER[0], {"role": "user", "content": f"revenue in {month}"}]
        answer = await client.chat.completions.create(model=MODEL, messages=question)
        return answer.choices[0].message.content or ""

    answers = await asyncio.gather(*map(asked, months))
    assert len(answers) == len(months)
    assert all(answers)


@given(st.text())
def test_chunks_join_to_the_text(text: str) -> None:
    """Nothing is lost, nothing added, no chunk is empty."""
    pieces = list(chunks_of(text))
    assert "".join(pieces) == text
    assert all(pieces)


async def test_its_start_and_end_are_not_in_a_hosts_log(caplog: pytest.LogCaptureFixture) -> None:
    """A host's uvicorn logs its own; while the endpoint is open that logger works, and is left as it was."""
    logger = logging.getLogger("uvicorn.error")
    filters = list(logger.filters)
    with caplog.at_level("INFO", logger="uvicorn.error"):
        async with serve():
            logger.info("the host's own")
    assert [record.getMessage() for record in caplog.records if record.name == "uvicorn.error"] == ["the host's own"]
    assert logger.filters == filters
