"""The orchestrator is made from plain arguments: quickly, with the right model's name, and it is closed at the end."""

import asyncio
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from autogen_agentchat.agents import AssistantAgent, UserProxyAgent
from autogen_agentchat.base import ChatAgent, Team
from autogen_agentchat.teams import RoundRobinGroupChat, SelectorGroupChat
from autogen_core.models import ChatCompletionClient

from askstream.agents.factory import WAREHOUSE, open_orchestrator
from askstream.agents.models import BadModelSettings, ModelSettings
from askstream.server.events import Usage
from askstream.server.events.errors import RunFailed
from tests.agents.fake_provider import Reply, provider
from tests.agents.sample_teams import Recorder, agent, answered, look, task
from tests.timing import PATIENCE

KEY = ModelSettings(api_key="x", model="gpt-4o")


def test_nothing_imports_autogen_before_it_is_needed(tmp_path: Path) -> None:
    """A starting server responds at once; `warm` or the first run imports AutoGen."""
    code = f"""
import asyncio, sys
from pathlib import Path
from askstream.agents.factory import open_orchestrator
from askstream.agents.models import ModelSettings

async def main():
    async with open_orchestrator(model=ModelSettings(), data=Path({str(tmp_path)!r})) as orchestrator:
        print(orchestrator.model)
        early = [name for name in sys.modules if name.partition(".")[0] in ("autogen_core", "autogen_ext", "openai")]
        assert not early, early
        await orchestrator.warm()
        assert "autogen_ext" in sys.modules
        assert "askstream.agents.insights.offline.analyst" in sys.modules

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=6 * PATIENCE, check=False
    )
    assert (done.returncode, done.stdout) == (0, "offline-analyst (rules, no LLM)\n"), done.stderr


async def test_the_bundled_team_answers_without_a_key(tmp_path: Path) -> None:
    """The offline analyst answers, over a database that is made on first use."""
    async with open_orchestrator(model=ModelSettings(), data=tmp_path) as orchestrator:
        assert not (tmp_path / WAREHOUSE).exists()
        sink = Recorder()
        answer = await orchestrator.run(task("What was our revenue in October 2026?"), sink)
    assert (tmp_path / WAREHOUSE).exists()
    assert answer.agent_name == "ReportAgent"
    assert "€" in answered(answer).final_response
    assert answered(answer).usage == Usage(None, None)  # rules read no tokens


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (KEY, "gpt-4o"),
        (ModelSettings(base_url="http://localhost:11434/v1", model="qwen9"), "qwen9"),
        (ModelSettings(), "offline-analyst (rules, no LLM)"),
    ],
)
async def test_the_models_name_is_known_before_any_call(tmp_path: Path, model: ModelSettings, name: str) -> None:
    """The page shows it."""
    async with open_orchestrator(model=model, data=tmp_path) as orchestrator:
        assert orchestrator.model == name


async def test_settings_that_no_run_could_succeed_with_are_refused(tmp_path: Path) -> None:
    """When the server starts, not at the first question."""
    with pytest.raises(BadModelSettings):
        async with open_orchestrator(model=ModelSettings(azure_endpoint="https://x"), data=tmp_path):
            pass
    with pytest.raises(RunFailed, match="no database"):
        async with open_orchestrator(model=KEY, data=tmp_path, warehouse=tmp_path / "gone.db"):
            pass
    with pytest.raises(RunFailed, match="no module"):
        async with open_orchestrator(model=KEY, data=tmp_path, team="no.such:team"):
            pass


async def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """The first run fails with its name; the next one tries again and succeeds once it is writable."""
    data = tmp_path / "data"
    data.write_text("a file where the folder should be")
    async with provider([Reply(text=["ok"])]) as fake:
        model = ModelSettings(base_url=fake.base_url, model="fake", names="field")
        async with open_orchestrator(model=model, data=data) as orchestrator:
            with pytest.raises(RunFailed, match="ASKSTREAM_DATA") as caught:
                await orchestrator.run(task(), Recorder())
            assert str(tmp_path) not in str(caught.value)
            data.unlink()
            assert answered(await orchestrator.run(task(), Recorder())).final_response.endswith("ok")
    assert caught.value.code == "team_unavailable"


async def test_a_model_that_no_client_can_be_made_for_is_reported(tmp_path: Path) -> None:
    """Only the libraries notice it: the run fails, with a text that repeats no setting."""
    broken = ModelSettings(api_key="x", base_url="http://[broken", model="m")
    async with open_orchestrator(model=broken, data=tmp_path) as orchestrator:
        with pytest.raises(RunFailed, match="settings for the model") as caught:
            await orchestrator.run(task(), Recorder())
    assert caught.value.code == "team_unavailable"


async def test_a_custom_team_is_made_once_when_the_server_starts(tmp_path: Path) -> None:
    """Its errors show before the first question."""
    with pytest.raises(RunFailed, match="made a dict") as caught:
        async with open_orchestrator(model=KEY, data=tmp_path, team="builtins:dict"):
            pass
    assert caught.value.code == "team_unavailable"


async def test_a_team_that_needs_a_model_says_so_without_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At the start, and at the end of each run that calls it. The offline analyst plays only its own team."""

    def make(model_client: ChatCompletionClient) -> Team:
        agents: list[ChatAgent | Team] = [agent(model_client, "A", tools=[look]), agent(model_client, "B")]
        return SelectorGroupChat(agents, model_client, max_turns=1)

    sink = Recorder()
    async with open_orchestrator(model=ModelSettings(), data=tmp_path, team=make) as orchestrator:
        assert "OPENAI_API_KEY" in caplog.text
        assert "OPENAI_BASE_URL" in caplog.text
        assert orchestrator.model == "no model configured"
        with pytest.raises(RunFailed, match=r"OPENAI_API_KEY.* OPENAI_BASE_URL") as caught:
            await orchestrator.run(task(), sink)
    assert caught.value.code == "model_missing"
    assert sink.said() == []


