"""A factory is called for each run, off the loop unless it is async, and what it opens is closed with the run."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NoReturn

import anyio
import pytest
from autogen_agentchat.agents import AssistantAgent, UserProxyAgent
from autogen_agentchat.base import Team
from autogen_agentchat.teams import BaseGroupChat, RoundRobinGroupChat
from autogen_core.models import ChatCompletionClient

from askstream.agents import resources
from askstream.agents.team_factory import TeamFactory
from askstream.server.events.errors import RunFailed
from askstream.server.runs.orchestrator import Inquiry
from tests.agents.fake_provider import Reply, provider
from tests.agents.sample_teams import Recorder, agent, answered, orchestrator, task
from tests.agents.test_arguments import CLIENT, VALUES
from tests.timing import MS

OK = [Reply(text=["ok"])]


def team() -> BaseGroupChat:
    return RoundRobinGroupChat([AssistantAgent("A", CLIENT)], max_turns=1)


async def opened(make: Callable[..., Any]) -> Team:
    async with TeamFactory("tests:make", make).team(VALUES) as found:
        return found


class Notes(list[str]):
    """The resources of runs, in each way in which a factory may own them, as they are opened and closed."""

    def generator(self) -> AsyncGenerator[Team]:
        async def make() -> AsyncGenerator[Team]:
            self.append("open")
            try:
                yield team()
            finally:
                await asyncio.sleep(0)
                self.append("closed")

        return make()

    @asynccontextmanager
    async def manager(self) -> AsyncGenerator[Team]:
        async for each in self.generator():
            yield each

    def sync_generator(self) -> Generator[Team]:
        self.append("open")
        try:
            yield team()
        finally:
            self.append("closed")

    @contextmanager
    def sync_manager(self) -> Generator[Team]:
        yield from self.sync_generator()

    async def coroutine(self) -> Any:
        return self.manager()

    def task_group(self) -> AsyncGenerator[Team]:
        """Resources like an MCP session's: a task group that only the task that opened it may close."""

        async def make() -> AsyncGenerator[Team]:
            self.append("open")
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(anyio.sleep_forever)
                    yield team()
                    group.cancel_scope.cancel()
            finally:
                self.append("closed")

        return make()


OWNERS = ["generator", "manager", "sync_generator", "sync_manager", "coroutine", "task_group"]


@pytest.mark.parametrize("owner", OWNERS)
async def test_resources_are_closed_with_the_run(owner: str) -> None:
    notes = Notes()
    async with TeamFactory("tests:make", getattr(notes, owner)).team(VALUES) as found:
        assert isinstance(found, Team)
        assert notes == ["open"]
    assert notes == ["open", "closed"]


@pytest.mark.parametrize("owner", OWNERS)
async def test_a_cancelled_run_closes_its_resources(owner: str) -> None:
    """Its cancel, repeated as a run's is, doesn't interrupt the clean-up."""
    notes = Notes()

    begun = asyncio.Event()
    factory = TeamFactory("tests:make", getattr(notes, owner))

    async def run() -> None:
        async with factory.team(VALUES):
            begun.set()
            await asyncio.Event().wait()

    running = asyncio.ensure_future(run())
    await begun.wait()
    while not running.done():
        running.cancel()
        await asyncio.sleep(0)
    await factory.close()
    assert running.cancelled()
    assert notes == ["open", "closed"]


def fails() -> NoReturn:
    raise LookupError("secret")


def ends() -> NoReturn:
    raise SystemExit(3)


def interrupts() -> NoReturn:
    raise KeyboardInterrupt


async def later() -> NoReturn:
    raise SystemExit(3)


async def cancels() -> NoReturn:
    raise asyncio.CancelledError


async def at_opening() -> AsyncGenerator[Any]:
    raise SystemExit(3)
    yield


async def yields_nothing() -> AsyncGenerator[Any]:
    return
    yield


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (fails, "LookupError"),
        (ends, "SystemExit"),
        (interrupts, "KeyboardInterrupt"),
        (later, "SystemExit"),
        (cancels, "CancelledError"),
        (at_opening, "SystemExit"),
        (yields_nothing, "RuntimeError"),
    ],
)
async def test_whatever_a_factory_raises_ends_only_its_run(make: Callable[..., Any], kind: str) -> None:
    with pytest.raises(RunFailed, match=f"its factory raised {kind};") as caught:
        await opened(make)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("problem", [ValueError("no"), SystemExit(3), asyncio.CancelledError()])
