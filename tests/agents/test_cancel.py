"""A cancelled run ends in time and leaves nothing behind at any moment."""

import asyncio
import contextlib
import gc
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import RoundRobinGroupChat, Swarm
from autogen_core import CancellationToken
from autogen_core.models import ChatCompletionClient

from askstream.agents.orchestrator import AutoGenOrchestrator
from askstream.server.events import Draft
from askstream.server.events.errors import RunFailed
from tests.agents.fake_provider import Provider, Reply, provider
from tests.agents.sample_teams import Recorder, answered, orchestrator, task
from tests.timing import GLANCE, MS, PATIENCE

# A run must have ended 5 s after its cancel, and at once if no tool ignores the cancel.
IN_TIME = 5.0
AT_ONCE = 1000 * MS


@dataclass(slots=True)
class Tools:
    """Tools that run longer than the tests wait. Each reacts to a cancel in another way."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    calls: int = 0
    released: threading.Event = field(default_factory=threading.Event)
    saw_token: threading.Event = field(default_factory=threading.Event)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    def _begin(self) -> None:
        self.calls += 1
        self.loop.call_soon_threadsafe(self.begun.set)

    async def waits(self) -> str:
        """Waits as a good tool does."""
        self._begin()
        await asyncio.sleep(60)
        return "waited"

    def sleeps(self) -> str:
        """Blocks its thread."""
        self._begin()
        self.released.wait(60)
        return "slept"

    async def ignores(self) -> str:
        """Doesn't let itself be cancelled for a while."""
        self._begin()
        for _ in range(6):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
        return "ignored"

    def polls(self, cancellation_token: CancellationToken) -> str:
        """Checks the token now and then, in its thread."""
        self._begin()
        while not cancellation_token.is_cancelled():
            time.sleep(GLANCE)
        self.saw_token.set()
        return "polled"

    async def cancels(self) -> str:
        """Raises the error that only its caller may."""
        self._begin()
        raise asyncio.CancelledError


@pytest.fixture
async def tools() -> AsyncGenerator[Tools]:
    made = Tools()
    yield made
    made.released.set()


@dataclass(slots=True)
class Stage:
    team: AutoGenOrchestrator
    fake: Provider
    sink: Recorder

    async def cancel_when(self, ready: Callable[[asyncio.Task[Any]], Any]) -> float:
        """Start a run and cancel it once `ready` has returned. Return how long it took to end."""
        before = asyncio.all_tasks()
        running = asyncio.ensure_future(self.team.run(task(), self.sink))
        await ready(running)
        began = time.monotonic()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        took = time.monotonic() - began
        assert leftovers(before, self.fake) == set()
        return took


def leftovers(before: set[asyncio.Task[Any]], fake: Provider) -> set[asyncio.Task[Any]]:
    """New tasks, except those of the fake provider's own connections."""
    new = asyncio.all_tasks() - before - {asyncio.current_task()}
    return {left for left in new if "provider.<locals>.serve" not in repr(left.get_coro())}


@asynccontextmanager
async def stage(script: list[Reply], make: Callable[[ChatCompletionClient], object]) -> AsyncGenerator[Stage]:
    async with provider(script) as fake, orchestrator(fake, make) as team:
        await team.warm()
        yield Stage(team, fake, Recorder())


def solo(client: ChatCompletionClient) -> AssistantAgent:
    return AssistantAgent("Solo", client)


def with_tool(tool: Callable[..., Any]) -> Callable[[ChatCompletionClient], RoundRobinGroupChat]:
    def make(client: ChatCompletionClient) -> RoundRobinGroupChat:
        agents = [AssistantAgent(name, client, tools=[tool], reflect_on_tool_use=True) for name in ("A", "B")]
        return RoundRobinGroupChat(list(agents), max_turns=4)

    return make


def nested(tool: Callable[..., Any]) -> Callable[[ChatCompletionClient], RoundRobinGroupChat]:
    return lambda client: RoundRobinGroupChat([with_tool(tool)(client)], max_turns=4)


async def test_in_the_middle_of_a_text(tools: Tools) -> None:
    """The run ends at once, and the provider's connection is released."""
    async with stage([Reply(text=["one "] * 200, pause=0.02)], with_tool(tools.waits)) as play:
        took = await play.cancel_when(lambda _: play.sink.until(lambda d: d.event_type == "agent_chunk"))
        await asyncio.wait_for(play.fake.quiet.wait(), 2)
    assert took < AT_ONCE