async def test_an_agent_that_needs_a_model_ends_its_run_without_one(tmp_path: Path) -> None:
    """With the same code, though AutoGen passes on only the error's text."""

    def make(model_client: ChatCompletionClient) -> ChatAgent:
        return agent(model_client, "A")

    async with open_orchestrator(model=ModelSettings(), data=tmp_path, team=make) as orchestrator:
        with pytest.raises(RunFailed) as caught:
            await orchestrator.run(task(), Recorder())
    assert caught.value.code == "model_missing"


async def test_a_default_instead_of_a_model_is_used_without_one(tmp_path: Path) -> None:
    """With a model the factory gets its client."""
    given: list[ChatCompletionClient | None] = []

    def make(model_client: ChatCompletionClient | None = None) -> Team:
        given.append(model_client)
        return RoundRobinGroupChat([UserProxyAgent("U")])

    for model in (ModelSettings(), KEY):
        async with open_orchestrator(model=model, data=tmp_path, team=make):
            pass
    assert given[:2] == [None, None]
    assert None not in given[2:]


async def test_runs_that_start_while_it_warms_wait_for_it(tmp_path: Path) -> None:
    """One client is made, also if the first run that waited is cancelled."""
    async with provider([Reply(text=["ok"])]) as fake:
        model = ModelSettings(base_url=fake.base_url, model="fake", names="field")
        async with open_orchestrator(model=model, data=tmp_path) as orchestrator:
            impatient = asyncio.ensure_future(orchestrator.run(task(), Recorder()))
            await asyncio.sleep(0)
            patient = asyncio.ensure_future(orchestrator.run(task(), Recorder()))
            await asyncio.sleep(0)
            impatient.cancel()
            assert answered(await patient).final_response.endswith("ok")
            with pytest.raises(asyncio.CancelledError):
                await impatient


async def test_the_bundled_team_needs_a_model_with_tools(tmp_path: Path) -> None:
    """It would make up its figures. A team of one's own may do without."""
    model = ModelSettings(base_url="http://localhost:1/v1", model="m", info={"function_calling": False})
    with pytest.raises(BadModelSettings, match="bundled team needs a model that can call tools"):
        async with open_orchestrator(model=model, data=tmp_path):
            pass
    async with open_orchestrator(model=model, data=tmp_path, team=partial(AssistantAgent, "A")):
        pass


async def test_wrong_options_of_the_model_are_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(BadModelSettings, match="max_tokens"):
        async with open_orchestrator(model=ModelSettings(options={"max_token": 1}), data=tmp_path):
            pass
