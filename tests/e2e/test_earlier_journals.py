"""A journal of an earlier version can be used. tests/fixtures/record_journal.py makes them."""

import json
import re
import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ServerProcess, started
from tests.e2e.viewers import client_of, watch_sse

JOURNALS = sorted((Path(__file__).parents[1] / "fixtures").glob("journal-v*.db"))
# The runs ended long ago: by default their logs would be deleted at once.
FOR_EVER = str(100 * 365 * 24 * 3600)


class Recorded:
    """An earlier server's runs: their resources and event lines, by the tag of the question's plan."""

    def __init__(self, text: Path) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.lines: dict[str, list[str]] = {}
        tag = ""
        for line in text.read_text().splitlines():
            if not line.startswith('{"event"'):
                run = json.loads(line)
                tag = json.loads(run["question"])["plan"]["tag"]
                self.runs[tag], self.lines[tag] = run, []
            else:
                self.lines[tag].append(line)


@contextmanager
def served(journal: Path, data: Path) -> Generator[ServerProcess]:
    """Start this version's server on a copy, with the same team."""
    shutil.copy(journal, data / "askstream.db")
    team = ("--team", "tests.chaos.team:factory")
    with started(data, *team, ASKSTREAM_KEEP_SECONDS=FOR_EVER, ASKSTREAM_LOG_FILE=str(data / "server.log")) as process:
        yield process


@pytest.fixture(scope="module", params=JOURNALS, ids=lambda path: path.stem)
def journal(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture(scope="module")
def recorded(journal: Path) -> Recorded:
    return Recorded(journal.with_suffix(".txt"))


@pytest.fixture(scope="module")
def server(journal: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with served(journal, tmp_path_factory.mktemp("data")) as process:
        yield process


async def resource(server: ServerProcess, run_id: str) -> dict[str, Any]:
    async with client_of(server.url) as client:
        return (await client.get(f"/runs/{run_id}")).json()


async def log(server: ServerProcess, run_id: str) -> list[str]:
    return await watch_sse(server.url, run_id, filters={"tokens": True})


def events(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line)["event"] for line in lines]


def turns(lines: list[str]) -> list[str]:
    """Return the finished turns in order: each text of the team begins with its turn."""
    said = [event["message"] for event in events(lines) if event["event_type"] == "agent_response"]
    return [" ".join(text.split()[:3]) for text in said]


@pytest.mark.parametrize("tag", ["finished", "second", "failed", "cancelled"])
async def test_a_run_that_has_ended_is_the_same_byte_for_byte(
    server: ServerProcess, recorded: Recorded, tag: str
) -> None:
    """Its events, its digest, and every other field of its resource."""
    run = recorded.runs[tag]
    assert run["ended_at"] is not None
    assert await log(server, run["run_id"]) == recorded.lines[tag]
    assert await resource(server, run["run_id"]) == run


async def test_a_run_that_was_at_work_goes_on_from_its_checkpoint(server: ServerProcess, recorded: Recorded) -> None:
    """Events that viewers have seen stay; the interrupted turn is done again, and no other."""
    run_id = recorded.runs["unfinished"]["run_id"]
    before, after = recorded.lines["unfinished"], await log(server, run_id)
    assert after[: len(before)] == before
    (resumed,) = [event for event in events(after) if event["event_type"] == "resumed"]
    last_turn = [event["id"] for event in events(before) if event["event_type"] == "agent_response"][-1]
    assert resumed["data"] == {"attempt": 2, "from_id": last_turn, "charges": 1}
    assert resumed["id"] == len(before) + 1
    both = [f"{name} turn {turn}" for turn in (1, 2, 3) for name in ("Alpha", "Omega")]
    assert turns(after) == both
    assert (await resource(server, run_id))["state"] == "completed"


async def test_a_run_that_waits_can_be_answered(server: ServerProcess, recorded: Recorded) -> None:
    """The question that an earlier server asked is still open, and the answer completes the run."""
    run_id = recorded.runs["waiting"]["run_id"]
    pending = (await resource(server, run_id))["pending_input"]
    assert pending == recorded.runs["waiting"]["pending_input"]
    async with client_of(server.url) as client:
        given = {"request_id": pending["request_id"], "value": "go on"}
        answer = await client.post(f"/runs/{run_id}/input", json=given)
    assert answer.status_code == 200, answer.text
    after = await log(server, run_id)
    assert after[: len(recorded.lines["waiting"])] == recorded.lines["waiting"]
    assert events(after)[-1]["event_type"] == "completed"
    assert turns(after)[-2:] == ["Alpha turn 3", "Omega turn 3"]


async def test_the_loggers_have_the_names_that_operators_look_for(
    journal: Path, recorded: Recorded, tmp_path: Path
) -> None:
    """`grep STREAM` finds a run's events, `grep __main__` the server's actions."""
    run_id = recorded.runs["unfinished"]["run_id"]
    with served(journal, tmp_path) as server:
        end = events(await log(server, run_id))[-1]
        server.stop()
    said = (tmp_path / "server.log").read_text()
    moment = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}"
    assert re.search(rf"^{moment} - STREAM - INFO - run={run_id} id={end['id']} completed \w+$", said, re.MULTILINE)
    assert re.search(rf"^{moment} - __main__ - INFO - stopping: ", said, re.MULTILINE)
