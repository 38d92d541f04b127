"""A team in a JSON file is loaded from classes of an exact list, with its secrets from the environment."""

import importlib
import inspect
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import autogen_agentchat.agents
import autogen_agentchat.conditions
import autogen_agentchat.teams
import pytest
from autogen_agentchat.agents import AssistantAgent, UserProxyAgent
from autogen_agentchat.conditions import MaxMessageTermination, TextMentionTermination
from autogen_agentchat.teams import BaseGroupChat, RoundRobinGroupChat
from autogen_core import is_component_class
from autogen_core.models import ModelInfo
from autogen_ext.models.openai import OpenAIChatCompletionClient
from autogen_ext.models.replay import ReplayChatCompletionClient

from askstream.agents import component, loading
from askstream.agents.autogen_internals import members
from askstream.agents.factory import open_orchestrator
from askstream.agents.models import ModelSettings
from askstream.server.events import ToolExecution
from askstream.server.events.errors import RunFailed
from tests.agents.fake_provider import Body, Reply, provider
from tests.agents.sample_teams import Recorder, answered, task
from tests.agents.test_loading import made

KEY = "sk-of-the-environment"
INFO = ModelInfo(vision=False, function_calling=True, json_output=False, family="unknown", structured_output=False)


def add(first: int, second: int) -> int:
    """Add two numbers."""
    return first + second


def dumped(base_url: str | None = None) -> dict[str, Any]:
    """A team with a tool, as `dump_component` writes it: its key is masked."""
    at: dict[str, Any] = {"base_url": base_url} if base_url else {}
    client = OpenAIChatCompletionClient(model="fake", api_key="sk-of-the-author", model_info=INFO, **at)
    agent = AssistantAgent("Adder", client, tools=[add], reflect_on_tool_use=True)
    condition = TextMentionTermination("DONE") | MaxMessageTermination(4)
    team = RoundRobinGroupChat([agent, UserProxyAgent("Person")], termination_condition=condition, max_turns=1)
    return json.loads(team.dump_component().model_dump_json())


def client_config(described: dict[str, Any]) -> dict[str, Any]:
    return described["config"]["participants"][0]["config"]["model_client"]["config"]


def saved(folder: Path, described: object) -> Path:
    path = folder / "team.json"
    path.write_text(json.dumps(described))
    return path


def key_of(team: BaseGroupChat) -> str:
    return key_of_client(vars(members(team)[0])["_model_client"])


def key_of_client(client: Any) -> str:
    return str(client._client.api_key)


@pytest.mark.parametrize("written", ["**********", "${OPENAI_API_KEY}"])
def test_keys_come_from_the_environment(tmp_path: Path, written: str) -> None:
    described = dumped()
    assert client_config(described)["api_key"] == "**********"
    client_config(described)["api_key"] = written
    assert key_of(component.load(saved(tmp_path, described), {"OPENAI_API_KEY": KEY})) == KEY


def test_the_azure_client_has_a_variable_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AutoGen loads it only where the package for Azure's tokens is installed."""
    described = json.loads(AssistantAgent("A", ReplayChatCompletionClient([])).dump_component().model_dump_json())
    described["config"]["model_client"] = {
        "provider": "autogen_ext.models.openai.AzureOpenAIChatCompletionClient",
        "component_type": "model",
        "config": {
            "model": "gpt-4o",
            "azure_endpoint": "https://x.test",
            "api_version": "2024-06-01",
            "azure_deployment": "d",
            "api_key": "**********",
        },
    }
    monkeypatch.setitem(sys.modules, "autogen_ext.auth.azure", None)
    with pytest.raises(ValueError, match=r"install autogen-ext\[azure\]"):
        component.load(saved(tmp_path, described), {"AZURE_OPENAI_API_KEY": KEY})
    monkeypatch.setitem(sys.modules, "autogen_ext.auth.azure", SimpleNamespace(AzureTokenProvider=object))
    agent: Any = component.load(saved(tmp_path, described), {"AZURE_OPENAI_API_KEY": KEY, "OPENAI_API_KEY": "another"})
    assert key_of_client(vars(agent)["_model_client"]) == KEY


def test_only_a_whole_value_of_a_model_client_is_a_variable(tmp_path: Path) -> None:
    """A prompt may have any text in it."""
    described = dumped()
    client_config(described)["base_url"] = "${MY_SERVER}"
    described["config"]["participants"][0]["config"]["system_message"] = "${HOME}"
    team = component.load(saved(tmp_path, described), {"OPENAI_API_KEY": KEY, "MY_SERVER": "http://localhost:1/v1"})
    agent: Any = members(team)[0]
    assert str(agent._model_client._client.base_url) == "http://localhost:1/v1/"
    assert agent._system_messages[0].content == "${HOME}"


