"""Every block of docs/teams.md works: served by its own command, and watched over both transports."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from askstream.server.cli import app
from tests.agents.fake_provider import Body, Provider, Reply, provider
from tests.docs import blocks
from tests.e2e.conftest import ROOT, ServerProcess, started
from tests.e2e.viewers import ask, client_of, sse_lines, watch_sse, watch_ws

PAGE = ROOT / "docs" / "teams.md"
README = ROOT / "README.md"
MODULES = {"sales_team.py", "asking_team.py", "shelf_team.py", "save.py"}
QUESTION = "How were the sales of October 2026?"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the page's modules."""
    for name, text in blocks.modules(PAGE).items():
        (tmp_path / name).write_text(text)
    return tmp_path


def model(body: Body, _: int) -> Reply:
    """A model that calls an agent's tool, uses its result, and approves as a critic."""
    messages = body["messages"]
    if "APPROVE" in str(messages[0]["content"]):
        return Reply(text=["It is right. ", "APPROVE"])
    if messages[-1]["role"] == "tool":
        return Reply(text=[f"They were {messages[-1]['content']}."])
    for tool in body.get("tools", []):
        name = tool["function"]["name"]
        return Reply(calls=[(name, json.dumps({"month": "2026-10"} if name == "sales_of" else {"text": "well"}))])
    return Reply(text=["I heard: ", str(messages[-1]["content"])])


@pytest.fixture
async def fake() -> AsyncGenerator[Provider]:
    async with provider(model) as serving:
        yield serving


@contextmanager
def served(folder: Path, word: str, fake: Provider) -> Generator[ServerProcess]:
    """Run the page's command with this word in `folder`."""
    command = blocks.serving(PAGE, word)
    assert command.variables == {"OPENAI_API_KEY": "…"}
    variables = {"OPENAI_API_KEY": "x", "OPENAI_BASE_URL": fake.base_url, "PYTHONWARNINGS": "ignore"}
    with started(folder / "data", *command.options, cwd=str(folder), **variables) as server:
        yield server


async def seen(server: ServerProcess, run_id: str) -> list[dict[str, Any]]:
    """A run's events, which both transports show alike."""
    lines = await watch_sse(server.url, run_id)
    assert await watch_ws(server.url, run_id) == lines
    return [json.loads(line)["event"] for line in lines]


def notes(folder: Path) -> list[Path]:
    return list(folder.glob("notes-*"))


def said(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(event["agent_name"], event["message"]) for event in events if event["event_type"] == "agent_response"]


def test_the_page_has_these_blocks() -> None:
    """No block is left out below."""
    assert set(blocks.modules(PAGE)) == MODULES
    assert sum("askstream serve" in line for line in blocks.commands(PAGE)) == 4


def test_help_has_the_same_forms() -> None:
    """The page, the README and the command name the same."""
    from typer.testing import CliRunner

    shown = " ".join(CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "200"}).output.split())
    for form in ("package.module:name", "file.py:name", "team.json"):
        assert form in shown
        assert form in README.read_text()
        assert form.replace("file.py", "sales_team.py") in PAGE.read_text()


@pytest.mark.parametrize("word", ["sales_team.py", "team.json"])
async def test_a_notebooks_team_is_served(folder: Path, fake: Provider, word: str) -> None:
    """As a file of its cells, or saved as JSON; twice, and the second run doesn't remember the first."""
    if word == "team.json":
        saving = [sys.executable, "-W", "ignore", "save.py"]
        key = {"OPENAI_API_KEY": "sk-author", "PYTHONPATH": str(folder)}
        await asyncio.to_thread(subprocess.run, saving, cwd=folder, env=key, check=True)
        assert "sk-author" not in (folder / "team.json").read_text()
        (folder / "sales_team.py").unlink()
    with served(folder, word, fake) as server:
        for _ in range(2):
            events = await seen(server, await ask(server.url, QUESTION))
            assert events[-1]["event_type"] == "completed"
            assert said(events) == [("Writer", "They were 900."), ("Critic", "It is right. APPROVE")]
        async with client_of(server.url) as client:
            about = (await client.get("/about")).json()
        words = ("Sales figures", QUESTION) if word == "sales_team.py" else ("", None)  # JSON has no place for them
        assert (about["title"], next(iter(about["starters"]), None)) == words
        assert about["ready"]
    requests = [[message["role"] for message in request["messages"]] for request in fake.requests]
    assert len(requests) == 6
    assert requests[:3] == requests[3:]


async def asked(server: ServerProcess, run_id: str) -> str:
    """The id of the run's first question to a person."""
    async for _, line in sse_lines(server.url, f"/runs/{run_id}/events"):
        event = json.loads(line)["event"]
        if event["event_type"] == "input_requested":
            return event["data"]["request_id"]
    raise AssertionError("the run ended without a question")


async def test_a_persons_answer_reaches_the_team(folder: Path, fake: Provider) -> None:
    """The run waits for it."""
    with served(folder, "asking_team.py", fake) as server:
        run_id = await ask(server.url, QUESTION)
        request_id = await asked(server, run_id)
        answer = {"request_id": request_id, "value": "with tea"}
        async with client_of(server.url) as client:
            assert (await client.post(f"/runs/{run_id}/input", json=answer)).status_code == 200
        events = await seen(server, run_id)
    assert said(events)[-1][0] == "Helper"
    assert events[-1]["data"]["final_response"].startswith("I heard: ")
    assert "with tea" in events[-1]["data"]["final_response"]


async def test_what_a_run_opens_is_closed_after_it(folder: Path, fake: Provider) -> None:
    """Also what the check at the start has opened."""
    with served(folder, "shelf_team.py", fake) as server:
        assert notes(folder) == []
        events = await seen(server, await ask(server.url, QUESTION))
    assert said(events) == [("Clerk", "There are 1 notes.")]
    assert notes(folder) == []


async def test_a_team_that_needs_a_model_says_so_at_the_start(folder: Path) -> None:
    """And its runs end in that error."""
    command = blocks.serving(PAGE, "shelf_team.py")
    with started(folder / "data", *command.options, cwd=str(folder)) as server:
        assert "OPENAI_API_KEY on the server, or OPENAI_BASE_URL" in server.output
        assert "model  no model configured" in server.output
        events = await seen(server, await ask(server.url, QUESTION))
    assert events[-1]["event_type"] == "error"
    assert events[-1]["data"]["error"] == "model_missing"
    assert "OPENAI_BASE_URL" in events[-1]["message"]
    assert notes(folder) == []
