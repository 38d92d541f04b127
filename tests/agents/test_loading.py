"""The text of `--team` finds a factory or a team, or is refused with a sentence that says what to write."""

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.base import Team
from autogen_agentchat.teams import RoundRobinGroupChat

from askstream.agents import loading
from askstream.agents.arguments import RunArguments
from askstream.agents.autogen_internals import ask_person, members
from askstream.agents.models import ModelSettings, connect
from askstream.agents.team_factory import TeamFactory
from askstream.server.events.errors import RunFailed

CLIENT = connect(ModelSettings(model="gpt-4o", api_key="x"))
VALUES = RunArguments(model_client=CLIENT, input_func=ask_person, session_id="s", principal="p")

SOURCE = """
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core.models import ChatCompletionClient

given = []

def named(*, model_client, colour="blue"):
    given.append(model_client)
    return RoundRobinGroupChat([AssistantAgent("A", model_client)])

def annotated(client: ChatCompletionClient):
    return named(model_client=client)

def in_words(client: "ChatCompletionClient | None" = None):
    return named(model_client=client)

async def later(model_client):
    return named(model_client=model_client)

def positional(model_client, /):
    return named(model_client=model_client)

def optional(size=3):
    given.append(size)
    return 5

def agent(model_client):
    return AssistantAgent("Alone", model_client)

class Builder:
    @staticmethod
    def make(model_client):
        return named(model_client=model_client)

class Pair(RoundRobinGroupChat):
    def __init__(self, model_client):
        super().__init__([AssistantAgent("A", model_client)])

def fails(model_client):
    raise LookupError("secret")

def two(one, other): ...
def client_by_another_name(client): ...
nothing = None
"""


async def made(factory: TeamFactory) -> Team:
    """A team of it. Its resources are closed already."""
    async with factory.team(VALUES) as team:
        return team


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that the server was started in, which Python doesn't search by itself."""
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def module(folder: Path) -> str:
    (folder / "mine_to_serve.py").write_text(SOURCE)
    (folder / "broken_one.py").write_text("raise OSError('no disk')")
    (folder / "ends_it.py").write_text("import sys; sys.exit('no arguments')")
    (folder / "lacks_one.py").write_text("import pandas_of_nobody")
    return "mine_to_serve"


@pytest.mark.parametrize(
    "factory", ["named", "annotated", "in_words", "later", "positional", "agent", "Builder.make", "Pair"]
)
async def test_a_factory_may_accept_the_client_in_any_usual_way(module: str, factory: str) -> None:
    """By its name or its annotation; a function, sync or async, or a class; an agent alone is a team of one."""
    found = await loading.load(f"{module}:{factory}")
    team = await made(found)
    assert isinstance(team, Team)
    assert await made(found) is not team
    (member,) = members(team)
    assert isinstance(member, AssistantAgent)
    assert vars(member)["_model_client"] is CLIENT


async def test_a_factory_without_a_client_parameter_gets_none(module: str) -> None:
    """Optional parameters keep their defaults."""
    found = await loading.load(f"{module}:optional")
    assert found.client is None
    with pytest.raises(RunFailed, match="made a int, not an AutoGen team or agent"):
        await made(found)
    assert sys.modules[module].given == [3]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("nonsense", r"must read package.module:name, path/to/file.py, file.py:name or team.json"),
        ("no_such_module:team", "no module no_such_module"),
        ("mine_to_serve:missing", "mine_to_serve has no missing"),
        ("mine_to_serve:nothing", "nothing is a NoneType: neither a factory, nor a team or agent"),
        ("mine_to_serve:two", "needs one, other; it may need model_client"),
        ("mine_to_serve:client_by_another_name", "needs client; it may need model_client"),
        ("broken_one:team", "importing broken_one raised OSError: no disk"),
        ("ends_it:team", "raised SystemExit: no arguments"),
        ("ends_it.py", "raised SystemExit: no arguments"),
        ("broken_one.py", "importing broken_one.py raised OSError: no disk"),
        ("lacks_one.py", r"no module pandas_of_nobody. Install it .*dev.py run --with pandas_of_nobody"),
        ("lacks_one:team", r"no module pandas_of_nobody. Install it .*dev.py run --with pandas_of_nobody"),
        ("no_such_file.py", "no file no_such_file.py"),
        ("mine_to_serve.py:missing", "the file has no missing"),
        ("notebook.ipynb", "a notebook can't be loaded. Copy the cells"),
        ("gone.json", "no file gone.json"),
    ],
)
async def test_a_bad_name_is_refused_at_once(module: str, spec: str, words: str) -> None:
    """When the server starts, with what was expected and what was found."""
    with pytest.raises(RunFailed, match=words) as caught:
        await loading.load(spec)
    assert caught.value.code == "team_unavailable"


