"""A custom team is found, made for each run, and refused with a helpful text if it can't be loaded."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from autogen_agentchat.base import Team
from autogen_agentchat.teams import RoundRobinGroupChat

from askstream.agents import loading
from askstream.agents.models import ModelSettings, connect
from askstream.server.events.errors import RunFailed

CLIENT = connect(ModelSettings(model="gpt-4o", api_key="x"))

SOURCE = """
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import RoundRobinGroupChat

given = []

def named(*, model_client, colour="blue"):
    given.append(model_client)
    return RoundRobinGroupChat([AssistantAgent("A", model_client)])

def first(client):
    return named(model_client=client)

async def later(client):
    return named(model_client=client)

def optional(size=3):
    given.append(size)
    return 5

def agent(model_client):
    return AssistantAgent("Alone", model_client)

class Builder:
    @staticmethod
    def make(model_client):
        return named(model_client=model_client)

def fails(model_client):
    raise LookupError("secret")

def two(one, other): ...
nothing = None
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module in the folder that the server was started in, which Python doesn't search by itself."""
    name = "mine_to_serve"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    (tmp_path / "broken_one.py").write_text("raise OSError('no disk')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    yield name
    sys.modules.pop(name, None)


@pytest.mark.parametrize("factory", ["named", "first", "later", "agent", "Builder.make"])
async def test_a_factory_may_accept_the_client_in_any_usual_way(module: str, factory: str) -> None:
    """By its name or as its only argument, sync or async; an agent alone is a team of one."""
    found = loading.load(f"{module}:{factory}")
    team = await found.team(CLIENT)
    assert isinstance(team, Team)
    assert await found.team(CLIENT) is not team


async def test_a_factory_without_a_client_parameter_gets_none(module: str) -> None:
    """Optional parameters keep their defaults."""
    found = loading.load(f"{module}:optional")
    assert found.client == "none"
    with pytest.raises(RunFailed, match="made a int, not an AutoGen team or agent"):
        await found.team(CLIENT)
    assert sys.modules[module].given == [3]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("nonsense", "must read package.module:factory"),
        ("no_such_module:team", "no module no_such_module"),
        ("mine_to_serve:missing", "mine_to_serve has no missing"),
        ("mine_to_serve:nothing", "is a NoneType and can't be called"),
        ("mine_to_serve:two", "needs one, other"),
        ("broken_one:team", "importing broken_one raised OSError: no disk"),
    ],
)
def test_a_bad_name_is_refused_at_once(module: str, spec: str, words: str) -> None:
    """When the server starts, with what was expected and what was found."""
    with pytest.raises(RunFailed, match=words) as caught:
        loading.load(spec)
    assert caught.value.code == "team_unavailable"


async def test_what_a_factory_raised_is_in_the_log_and_not_in_the_refusal(
    module: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Clients may see the refusal. The log has the type, text, file and line, and the traceback."""
    with pytest.raises(RunFailed, match="raised LookupError") as caught:
        await loading.load(f"{module}:fails").team(CLIENT)
    assert "secret" not in str(caught.value)
    assert caught.value.code == "team_unavailable"
    line = 1 + SOURCE.splitlines().index('    raise LookupError("secret")')
    assert re.search(rf"LookupError at .*{module}\.py:{line}: secret$", caplog.text, re.MULTILINE)
    assert f'{module}.py", line {line}, in fails' in caplog.text


async def test_a_lone_agent_has_one_turn(module: str) -> None:
    team = await loading.load(f"{module}:agent").team(CLIENT)
    assert isinstance(team, RoundRobinGroupChat)
