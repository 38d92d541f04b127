"""A model call that is silent for too long ends, and says whether it was queued, was read, or hung."""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import partial

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_core.models import UserMessage
from pydantic import BaseModel

from askstream.agents.models import ModelSettings, connect
from askstream.agents.provider import AzureClient, OpenAIClient
from askstream.agents.silence import LONG_PROMPT, LastHeard, SilenceLimits, SilenceWatch
from askstream.server.events.errors import RunFailed
from tests.agents.fake_provider import Body, Provider, Reply, provider
from tests.agents.sample_teams import Recorder, orchestrator, task
from tests.timing import FACTOR, PATIENCE

SHORT = [UserMessage(content="Why?", source="user")]
LONG = [UserMessage(content="Why? " * LONG_PROMPT, source="user")]


@asynccontextmanager
async def connected(fake: Provider, *, first: float, later: float) -> AsyncGenerator[OpenAIClient | AzureClient]:
    settings = ModelSettings(
        base_url=fake.base_url,
        model="m",
        first_token_seconds=first,
        token_silence_seconds=later,
        info={"structured_output": True},
    )
    client = connect(settings)
    try:
        yield client
    finally:
        await client.close()


async def read(client: OpenAIClient | AzureClient, messages: list[UserMessage] = SHORT) -> str:
    return "".join([piece async for piece in client.create_stream(messages) if isinstance(piece, str)])


async def failure(client: OpenAIClient | AzureClient, messages: list[UserMessage] = SHORT) -> str:
    with pytest.raises(RunFailed) as caught:
        await asyncio.wait_for(read(client, messages), PATIENCE)
    assert caught.value.code == "model_unavailable"
    return str(caught.value)


@pytest.mark.parametrize(
    ("messages", "sentence"),
    [(SHORT, "though its prompt is short: its server hangs"), (LONG, "about 10,0.. tokens, and it was probably still")],
    ids=["short", "long"],
)
async def test_a_model_that_does_not_begin(messages: list[UserMessage], sentence: str) -> None:
    """Whether the prompt is long makes the difference between reading and hanging."""
    never = asyncio.Event()
    async with provider([Reply(mute=never)]) as fake, connected(fake, first=0.1, later=9) as client:
        said = await failure(client, messages)
    assert re.search(sentence, said)
    assert "ASKSTREAM_FIRST_TOKEN_SECONDS" in said


async def test_a_call_behind_others_was_queued() -> None:
    """Meanwhile the model answered another call."""
    never = asyncio.Event()

    def script(_body: Body, number: int) -> Reply:
        return Reply(mute=never) if number == 0 else Reply(text=["word "] * 100, pause=0.01)

    async with provider(script) as fake, connected(fake, first=0.3, later=9) as client:
        waiting = asyncio.ensure_future(failure(client))
        await asyncio.wait_for(fake.asked.wait(), PATIENCE)
        other = asyncio.ensure_future(read(client))
        assert "waited in its queue" in await waiting
        assert await other == "word " * 100


async def test_a_model_that_stops_midway_hangs() -> None:
    """After the first token the other limit holds, though the first one is longer."""
    async with provider([Reply(text=["half"], hang=True)]) as fake, connected(fake, first=60, later=0.1) as client:
        began = time.monotonic()
        said = await failure(client)
    assert "began to answer, then sent nothing" in said
    assert "ASKSTREAM_TOKEN_SILENCE_SECONDS" in said
    assert time.monotonic() - began < 30


class Answer(BaseModel):
    good: bool


async def test_a_structured_answer_is_watched_too() -> None:
    """It comes through the client's other streaming method."""
    never = asyncio.Event()
    async with provider([Reply(mute=never)]) as fake, connected(fake, first=0.1, later=9) as client:
        with pytest.raises(RunFailed, match="its server hangs"):
            await asyncio.wait_for(anext(client.create_stream(SHORT, json_output=Answer)), PATIENCE)


async def test_tokens_without_text_are_signs_of_life() -> None:
    """A long call of a tool sends no text for a while, and thoughts are none either."""
    many = Reply(calls=[(f"t{i}", "{}") for i in range(20)], pause=0.03)
    async with provider([many]) as fake, connected(fake, first=9, later=0.3 * FACTOR) as client:
        assert await asyncio.wait_for(read(client), PATIENCE) == ""


async def test_a_slow_reader_is_not_blamed_on_the_model() -> None:
    """Viewers or a disk may hold up the reading."""
    async with provider([Reply(text=["a", "b"])]) as fake, connected(fake, first=9, later=0.05) as client:
        stream = client.create_stream(SHORT)
        assert await anext(stream) == "a"
        await asyncio.sleep(0.2)
        assert await anext(stream) == "b"
        await stream.aclose()


async def test_a_cancel_stays_a_cancel() -> None:
    """Also while the call is silent, and its task can go on afterwards."""
    never = asyncio.Event()
    async with provider([Reply(mute=never)]) as fake, connected(fake, first=60, later=60) as client:
        reading = asyncio.ensure_future(read(client))
        await asyncio.wait_for(fake.asked.wait(), PATIENCE)
        reading.cancel()
        await asyncio.wait({reading}, timeout=PATIENCE)
        assert reading.cancelled()


async def test_the_task_of_a_silent_call_is_not_left_cancelled() -> None:
    """The code that catches the error goes on in the same task."""
    never = asyncio.Event()
    async with provider([Reply(mute=never)]) as fake, connected(fake, first=0.1, later=9) as client:
        await failure(client)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0)


async def test_a_cancel_at_the_same_moment_wins() -> None:
    """A run that was stopped must not go on with an error of its model."""

    async def read_and_stop() -> None:
        with SilenceWatch(SilenceLimits(first_token=0.01, later=9), LastHeard(), ()):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                raise

    reading = asyncio.ensure_future(read_and_stop())
    await asyncio.wait({reading}, timeout=PATIENCE)
    assert reading.cancelled()


class Watching(Recorder):
    """A sink that counts the calls in progress."""

    calls = 0

    @contextmanager
    def watched(self) -> Generator[None]:
        self.calls += 1
        try:
            yield
        finally:
            self.calls -= 1


async def test_the_runs_own_limit_on_silence_waits_for_the_models() -> None:
    """Otherwise a model that may take long to begin would be stopped by the shorter of the two."""
    sink, seen = Watching(), list[int]()

    def script(_body: Body, _number: int) -> Reply:
        seen.append(sink.calls)
        return Reply(text=["ok"])

    async with provider(script) as fake, orchestrator(fake, partial(AssistantAgent, "Solo")) as team:
        await team.run(task(), sink)
    assert (seen, sink.calls) == ([1], 0)