async def test_what_a_factory_raised_is_in_the_log_and_not_in_the_refusal(
    module: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Clients may see the refusal. The log has the type, text, file and line, and the traceback."""
    with pytest.raises(RunFailed, match="raised LookupError") as caught:
        await made(await loading.load(f"{module}:fails"))
    assert "secret" not in str(caught.value)
    assert caught.value.code == "team_unavailable"
    line = 1 + SOURCE.splitlines().index('    raise LookupError("secret")')
    assert re.search(rf"LookupError at .*{module}\.py:{line}: secret$", caplog.text, re.MULTILINE)
    assert f'{module}.py", line {line}, in fails' in caplog.text


async def test_a_lone_agent_has_one_turn(module: str) -> None:
    assert isinstance(await made(await loading.load(f"{module}:agent")), RoundRobinGroupChat)


# --- files -----------------------------------------------------------------------------------------------------------

HEAD = """
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_ext.models.replay import ReplayChatCompletionClient

able = {"vision": False, "function_calling": True, "json_output": False, "family": "any", "structured_output": False}
model = ReplayChatCompletionClient(["fine"], model_info=able)

def weather(city: str) -> str:
    return "sunny"

def today() -> str:
    return "Monday"
"""
AGENT = 'writer = AssistantAgent("Writer", model, tools=[weather, today])\n'
OTHER = 'reader = AssistantAgent("Reader", model)\n'
TEAM = "chat = RoundRobinGroupChat([writer, reader], max_turns=1)\n"
FUNCTION = 'def assemble():\n    return RoundRobinGroupChat([AssistantAgent("Made", model)], max_turns=1)\n'
GET_TEAM = FUNCTION.replace("assemble", "get_team")


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (AGENT, ["Writer"]),
        (AGENT + OTHER + TEAM, ["Writer", "Reader"]),
        (FUNCTION, ["Made"]),
        (AGENT + FUNCTION.replace("assemble", "make"), ["Made"]),
        (AGENT + OTHER + TEAM + "team = RoundRobinGroupChat([reader])\n", ["Reader"]),
        (FUNCTION + "def helper():\n    return 5\n" + GET_TEAM.replace("Made", "Other"), ["Other"]),
        (FUNCTION + "async def main() -> None: ...\ndef client() -> ReplayChatCompletionClient: ...\n", ["Made"]),
    ],
    ids=["agent", "team", "function", "make", "team_by_name", "name_with_team", "helpers"],
)
async def test_a_files_only_team_or_factory_is_found(folder: Path, body: str, names: list[str]) -> None:
    """Tools, clients and `main` are none; `make` and `team` go before all others."""
    (folder / "my-file.py").write_text(HEAD + body)
    team = await made(await loading.load("my-file.py"))
    assert [agent.name for agent in members(team)] == names


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (AGENT + OTHER, r"it has writer, reader; add the name that is meant, as in file.py:name"),
        (FUNCTION + FUNCTION.replace("assemble", "build"), "it has assemble, build;"),
        ("", "no team, no agent, and no function that returns one"),
        ("async def main():\n    ...\n", "no team, no agent, and no function that returns one"),
    ],
)
async def test_an_ambiguous_file_is_refused_with_the_names(folder: Path, body: str, words: str) -> None:
    (folder / "file.py").write_text(HEAD + body)
    with pytest.raises(RunFailed, match=words):
        await loading.load("file.py")


async def test_a_files_own_folder_is_searched(folder: Path) -> None:
    """As if Python ran the file: for what lies beside it, under a name that is taken, too."""
    (folder / "teams").mkdir()
    (folder / "teams" / "beside_it.py").write_text(HEAD + AGENT)
    (folder / "teams" / "json.py").write_text("from beside_it import writer\n")
    team = await made(await loading.load("teams/json.py:writer"))
    assert [agent.name for agent in members(team)] == ["Writer"]
    assert sys.modules["json"] is json


async def test_a_file_in_a_package_may_import_relatively(folder: Path) -> None:
    inner = folder / "outer_package" / "inner"
    inner.mkdir(parents=True)
    for at in (inner, inner.parent):
        (at / "__init__.py").touch()
    (inner / "parts.py").write_text(HEAD + AGENT)
    (inner / "sales.py").write_text("from .parts import writer\n")
    assert isinstance(await made(await loading.load(str(inner / "sales.py"))), Team)


# --- teams and agents that exist once --------------------------------------------------------------------------------


async def test_a_team_at_module_level_is_copied_for_each_run(folder: Path) -> None:
    """Its agents are new each time, its model client is one."""
    (folder / "notebook.py").write_text(HEAD + AGENT + OTHER + TEAM)
    factory = await loading.load("notebook:chat")
    one, other = await made(factory), await made(factory)
    original = sys.modules["notebook"]
    for first, second, kept in zip(members(one), members(other), (original.writer, original.reader), strict=True):
        assert first.name == second.name == kept.name
        assert len({id(first), id(second), id(kept)}) == 3
        assert vars(first)["_model_client"] is vars(second)["_model_client"] is original.model


async def test_runs_of_a_copied_team_share_no_conversation(folder: Path) -> None:
    (folder / "notebook.py").write_text(HEAD + AGENT + OTHER + TEAM)
    factory = await loading.load("notebook.py:chat")
    first = await made(factory)
    await first.run(task="remember me")
    second = await made(factory)
    (agent, *_) = members(second)
    assert isinstance(agent, AssistantAgent)
    assert await agent.model_context.get_messages() == []
    assert await sys.modules["notebook"].writer.model_context.get_messages() == []


async def test_a_team_that_cannot_be_copied_is_refused_with_the_lines_to_write(folder: Path) -> None:
    """When the server starts."""
    (folder / "locked.py").write_text(HEAD + AGENT + OTHER + TEAM + "import threading\nchat.lock = threading.Lock()\n")
    with pytest.raises(RunFailed) as caught:
        await loading.load("locked.py")
    text = str(caught.value)
    assert "cannot pickle '_thread.lock' object" in text
    assert "    def make():\n        return RoundRobinGroupChat(…)\n" in text


async def test_a_team_that_has_run_is_refused(folder: Path) -> None:
    """Its copies would share its agents. A notebook's last cell often runs it."""
    running = "import asyncio\nasyncio.run(chat.run(task='?'))\n"
    (folder / "used.py").write_text(HEAD + AGENT + OTHER + TEAM + running)
    with pytest.raises(RunFailed, match=r"it has run already.* Leave out the code that runs it"):
        await loading.load("used.py")
    outer = TEAM + "team = RoundRobinGroupChat([chat, writer])\n"
    (folder / "used_inside.py").write_text(HEAD + AGENT + OTHER + outer + running)
    with pytest.raises(RunFailed, match="it has run already"):
        await loading.load("used_inside.py")


async def test_a_files_folder_is_not_shown_to_viewers(folder: Path) -> None:
    """They see the name in errors, and as the model of a team that brings its own."""
    (folder / "my_file.py").write_text(HEAD + AGENT)
    assert (await loading.load(str(folder / "my_file.py"))).spec == "my_file.py"
    assert (await loading.load(str(folder / "my_file.py:writer"))).spec == "my_file.py:writer"


async def test_a_team_itself_is_copied_too() -> None:
    """As a notebook gives it to `serve`."""
    team = RoundRobinGroupChat([AssistantAgent("A", CLIENT)])
    copies: list[Any] = [await made(await loading.load(team)) for _ in range(2)]
    assert copies[0] is not copies[1]
    assert team not in copies


async def test_importing_does_not_hold_up_the_loop(folder: Path) -> None:
    (folder / "slow.py").write_text(
        f"import threading\nassert threading.current_thread() is not threading.main_thread()\n{HEAD}{AGENT}"
    )
    loaded = asyncio.ensure_future(loading.load("slow.py"))
    await asyncio.sleep(0)
    assert not loaded.done()
    await loaded
