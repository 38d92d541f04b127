"""SystemExit and its like, raised anywhere in a team, fail a call or a run. The event loop and other runs go on."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import pytest
from autogen_agentchat.agents import BaseChatAgent, SocietyOfMindAgent
from autogen_agentchat.base import Response, TerminationCondition
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.messages import BaseAgentEvent, BaseChatMessage, StopMessage, TextMessage
from autogen_agentchat.teams import RoundRobinGroupChat, SelectorGroupChat
from autogen_core import CancellationToken
from autogen_core.models import ChatCompletionClient

from askstream.server.events import ToolExecution
from askstream.server.events.errors import RunFailed
from tests.agents.fake_provider import Body, Reply, provider
from tests.agents.sample_teams import Recorder, agent, answered, orchestrator, task
from tests.timing import PATIENCE


class Odd(BaseException):
    """Neither an Exception nor one of Python's own."""


EXITS = (SystemExit, KeyboardInterrupt, GeneratorExit, Odd)
exits = pytest.mark.parametrize("kind", EXITS)


def calls_a_tool(body: Body, _: int) -> Reply:
    if body["messages"][-1]["role"] == "tool":
        return Reply(text=["after ", str(body["messages"][-1]["content"])])
    return Reply(calls=[("leave", "{}")])


async def failure(make: Callable[..., Any], **options: Any) -> RunFailed:
    """The failure of a run of the team that `make` makes."""
    async with provider([Reply(text=["hm"])]) as fake, orchestrator(fake, make, **options) as team:
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(RunFailed) as caught:
                await team.run(task(), Recorder())
    return caught.value


@exits
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_tool_that_exits_fails_its_call(kind: type[BaseException], is_async: bool) -> None:
    """Whether it runs in a thread or on the loop. The model gets the error, and the run goes on."""

    def leave() -> str:
        """Leave."""
        raise kind("2")

    async def leave_later() -> str:
        """Leave."""
        raise kind("2")

    leave_later.__name__ = "leave"

    def make(model_client: ChatCompletionClient) -> Any:
        tool = leave_later if is_async else leave
        return RoundRobinGroupChat([agent(model_client, "A", tools=[tool], reflect_on_tool_use=True)], max_turns=1)

    sink = Recorder()
    async with provider(calls_a_tool) as fake, orchestrator(fake, make) as team:
        async with asyncio.timeout(PATIENCE):
            answer = answered(await team.run(task(), sink))
    assert answer.final_response == f"after {kind.__name__}: 2"
    assert [body.status for body in sink.bodies(ToolExecution)] == ["started", "failed"]


class Leaver(BaseChatAgent):
    """Raises in its turn, or in a task of its own."""

    def __init__(self, name: str, kind: type[BaseException], *, in_task: bool = False) -> None:
        super().__init__(name, "Leaves.")
        self._kind, self._in_task = kind, in_task

    @property
    def produced_message_types(self) -> Sequence[type[BaseChatMessage]]:
        return (TextMessage,)

    async def on_messages(self, messages: Sequence[BaseChatMessage], cancellation_token: CancellationToken) -> Response:
        if self._in_task:
            await asyncio.gather(self._leave(), asyncio.sleep(0))
        await self._leave()
        return Response(chat_message=TextMessage(source=self.name, content="never"))

    async def _leave(self) -> None:
        raise self._kind("now")

    async def on_reset(self, cancellation_token: CancellationToken) -> None: ...


@exits
@pytest.mark.parametrize("in_task", [False, True])
async def test_an_agent_that_exits_fails_its_run(kind: type[BaseException], in_task: bool) -> None:
    def make(_: ChatCompletionClient) -> Any:
        return RoundRobinGroupChat([Leaver("A", kind, in_task=in_task)], max_turns=1)

    assert (await failure(make)).code == "team_failed"