async def test_between_two_pieces_of_a_text(tools: Tools) -> None:
    """Cancelled while a piece waits for the log: the stream is closed at once, not when it is collected."""
    async with stage([Reply(text=["one "] * 200, pause=0.02)], with_tool(tools.waits)) as play:
        waiting = asyncio.Event()

        async def never(draft: Draft) -> None:
            if draft.event_type == "agent_chunk":
                waiting.set()
                await asyncio.Event().wait()

        play.sink.emit = never
        gc.disable()
        try:
            took = await play.cancel_when(lambda _: waiting.wait())
            await asyncio.wait_for(play.fake.quiet.wait(), 2)
        finally:
            gc.enable()
    assert took < AT_ONCE


async def test_at_any_moment_of_a_text(tools: Tools) -> None:
    """No answer is still being sent, and no connection stays in use, however many runs are cancelled."""
    moments = Random(7)

    def script(body: dict[str, Any], number: int) -> Reply:
        if body["messages"][-1]["role"] != "tool" and number % 2:
            return Reply(calls=[("quick", "{}")])
        return Reply(text=["one "] * 10, pause=0.004)

    async def quick() -> str:
        """Be quick."""
        await asyncio.sleep(50 * MS)
        return "ok"

    async with provider(script) as fake, orchestrator(fake, with_tool(quick)) as team:
        await team.warm()

        async def cancelled() -> None:
            sink = Recorder()
            run = asyncio.ensure_future(team.run(task(), sink))
            await sink.until(lambda draft: draft.event_type == "agent_thinking")
            await asyncio.sleep(moments.uniform(0.0, 500 * MS))
            run.cancel()
            await asyncio.wait({run})

        for _ in range(5):
            await asyncio.gather(*(cancelled() for _ in range(10)))
        assert fake.requests
        await asyncio.wait_for(fake.quiet.wait(), PATIENCE)
        client: Any = await team._client()  # pyright: ignore[reportPrivateUsage]
        pool = client._client._client._transport._pool
        async with asyncio.timeout(PATIENCE):  # a released connection needs a moment to close
            while any(not c.is_idle() and not c.is_closed() for c in pool.connections):  # noqa: ASYNC110
                await asyncio.sleep(GLANCE)


async def test_while_the_provider_hangs(tools: Tools) -> None:
    async with stage([Reply(hang=True)], with_tool(tools.waits)) as play:
        took = await play.cancel_when(lambda _: play.fake.asked.wait())
    assert took < AT_ONCE


@pytest.mark.parametrize("team", [with_tool, nested])
@pytest.mark.parametrize(
    ("name", "limit"), [("waits", AT_ONCE), ("sleeps", AT_ONCE), ("polls", AT_ONCE), ("ignores", IN_TIME)]
)
async def test_inside_a_tool(tools: Tools, team: Callable[[Any], Any], name: str, limit: float) -> None:
    """Each tool ends in time, also one that ignores its cancel, and no model call follows."""
    async with stage([Reply(calls=[(name, "{}")])], team(getattr(tools, name))) as play:
        took = await play.cancel_when(lambda _: tools.begun.wait())
        asked = len(play.fake.requests)
        await asyncio.sleep(100 * MS)
        assert len(play.fake.requests) == asked == 1
    assert took < limit
    assert tools.calls == 1


async def test_a_tool_in_a_thread_learns_of_the_cancel_from_its_token(tools: Tools) -> None:
    """A thread can't be stopped; its token is cancelled."""
    async with stage([Reply(calls=[("polls", "{}")])], with_tool(tools.polls)) as play:
        await play.cancel_when(lambda _: tools.begun.wait())
        assert await asyncio.to_thread(tools.saw_token.wait, 2)


async def test_between_two_turns(tools: Tools) -> None:
    """Cancelled while a turn's state is being saved: the next turn never begins."""
    async with stage([Reply(text=["done"])], with_tool(tools.waits)) as play:
        saving = asyncio.Event()

        async def never(_: bytes) -> None:
            saving.set()
            await asyncio.Event().wait()

        play.sink.checkpoint = never  # type: ignore[method-assign]
        took = await play.cancel_when(lambda _: saving.wait())
        assert len(play.fake.requests) == 1
    assert took < AT_ONCE


async def test_while_the_log_is_slow(tools: Tools) -> None:
    """Cancelled while an event waits for the log."""
    async with stage([Reply(text=["done"])], with_tool(tools.waits)) as play:
        waiting = asyncio.Event()

        async def never(_: Draft) -> None:
            waiting.set()
            await asyncio.Event().wait()

        play.sink.emit = never  # type: ignore[method-assign]
        took = await play.cancel_when(lambda _: waiting.wait())
        assert play.fake.requests == []
    assert took < AT_ONCE


async def test_cancelled_twice(tools: Tools) -> None:
    """A second cancel doesn't cut the first one short."""
    async with stage([Reply(calls=[("ignores", "{}")])], with_tool(tools.ignores)) as play:

        async def twice(running: asyncio.Task[Any]) -> None:
            await tools.begun.wait()
            running.cancel()
            await asyncio.sleep(300 * MS)

        assert await play.cancel_when(twice) < IN_TIME


