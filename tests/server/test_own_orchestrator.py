"""An orchestrator that a user wrote replaces a team, and its errors don't end the server."""

import logging
from pathlib import Path

import pytest

from askstream.server.app import create_app
from askstream.server.events import Usage
from askstream.server.journal import NOBODY
from askstream.server.runs import Answer, Question, Sink, Task
from askstream.server.settings import Settings

HERE = "tests.server.test_own_orchestrator"


class Clumsy:
    """An orchestrator whose `warm` raises, but which answers."""

    model = "clumsy"

    async def warm(self) -> None:
        raise LookupError("no model there")

    async def run(self, task: Task, sink: Sink) -> Answer:
        return Answer(final_response="done", total_messages=0, usage=Usage(), agent_name="Clumsy")


async def test_an_orchestrator_whose_warm_fails_is_logged_and_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its error ends nothing else."""
    caplog.set_level(logging.ERROR)
    async with create_app(Settings(data=tmp_path, journal="memory://", orchestrator=f"{HERE}:Clumsy")).open() as app:
        await app.warmed
        record, _ = await app.runs.start(Question(text="?", principal=NOBODY))
        assert (await app.runs.outcome(record.run_id)).event_type == "completed"
        assert record.model == app.model == "clumsy"
    assert [r.getMessage() for r in caplog.records] == ["clumsy can't be made ready"]


async def test_a_team_and_an_orchestrator_exclude_each_other(tmp_path: Path) -> None:
    """Both together are refused before anything is opened that would have to be closed."""
    settings = Settings(data=tmp_path, journal="memory://", team="a:b", orchestrator=f"{HERE}:Clumsy")
    with pytest.raises(ValueError, match=r"expected a team or an orchestrator, got both: 'a:b' and"):
        create_app(settings)