async def test_a_failed_clean_up_replaces_no_result(problem: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """Neither an answer nor an error of the run; the log names it."""

    async def make() -> AsyncGenerator[Team]:
        yield team()
        raise problem

    factory = TeamFactory("tests:make", make)
    async with factory.team(VALUES):
        pass
    with pytest.raises(KeyError):
        async with factory.team(VALUES):
            raise KeyError
    assert caplog.text.count(f"the resources of tests:make: {type(problem).__name__} at {__file__}") == 2


async def test_a_slow_clean_up_does_not_hold_up_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on by itself, and `close` waits for it."""
    monkeypatch.setattr(resources, "WAIT_SECONDS", 5 * MS)
    may_end, ended = asyncio.Event(), list[str]()

    async def make() -> AsyncGenerator[Team]:
        yield team()
        await may_end.wait()
        ended.append("closed")

    factory = TeamFactory("tests:make", make)
    async with factory.team(VALUES):
        pass
    assert ended == []
    may_end.set()
    await factory.close()
    assert ended == ["closed"]


async def test_a_clean_up_without_an_end_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "WAIT_SECONDS", MS)
    monkeypatch.setattr(resources, "CLOSE_SECONDS", 5 * MS)

    notes: list[str] = []

    async def make() -> AsyncGenerator[Team]:
        yield team()
        try:
            await asyncio.Event().wait()
        finally:
            notes.append("cancelled")

    factory = TeamFactory("tests:make", make)
    async with factory.team(VALUES):
        pass
    await factory.close()
    await asyncio.sleep(5 * MS)
    assert notes == ["cancelled"]


async def test_a_blocking_factory_does_not_hold_up_the_loop() -> None:
    """It waits in its thread for what only the loop can do."""
    free = threading.Event()

    def make() -> Team:
        assert free.wait(10)
        return team()

    making = asyncio.ensure_future(opened(make))
    await asyncio.sleep(0)
    free.set()
    assert isinstance(await making, Team)


@pytest.mark.parametrize("needs", [asyncio.get_running_loop, asyncio.get_event_loop])
async def test_a_factory_that_needs_the_loop_is_called_there(needs: Callable[[], object]) -> None:
    """Such as one that makes an HTTP client that asks for the running loop."""
    calls: list[bool] = []

    def make() -> Team:
        calls.append(threading.current_thread() is threading.main_thread())
        needs()
        return team()

    factory = TeamFactory("tests:make", make)
    for _ in range(2):
        async with factory.team(VALUES) as found:
            assert isinstance(found, Team)
    assert calls == [False, True, True]


async def test_a_run_that_is_cancelled_while_it_opens_resources_closes_them() -> None:
    """At once, without the time for a slow clean-up."""
    notes: list[str] = []
    began = asyncio.Event()

    async def make() -> AsyncGenerator[Team]:
        try:
            began.set()
            await asyncio.Event().wait()
            yield team()
        except asyncio.CancelledError:
            notes.append("closed")
            raise

    factory = TeamFactory("tests:make", make)
    opening = asyncio.ensure_future(factory.team(VALUES).__aenter__())
    await began.wait()
    opening.cancel()
    await asyncio.wait({opening})
    assert opening.cancelled()
    assert notes == ["closed"]


async def test_a_run_that_is_cancelled_does_not_wait_for_its_factory() -> None:
    loop, began, free = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def make() -> Team:
        loop.call_soon_threadsafe(began.set)
        assert free.wait(60)
        return team()

    making = asyncio.ensure_future(opened(make))
    await began.wait()
    making.cancel()
    done, _ = await asyncio.wait({making}, timeout=30)
    free.set()
    assert making in done
    assert making.cancelled()


async def test_a_run_uses_and_closes_what_its_factory_opened() -> None:
    """Through the whole orchestrator, with the server's model."""
    notes: list[str] = []

    async def make(client: ChatCompletionClient) -> AsyncGenerator[Team]:
        notes.append("open")
        yield RoundRobinGroupChat([agent(client, "A")], max_turns=1)
        notes.append("closed")

    async with provider(OK) as fake, orchestrator(fake, make) as served:
        for number in range(2):
            answer = answered(await served.run(task(run_id=f"r{number}"), Recorder()))
            assert answer.final_response == "ok"
    assert notes == ["open", "closed"] * 2


async def test_the_input_function_asks_the_person_who_asked() -> None:
    """As in AutoGen's own samples of web servers: the run waits for an answer."""
    async with provider(OK) as fake:

        def make(client: ChatCompletionClient) -> Team:
            return RoundRobinGroupChat([UserProxyAgent("U", input_func=VALUES.input_func), agent(client, "A")])

        async with orchestrator(fake, make) as served:
            outcome = await served.run(task(), Recorder())
    assert isinstance(outcome, Inquiry)
    assert outcome.agent_name == "U"