async def test_before_it_has_begun(tools: Tools) -> None:
    """Cancelled before its first step: the model is not called."""
    async with stage([Reply(text=["done"])], with_tool(tools.waits)) as play:

        async def at_once(_: object) -> None:
            return

        await play.cancel_when(at_once)
        assert play.fake.requests == []


async def test_a_cancelled_run_emits_nothing_more(tools: Tools) -> None:
    async with stage([Reply(calls=[("ignores", "{}")])], with_tool(tools.ignores)) as play:
        await play.cancel_when(lambda _: tools.begun.wait())
        told = len(play.sink.drafts)
        await asyncio.sleep(200 * MS)
        assert len(play.sink.drafts) == told


async def test_a_task_that_ignores_every_cancel_is_abandoned_in_time() -> None:
    """A task that it starts afterwards doesn't take a single step."""
    begun, release, started = asyncio.Event(), asyncio.Event(), asyncio.Event()
    children: list[asyncio.Task[None]] = []

    async def child() -> None:
        started.set()

    async def stubborn() -> str:
        """Ignores every cancel."""
        begun.set()
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()
        children.append(asyncio.ensure_future(child()))
        return "still here"

    async with provider([Reply(calls=[("stubborn", "{}")])]) as fake, orchestrator(fake, with_tool(stubborn)) as team:
        running = asyncio.ensure_future(team.run(task(), Recorder()))
        await begun.wait()
        began = time.monotonic()
        running.cancel()
        await asyncio.wait({running})
        assert time.monotonic() - began < IN_TIME
        release.set()
        await asyncio.sleep(100 * MS)
        assert len(fake.requests) == 1
    assert children[0].cancelled()
    assert not started.is_set()


async def test_other_runs_go_on(tools: Tools) -> None:
    def script(body: dict[str, Any], number: int) -> Reply:
        return Reply(text=["x "] * 30, pause=0.01)

    async with provider(script) as fake, orchestrator(fake, solo) as team:
        sinks = [Recorder() for _ in range(6)]
        runs = [asyncio.ensure_future(team.run(task(run_id=str(i)), sink)) for i, sink in enumerate(sinks)]
        await asyncio.gather(*(sink.until(lambda d: d.event_type == "agent_chunk") for sink in sinks))
        for run in runs[::2]:
            run.cancel()
        ended = await asyncio.gather(*runs, return_exceptions=True)
    assert [isinstance(end, asyncio.CancelledError) for end in ended] == [True, False] * 3
    assert all(end.final_response == "x " * 30 for end in ended[1::2])  # type: ignore[union-attr]


async def test_a_tool_that_raises_cancelled_fails_the_run(tools: Tools) -> None:
    """AutoGen would wait for ever."""
    async with stage([Reply(calls=[("cancels", "{}")])], with_tool(tools.cancels)) as play:
        with pytest.raises(RunFailed) as caught:
            await asyncio.wait_for(play.team.run(task(), play.sink), IN_TIME)
    assert caught.value.code == "team_failed"


@pytest.mark.parametrize("arguments", ["null", "[1]", "", "3"])
async def test_a_handoff_called_with_nonsense_does_not_hang(arguments: str) -> None:
    """Arguments that are no object are ignored, or reported to the model as an error that it can correct."""

    def make(client: ChatCompletionClient) -> Swarm:
        first = AssistantAgent("First", client, handoffs=["Second"])
        return Swarm([first, AssistantAgent("Second", client)], max_turns=2)

    script = [Reply(calls=[("transfer_to_second", arguments)]), Reply(text=["fine"])]
    async with provider(script) as fake, orchestrator(fake, make) as team:
        answer = await asyncio.wait_for(team.run(task(), Recorder()), IN_TIME)
    assert answered(answer).final_response == "fine"


async def test_an_untapped_handoff_called_with_nonsense_fails_the_run() -> None:
    """With a client of its own the arguments aren't corrected: the run fails, and doesn't hang."""
    from askstream.agents.models import ModelSettings, connect

    async with provider([Reply(calls=[("transfer_to_second", "[1]")])]) as fake:
        own = connect(ModelSettings(api_key="x", base_url=fake.base_url, model="m"))

        def make(_: ChatCompletionClient) -> Swarm:
            first = AssistantAgent("First", own, handoffs=["Second"])
            return Swarm([first, AssistantAgent("Second", own)], max_turns=2)

        async with orchestrator(fake, make) as team:
            with pytest.raises(RunFailed) as caught:
                await asyncio.wait_for(team.run(task(), Recorder()), IN_TIME)
        await own.close()
    assert caught.value.code == "team_failed"
