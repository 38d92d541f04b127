"""docs/embedding.md: each of its Python blocks runs unchanged, in the file that its first line names."""

import ast
import asyncio
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.agents.fake_provider import Reply, provider
from tests.e2e.viewers import ask, client_of, is_terminal, watch_sse
from tests.embedding.conftest import COMMANDS, Process, Start
from tools.environment import ROOT

PAGE = ROOT / "docs" / "embedding.md"


def _python(document: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL)


BLOCKS = {block.partition("\n")[0].removeprefix("# "): block for block in _python(PAGE)}
RUN_HERE = {
    "my_team.py",
    "host.py",
    "host_with_lifespan.py",
    "alone.py",
    "script.py",
    "notebook.py",
    "notebook_end.py",
    "test_host.py",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The blocks as files. Two are cells of a notebook, and no modules."""
    for name, block in BLOCKS.items():
        (tmp_path / name).write_text(block)
    return tmp_path


def test_no_block_is_left_out() -> None:
    assert set(BLOCKS) == RUN_HERE


def test_the_readme_shows_the_same() -> None:
    """The README's block is the one that mounts the application."""
    (shown,) = [block for block in _python(ROOT / "README.md") if "create_app" in block]
    assert set(shown.splitlines()) <= set(BLOCKS["host.py"].splitlines())


@pytest.fixture(scope="module")
def model() -> Iterator[dict[str, str]]:
    """The variables that name a model. Its server has a thread and a loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    serving = provider([Reply(text=["Fine."])])
    fake = asyncio.run_coroutine_threadsafe(serving.__aenter__(), loop).result(10)
    yield {"OPENAI_BASE_URL": fake.base_url, "ASKSTREAM_MODEL": "fake"}
    asyncio.run_coroutine_threadsafe(serving.__aexit__(None, None, None), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.mark.parametrize(("app", "prefix"), [("host:app", "/ai"), ("host_with_lifespan:app", "/ai"), ("alone:app", "")])
async def test_the_applications_answer(
    folder: Path, model: dict[str, str], start: Start, app: str, prefix: str
) -> None:
    url = start("uvicorn", app, cwd=folder, **model).url
    run_id = await ask(url + prefix, "How are you?")
    lines = await watch_sse(url + prefix, run_id)
    assert is_terminal(lines[-1])
    assert '"completed"' in lines[-1]
    if app == "host_with_lifespan:app":
        async with client_of(url) as client:
            assert (await client.get("/")).json() == "hello"


def test_the_servers_commands_are_those_that_are_tested() -> None:
    """The page's commands and those of the tests differ only in their addresses."""
    (shown,) = re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.DOTALL)
    for line in shown.splitlines():
        kind, *rest = line.split()
        assert set(rest) <= set(COMMANDS[kind]("alone:app", 0))


async def test_the_script_serves_until_it_is_stopped(folder: Path, model: dict[str, str]) -> None:
    script = Process([sys.executable, "script.py"], cwd=folder, **model)
    try:
        await asyncio.to_thread(script.wait_for, lambda: "serves on" in script.output)
        url = script.lines[0].split()[-1]
        assert is_terminal((await watch_sse(url, await ask(url, "How are you?")))[-1])
        assert await asyncio.to_thread(script.end) == 0
        assert script.lines[-1] == "The server has stopped.\n"
    finally:
        script.release()


@pytest.fixture
def in_folder(folder: Path, model: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, value in model.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    yield folder
    sys.modules.pop("my_team", None)


async def test_the_notebooks_cells_serve_and_stop(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a notebook runs them: with `await` at the top, one after the other, in one loop and one namespace."""
    names: dict[str, Any] = {}
    await _run_cell("notebook.py", names)
    url = capsys.readouterr().out.strip()
    assert is_terminal((await watch_sse(url, await ask(url, "How are you?")))[-1])
    await _run_cell("notebook_end.py", names)
    with pytest.raises(httpx2.ConnectError):
        await ask(url, "?")


async def _run_cell(name: str, names: dict[str, Any]) -> None:
    cell = compile(BLOCKS[name], name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    waiting = eval(cell, names)
    if waiting is not None:
        await waiting


def test_the_test_passes(folder: Path, model: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_host.py"],
        cwd=folder,
        env={**os.environ, **model},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