@pytest.mark.parametrize("provider", ["os.system", "autogen_ext.code_executors.local.LocalCommandLineCodeExecutor"])
@pytest.mark.parametrize("at", ["team", "agent", "tool"])
def test_another_provider_is_refused_by_name(tmp_path: Path, provider: str, at: str) -> None:
    """At any depth, before anything is imported."""
    described = dumped()
    agent = described["config"]["participants"][0]
    tool = agent["config"]["workbench"][0]["config"]["tools"][0]
    {"team": described, "agent": agent, "tool": tool}[at]["provider"] = provider
    with pytest.raises(ValueError, match=f"its provider '{provider}' isn't one of those"):
        component.load(saved(tmp_path, described), {"OPENAI_API_KEY": KEY})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "needs the variable OPENAI_API_KEY, which isn't set"),
        ({"api_key": "${MY_KEY}"}, "needs the variable MY_KEY, which isn't set"),
        ({"api_key": "x", "organization": "*****" * 2}, "its organization is masked"),
        ({"api_key": "x", "model": 5}, "AutoGen can't load it: ValidationError"),
    ],
)
def test_a_file_that_lacks_something_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    described = dumped()
    client_config(described).update(change)
    with pytest.raises(ValueError, match=words):
        component.load(saved(tmp_path, described), {})


@pytest.mark.parametrize(("text", "words"), [("{", "as JSON"), ("[]", "expected an object"), ("{}", "expected an obj")])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "team.json").write_text(text)
    with pytest.raises(ValueError, match=words):
        component.load(tmp_path / "team.json")


def test_a_component_that_is_no_team_is_refused(tmp_path: Path) -> None:
    described = json.loads(MaxMessageTermination(3).dump_component().model_dump_json())
    with pytest.raises(ValueError, match="describes a MaxMessageTermination, not a team or an agent"):
        component.load(saved(tmp_path, described))


def test_the_list_has_all_teams_agents_and_conditions_of_autogen() -> None:
    """Only providers that can be loaded are listed; an upgrade may bring others."""
    modules: Any = (autogen_agentchat.teams, autogen_agentchat.agents, autogen_agentchat.conditions)
    for module in modules:
        for name in module.__all__:
            found: object = getattr(module, name)
            if inspect.isclass(found) and is_component_class(found) and not name.startswith("Base"):
                assert f"{module.__name__}.{name}" in component.PROVIDERS or name == "FunctionalTermination"
    for allowed in component.PROVIDERS:
        module, _, name = allowed.rpartition(".")
        assert not module or is_component_class(getattr(importlib.import_module(module), name))


async def test_a_team_as_studio_keeps_it_answers_with_its_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs, each with agents of its own; the source code of its tool is run."""

    def model(body: Body, _: int) -> Reply:
        last = body["messages"][-1]
        if last["role"] == "tool":
            return Reply(text=[f"It is {last['content']}."])
        return Reply(calls=[("add", '{"first": 2, "second": 3}')])

    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    async with provider(model) as fake:
        described = dumped(fake.base_url)
        described["config"]["participants"].pop()
        path = saved(tmp_path, {"id": 3, "component": described})
        async with open_orchestrator(model=ModelSettings(), data=tmp_path, team=str(path)) as team:
            for number in range(2):
                sink = Recorder()
                answer = answered(await team.run(task("2 + 3?", run_id=f"r{number}"), sink))
                assert answer.final_response == "It is 5."
                assert [body.result for body in sink.bodies(ToolExecution) if body.status == "finished"] == ["5"]
        assert [len(request["messages"]) for request in fake.requests] == [2, 4, 2, 4]


async def test_a_component_is_copied_for_each_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its model client is made once: that takes tens of milliseconds."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    factory = await loading.load(str(saved(tmp_path, dumped())))
    one, other = [members(await made(factory))[0] for _ in range(2)]
    assert one is not other
    assert vars(one)["_model_client"] is vars(other)["_model_client"]


async def test_a_refused_file_is_named_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    path = saved(tmp_path, dumped())
    with pytest.raises(RunFailed, match=r"team.json' can't be loaded: it needs the variable OPENAI_API_KEY"):
        await loading.load(str(path))


async def test_its_model_clients_are_closed_with_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else has them."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    factory = await loading.load(str(saved(tmp_path, dumped())))
    client: Any = vars(members(await made(factory))[0])["_model_client"]
    assert not client._client.is_closed()
    await factory.close()
    assert client._client.is_closed()
