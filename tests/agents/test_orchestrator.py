"""The orchestrator makes its one client early, and once."""

import asyncio
from functools import partial
from typing import Any, cast

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core.models import ChatCompletionClient
from autogen_ext.models.replay import ReplayChatCompletionClient

from askstream.agents.factory import CustomTeam
from askstream.agents.orchestrator import AutoGenOrchestrator
from askstream.agents.team_factory import TeamFactory
from askstream.server.events import AgentThinking, Draft
from askstream.server.runs.orchestrator import Answer
from tests.agents.sample_teams import Recorder, factory, task


class Clients:
    """A `ClientSource` that fails the first `failures` times."""

    def __init__(self, failures: int = 0) -> None:
        self.asked, self._failures = 0, failures

    def __call__(self) -> ChatCompletionClient:
        self.asked += 1
        if self.asked <= self._failures:
            raise OSError("no disk")
        return ReplayChatCompletionClient(["42"] * 9)


def orchestrator(clients: Clients) -> AutoGenOrchestrator:
    def make(client: ChatCompletionClient) -> object:
        return AssistantAgent("A", client)

    return AutoGenOrchestrator(model="m", client=clients, source=CustomTeam(factory(make)))


async def test_runs_that_start_during_the_warm_up_wait_for_it() -> None:
    """One client is made for all of them, also if one is cancelled."""
    clients = Clients()
    one = orchestrator(clients)
    warming = asyncio.ensure_future(one.warm())
    asked = [asyncio.ensure_future(one.run(task(), Recorder())) for _ in range(3)]
    await asyncio.sleep(0)
    asked[0].cancel()
    await asyncio.wait({warming, *asked})
    assert asked[0].cancelled()
    assert [cast(Answer, each.result()).final_response for each in asked[1:]] == ["42", "42"]
    assert clients.asked == 1
    await one.close()


async def test_a_failed_warm_up_is_tried_again() -> None:
    """The cause may be temporary."""
    clients = Clients(failures=1)
    one = orchestrator(clients)
    with pytest.raises(OSError, match="no disk"):
        await one.warm()
    assert cast(Answer, await one.run(task(), Recorder())).final_response == "42"
    assert clients.asked == 2
    await one.close()


class Diary(Recorder):
    """A sink that notes when the first agent's turn begins."""

    def __init__(self, notes: list[str]) -> None:
        super().__init__()
        self._notes = notes

    async def emit(self, draft: Draft) -> None:
        if isinstance(draft.body, AgentThinking):
            self._notes.append("begun")
        await super().emit(draft)


def noted(notes: list[str], client: ChatCompletionClient) -> RoundRobinGroupChat:
    """A team that notes when it is set up to run."""
    team = RoundRobinGroupChat([AssistantAgent("A", client)], max_turns=1)
    run_stream = team.run_stream

    def noting(**options: Any) -> object:
        notes.append("set up")
        return run_stream(**options)

    cast(Any, team).run_stream = noting
    return team


async def test_runs_that_start_together_are_set_up_one_at_a_time() -> None:
    """Otherwise the first run's events would wait for all set-ups. Each set-up lasts as many loop iterations as AutoGen
    needs until an agent's turn begins. The factory itself works in threads."""
    notes: list[str] = []
    source = CustomTeam(factory(partial(noted, notes)))
    one = AutoGenOrchestrator(model="m", client=Clients(), source=source)
    await asyncio.gather(*(one.run(task(), Diary(notes)) for _ in range(5)))
    assert notes == ["set up", "begun"] * 5
    await one.close()


async def test_a_run_that_waits_for_its_set_up_can_be_cancelled() -> None:
    notes: list[str] = []
    made = asyncio.Event()

    async def make(model_client: ChatCompletionClient) -> object:
        made.set()
        return noted(notes, model_client)

    one = AutoGenOrchestrator(model="m", client=Clients(), source=CustomTeam(TeamFactory("tests:make", make)))
    await one.warm()
    first, second, third = [asyncio.ensure_future(one.run(task(), Recorder())) for _ in range(3)]
    await made.wait()
    second.cancel()
    await asyncio.wait({first, second, third})
    assert second.cancelled()
    assert cast(Answer, third.result()).final_response == "42"
    assert notes == ["set up"] * 2
    await one.close()
