"""Every block of docs/extending.md works as the page promises: served, checked by the kit, and read from."""

import json
import re
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import askstream
from tests.docs import blocks
from tests.e2e.conftest import ROOT, ServerProcess, started
from tests.e2e.viewers import ask, client_of, sse_lines, watch_sse, watch_ws

PAGE = ROOT / "docs" / "extending.md"
QUESTION = "How many words are there"
MODULES = {"counter.py", "shelf.py", "test_shelf.py", "lines.py"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the page's modules."""
    for name, text in blocks.modules(PAGE).items():
        (tmp_path / name).write_text(text)
    return tmp_path


@contextmanager
def served(folder: Path, word: str, *more: str, **variables: str) -> Generator[ServerProcess]:
    """Run the page's command with this word, in a folder of its own."""
    command = blocks.serving(PAGE, word)
    with started(folder / "data", *command.options, *more, cwd=str(folder), **command.variables, **variables) as server:
        yield server


def test_the_page_has_these_blocks() -> None:
    """No block is left out below."""
    assert set(blocks.modules(PAGE)) == MODULES
    assert sum("askstream serve" in line for line in blocks.commands(PAGE)) == 3


def test_the_orchestrator_is_about_thirty_lines() -> None:
    """README promises that."""
    assert len(blocks.modules(PAGE)["counter.py"].splitlines()) <= 34


async def test_an_orchestrator_without_autogen_is_served(folder: Path) -> None:
    """Its events over both transports, and its answer; no AutoGen is imported for it."""
    watched = {"ASKSTREAM_TRANSPORTS": '["sse", "websocket", "tests.e2e.modules:Modules"]', "PYTHONPATH": str(ROOT)}
    with served(folder, "counter:Counter", **watched) as server:
        run_id = await ask(server.url, QUESTION)
        lines = await watch_sse(server.url, run_id)
        assert await watch_ws(server.url, run_id) == lines
        events = [json.loads(line)["event"] for line in lines]
        said = [event["message"] for event in events if event["event_type"] == "agent_response"]
        assert said == [f"Word {number} is {word}." for number, word in enumerate(QUESTION.split(), 1)]
        assert events[-1]["data"]["final_response"] == "Your question has 5 words."
        assert events[0]["data"]["model"] == "no model"
        async with client_of(server.url) as client:
            imported: dict[str, Any] = (await client.get("/modules")).json()
        assert "counter" in imported
        assert not {"autogen_core", "autogen_agentchat", "openai"}.intersection(imported)


async def test_it_goes_on_after_its_server_was_killed(folder: Path) -> None:
    """It resumes from its checkpoint: only the interrupted word is done twice."""
    with served(folder, "counter:Counter") as server:
        run_id = await ask(server.url, QUESTION)
        async for _, line in sse_lines(server.url, f"/runs/{run_id}/events"):
            if "Word 2 is" in line:
                break
        server.kill()
    with served(folder, "counter:Counter") as server:
        events = [json.loads(line)["event"] for line in await watch_sse(server.url, run_id)]
    assert [event["event_type"] for event in events].count("resumed") == 1
    said = [event["message"] for event in events if event["event_type"] == "agent_response"]
    assert said == [f"Word {number} is {word}." for number, word in enumerate(QUESTION.split(), 1)]
    assert events[-1]["event_type"] == "completed"


def holds_a_shelf(folder: Path) -> bool:
    """Whether a shelf is there. The end of its name depends on Python's database."""
    return any(folder.glob("runs.shelf*"))


async def test_the_journal_is_served_and_survives(folder: Path) -> None:
    """The next server has what a killed one wrote, byte for byte."""
    orchestrator = ("--orchestrator", "counter:Counter")
    with served(folder, "shelf:", *orchestrator) as server:
        run_id = await ask(server.url, QUESTION)
        lines = await watch_sse(server.url, run_id)
        server.kill()
    assert holds_a_shelf(folder)
    with served(folder, "shelf:", *orchestrator) as server:
        assert await watch_sse(server.url, run_id) == lines


def test_the_journal_keeps_the_promises_of_the_kit(folder: Path) -> None:
    """As the page runs it: pytest alone, without plug-ins."""
    (command,) = [line for line in blocks.commands(PAGE) if line.startswith("pytest")]
    plain = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PATH": ""}
    python = [sys.executable, "-m", *command.split()]
    done = subprocess.run(python, cwd=folder, env=plain, capture_output=True, text=True, timeout=120, check=False)
    passed = re.search(r"(\d+) passed", done.stdout)
    assert done.returncode == 0, done.stdout
    assert passed is not None
    assert int(passed[1]) > 18


async def test_the_transport_carries_the_log_to_its_viewers(folder: Path) -> None:
    """Live and late, byte for byte; an unknown run is refused."""
    with served(folder, "lines:Lines", "--orchestrator", "counter:Counter") as server:
        run_id = await ask(server.url, QUESTION)
        async with client_of(server.url) as client:
            live = (await client.get(f"/lines/{run_id}")).text.splitlines()
            late = (await client.get(f"/lines/{run_id}")).text.splitlines()
            assert (await client.get(f"/lines/{'0' * 32}")).status_code == 404
        assert live == late == await watch_sse(server.url, run_id)


def test_imports_of_the_page_are_public() -> None:
    text = "\n".join(blocks.modules(PAGE).values())
    named = {
        name.strip() for names in re.findall(r"from askstream import ([^\n(]+)", text) for name in names.split(",")
    }
    assert named
    assert named <= set(askstream.__all__)
