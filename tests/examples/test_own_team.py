"""The example of your own team works as it promises."""

from datetime import date
from pathlib import Path

import pytest

from askstream.agents.factory import open_orchestrator
from askstream.agents.models import ModelSettings
from askstream.server.events import ToolExecution
from examples.own_team import days_between, today
from tests.agents.fake_provider import Body, Reply, provider
from tests.agents.sample_teams import Recorder, answered, task

ROOT = Path(__file__).parents[2]
UNTIL = days_between(today(), "2999-12-24")


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in the repository's folder."""
    monkeypatch.chdir(ROOT)


def model(body: Body, _: int) -> Reply:
    """A model that counts with the tool, checks with the tool, and approves."""
    messages = body["messages"]
    last = messages[-1]
    checking = str(messages[0]["content"]).startswith("Check")
    if last["role"] == "tool":
        return Reply(text=[f"{last['content']} days. DONE" if checking else f"{last['content']} days."])
    return Reply(calls=[("days_between", '{"first": "2026-11-22", "second": "2026-12-24"}')])


async def test_the_example_counts_days_with_its_tool(tmp_path: Path) -> None:
    """Two agents, a real tool, and the end that the team itself sets."""
    sink = Recorder()
    async with provider(model) as fake:
        settings = ModelSettings(base_url=fake.base_url, model="fake", names="field")
        async with open_orchestrator(model=settings, data=tmp_path, team="examples.own_team:team") as orchestrator:
            assert orchestrator.model == "fake"
            answer = await orchestrator.run(task("How long until Christmas Eve?"), sink)
    expected = (date(2026, 12, 24) - date(2026, 11, 22)).days
    assert answered(answer).final_response == f"{expected} days."
    assert sink.said() == [("Counter", f"{expected} days."), ("Checker", f"{expected} days. DONE")]
    assert [body.result for body in sink.bodies(ToolExecution) if body.status == "finished"] == [str(expected)] * 2
    assert len(sink.checkpoints) == 2


@pytest.mark.parametrize("spec", ["examples/own_team.py", "examples.own_team:team"])
@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("How long is it from 2026-11-22 until 2026-12-24?", "From 2026-11-22 to 2026-12-24 it is 32 days."),
        ("How long is it until 2999-12-24?", f"From {today()} to 2999-12-24 it is {UNTIL} days."),
        ("How long until Christmas Eve?", "This server has no model, so I only understand dates"),
        ("And until 2026-02-30?", "This server has no model, so I only understand dates"),
    ],
)
async def test_the_example_answers_without_a_key_too(tmp_path: Path, spec: str, question: str, words: str) -> None:
    """By an agent that needs no model and says so. The offline analyst plays no part: it doesn't know this team."""
    sink = Recorder()
    async with open_orchestrator(model=ModelSettings(), data=tmp_path, team=spec) as orchestrator:
        assert orchestrator.model == f"chosen by {Path(spec).name}"
        answer = answered(await orchestrator.run(task(question), sink))
        for starter in orchestrator.about().starters:
            assert "it is" in answered(await orchestrator.run(task(starter), Recorder())).final_response
    assert answer.final_response.startswith(words)
    assert sink.said() == [("DateReader", answer.final_response)]
