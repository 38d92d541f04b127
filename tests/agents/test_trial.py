"""A team whose second run would fail is refused when the server starts."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent, SocietyOfMindAgent
from autogen_agentchat.base import Team
from autogen_agentchat.conditions import ExternalTermination, MaxMessageTermination, TextMentionTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_agentchat.tools import AgentTool
from autogen_core.model_context import UnboundedChatCompletionContext

from askstream.agents import trial
from askstream.agents.factory import open_orchestrator
from askstream.agents.models import ModelSettings
from askstream.agents.team_factory import TeamFactory
from askstream.server.events.errors import RunFailed
from tests.agents.test_arguments import CLIENT, VALUES
from tests.timing import MS


async def tried(make: Callable[..., Any], *, seconds: float = 30.0) -> list[Team]:
    """The teams that the check made."""
    teams: list[Team] = []
    factory = TeamFactory("tests:make", make)

    @asynccontextmanager
    async def open_team() -> AsyncGenerator[Team]:
        async with factory.team(VALUES) as team:
            teams.append(team)
            yield team

    await trial.make_twice("tests:make", open_team, seconds=seconds)
    return teams


def agent(name: str = "A", **options: Any) -> AssistantAgent:
    return AssistantAgent(name, CLIENT, **options)


KEPT = agent("Kept")
CONTEXT = UnboundedChatCompletionContext()
CONDITION = MaxMessageTermination(3)
INNER = RoundRobinGroupChat([agent("Inner")], name="InnerTeam")
STOP = ExternalTermination()


async def test_a_factory_is_called_twice() -> None:
    one, other = await tried(lambda: RoundRobinGroupChat([agent()]))
    assert one is not other


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: KEPT, "Kept"),
        (lambda: RoundRobinGroupChat([agent(), KEPT]), "Kept"),
        (lambda: INNER, "Inner, InnerTeam"),
        (lambda: RoundRobinGroupChat([SocietyOfMindAgent("Mind", INNER, CLIENT)]), "Inner, InnerTeam"),
        (lambda: agent(tools=[AgentTool(KEPT)]), "Kept"),
        (lambda: agent(model_context=CONTEXT), "UnboundedChatCompletionContext"),
        (
            lambda: RoundRobinGroupChat([agent()], termination_condition=CONDITION | TextMentionTermination("x")),
            "MaxMessageTermination",
        ),
    ],
    ids=["agent", "in_a_team", "team", "society", "tool", "context", "condition"],
)
async def test_parts_that_two_runs_would_share_are_named(make: Callable[..., Any], names: str) -> None:
    """They remember: the runs' conversations would mix."""
    with pytest.raises(RunFailed, match=rf"two runs would share {names}\b.* inside of the factory") as caught:
        await tried(make)
    assert caught.value.code == "team_unavailable"


async def test_a_stop_button_for_all_runs_may_be_shared() -> None:
    """And the model's client, of course."""
    assert len(await tried(lambda: RoundRobinGroupChat([agent()], termination_condition=STOP))) == 2


async def test_a_second_call_that_fails_is_said_to_be_the_second() -> None:
    calls: list[int] = []

    def make() -> Team:
        if calls:
            raise FileExistsError
        calls.append(1)
        return RoundRobinGroupChat([agent()])

    with pytest.raises(RunFailed, match=r"raised FileExistsError.* It worked once, but each run needs"):
        await tried(make)


async def test_each_result_is_closed() -> None:
    """Before the next call: what only one run can open at a time would fail, else."""
    notes: list[str] = []

    async def make() -> AsyncGenerator[Team]:
        notes.append("open")
        yield RoundRobinGroupChat([agent()])
        notes.append("closed")

    await tried(make)
    assert notes == ["open", "closed"] * 2


async def test_a_result_is_closed_if_the_check_fails() -> None:
    notes: list[str] = []

    async def make() -> AsyncGenerator[str]:
        yield "no team"
        notes.append("closed")

    with pytest.raises(RunFailed, match="made a str"):
        await tried(make)
    assert notes == ["closed"]


async def test_a_factory_that_does_not_return_is_given_up() -> None:
    """Blocking or not; its thread keeps nothing from ending."""
    free = threading.Event()
    with pytest.raises(RunFailed, match=r"hasn't returned after 0.\d+ seconds"):
        await tried(lambda: free.wait(60), seconds=20 * MS)
    free.set()

    async def waits() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RunFailed, match="hasn't returned"):
        await tried(waits, seconds=20 * MS)


async def test_a_server_does_not_start_with_a_team_of_shared_agents(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="two runs would share Kept"):
        async with open_orchestrator(model=ModelSettings(api_key="x"), data=tmp_path, team=lambda: KEPT):
            pass