@exits
async def test_an_agent_of_an_inner_team_that_exits_fails_its_run(kind: type[BaseException]) -> None:
    """In a nested team, and in a society of mind, whose agents the server doesn't see."""

    def nested(_: ChatCompletionClient) -> Any:
        return RoundRobinGroupChat([RoundRobinGroupChat([Leaver("A", kind)], max_turns=1)], max_turns=1)

    def society(model_client: ChatCompletionClient) -> Any:
        inner = RoundRobinGroupChat([Leaver("A", kind)], max_turns=1)
        return RoundRobinGroupChat([SocietyOfMindAgent("S", inner, model_client)], max_turns=1)

    assert [(await failure(make)).code for make in (nested, society)] == ["team_failed", "team_failed"]


class Leaving(TerminationCondition):
    """Raises after an agent's turn."""

    def __init__(self, kind: type[BaseException]) -> None:
        self._kind = kind

    @property
    def terminated(self) -> bool:
        return False

    async def __call__(self, messages: Sequence[BaseAgentEvent | BaseChatMessage]) -> StopMessage | None:
        if messages[-1].source != "user":
            raise self._kind("now")
        return None

    async def reset(self) -> None: ...


@exits
@pytest.mark.parametrize("nested", [False, True])
async def test_a_condition_that_exits_fails_its_run(kind: type[BaseException], nested: bool) -> None:
    """The server calls the team's own between two turns, and AutoGen that of a team in it, while others wait."""

    def make(model_client: ChatCompletionClient) -> Any:
        members: list[Any] = [agent(model_client, "A"), agent(model_client, "B")]
        team = RoundRobinGroupChat(members, termination_condition=Leaving(kind))
        return RoundRobinGroupChat([team], max_turns=1) if nested else team

    assert (await failure(make)).code == "team_failed"


@exits
async def test_a_selector_that_exits_fails_its_run(kind: type[BaseException]) -> None:
    def select(_messages: object) -> str:
        raise kind("now")

    def make(model_client: ChatCompletionClient) -> Any:
        members: list[Any] = [agent(model_client, "A"), agent(model_client, "B")]
        return SelectorGroupChat(
            members, model_client, selector_func=select, termination_condition=MaxMessageTermination(3)
        )

    assert (await failure(make)).code == "team_failed"


@exits
async def test_a_model_client_that_exits_fails_its_run(kind: type[BaseException]) -> None:
    """In a call, and when it is made."""

    def make(model_client: Any) -> Any:
        async def create_stream(*_: Any, **__: Any) -> AsyncGenerator[Any, None]:
            raise kind("now")
            yield

        model_client._client.create_stream = create_stream
        return RoundRobinGroupChat([agent(model_client, "A")], max_turns=1)

    assert (await failure(make)).code == "team_failed"


@exits
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_factory_that_exits_makes_its_team_unavailable(kind: type[BaseException], is_async: bool) -> None:
    def make(_: ChatCompletionClient) -> Any:
        raise kind("now")

    async def make_later(_: ChatCompletionClient) -> Any:
        raise kind("now")

    failed = await failure(make_later if is_async else make)
    assert failed.code == ("team_failed" if kind is GeneratorExit else "team_unavailable")


@exits
async def test_a_task_that_outlives_its_parent_and_exits_hurts_nobody(kind: type[BaseException]) -> None:
    """Nobody awaits it. The run beside it goes on."""

    async def leave() -> None:
        raise kind("now")

    class Spawner(Leaver):
        async def on_messages(
            self, messages: Sequence[BaseChatMessage], cancellation_token: CancellationToken
        ) -> Response:
            kept.append(asyncio.ensure_future(leave()))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return Response(chat_message=TextMessage(source=self.name, content="here"))

    kept: list[Any] = []

    def make(_: ChatCompletionClient) -> Any:
        return RoundRobinGroupChat([Spawner("A", kind)], max_turns=1)

    async with provider([Reply(text=["hm"])]) as fake, orchestrator(fake, make) as team:
        assert answered(await team.run(task(), Recorder())).final_response == "here"
