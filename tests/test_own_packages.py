"""A project with its own packages `agents`, `server`, `transports` and `web` is served from any place."""

import json
from collections.abc import Mapping
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.test_package import PACKAGES, built, environment, environment_with, serving

__all__ = ["built", "environment"]  # fixtures

SALES = """
import agents, server, transports, web
from autogen_agentchat.agents import AssistantAgent
from autogen_ext.models.replay import ReplayChatCompletionClient

def make():
    said = " ".join([agents.WHOSE, server.WHOSE, transports.WHOSE, web.WHOSE])
    return AssistantAgent("Sales", ReplayChatCompletionClient([said]))
"""
# The build of a wheel of a project's folders.
PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "{name}"
version = "1.0"
[tool.hatch.build.targets.wheel]
packages = {packages}
"""
# Like `openai-agents`: a package with a common name, without a team.
STRANGER = {"agents/__init__.py": "WHOSE = 'a stranger'\n", "agents/run.py": "class Runner: ...\n"}


def written(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def project(folder: Path) -> Path:
    packages = {f"{name}/__init__.py": f"WHOSE = 'our {name}'\n" for name in PACKAGES}
    return written(folder, packages | {"agents/sales.py": SALES})


def distribution(folder: Path, name: str) -> Path:
    """Add the file that makes a wheel of the packages in the folder."""
    packages = [path.name for path in folder.iterdir() if path.is_dir()]
    return written(folder, {"pyproject.toml": PYPROJECT.format(name=name, packages=json.dumps(packages))})


@pytest.fixture(scope="module")
def shared(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with another project's `agents` beside the wheel."""
    stranger = distribution(written(tmp_path_factory.mktemp("stranger"), STRANGER), "strange-agents")
    return environment_with(tmp_path_factory.mktemp("shared"), *built.glob("*.whl"), stranger)


def answer(url: str) -> str:
    """Return the team's answer."""
    question = json.dumps({"question": "Whose are you?"}).encode()
    request = Request(f"{url}/ask", question, {"Content-Type": "application/json"})
    with urlopen(request, timeout=60) as told:
        return json.loads(told.read())["message"]["content"]


OURS = "our agents our server our transports our web"
TEAM = ("--team", "agents.sales:make")
MODULE = ("bin/python", "-m", "askstream.server")


@pytest.mark.parametrize("command", [("bin/askstream",), MODULE], ids=["command", "module"])
def test_it_is_served_from_its_own_folder(shared: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    """Though another `agents` is installed."""
    with serving(shared, project(tmp_path), *TEAM, command=command) as url:
        assert answer(url) == OURS


def test_its_folder_needs_no_init(shared: Path, tmp_path: Path) -> None:
    """Python by itself would prefer the installed package to a folder without one."""
    project(tmp_path)
    (tmp_path / "agents" / "__init__.py").unlink()
    sales = (tmp_path / "agents" / "sales.py").read_text().replace("agents.WHOSE", "'our agents'")
    (tmp_path / "agents" / "sales.py").write_text(sales)
    with serving(shared, tmp_path, *TEAM) as url:
        assert answer(url) == OURS


def test_it_is_served_from_pythonpath(shared: Path, tmp_path: Path) -> None:
    """From another folder, which holds nothing."""
    (tmp_path / "elsewhere").mkdir()
    path = str(project(tmp_path / "project"))
    with serving(shared, tmp_path / "elsewhere", *TEAM, PYTHONPATH=path) as url:
        assert answer(url) == OURS


def test_it_is_served_where_it_is_installed(built: Path, tmp_path: Path) -> None:
    """All its packages lie beside ours then."""
    installed = distribution(project(tmp_path / "project"), "own-project")
    environment = environment_with(tmp_path / "environment", *built.glob("*.whl"), installed)
    with serving(environment, tmp_path / "project" / "web", *TEAM) as url:
        assert answer(url) == OURS
