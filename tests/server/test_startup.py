"""The imports of a command before it answers. They are counted, not timed: nearly all of the time is imports."""

import json
import os
import subprocess
import sys

import pytest

from tests.timing import PATIENCE

# Modules that `--help` must not import; each of them needs longer than all the rest.
HEAVY = ("autogen_agentchat", "autogen_core", "autogen_ext", "openai", "pydantic", "starlette", "uvicorn", "sqlite3")
LIBRARIES = ("autogen_agentchat", "autogen_core", "autogen_ext", "openai")
# Modules that the first response of /health must not import, either: both are a tenth of all imports before it.
LATER = ("jsonschema", "askstream.agents.insights.offline.analyst")
# `--help` needs some 360, of which typer and rich are nearly all.
MOST_FOR_HELP = 450

_HELP = """
import contextlib
from askstream.server.cli import app
with contextlib.suppress(SystemExit):
    app(["--help"])
"""
_SERVE = """
import askstream.server.app, askstream.server.process
import askstream.transports.sse, askstream.transports.websocket.endpoint
"""
_TEAM = "import askstream.agents.factory, askstream.agents.insights.offline"


def imported(program: str) -> set[str]:
    """Return the modules that are imported when `program` has run."""
    program += "\nimport json, sys\nprint(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    # Without the measurement of coverage, which imports modules into every process.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
        check=True,
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_help_imports_nothing_that_serves() -> None:
    """No framework, no database, no library of a model."""
    modules = imported(_HELP)
    assert "typer" in modules
    assert not modules.intersection(HEAVY)
    assert {name for name in modules if name.startswith("askstream.")} == {"askstream.server", "askstream.server.cli"}
    assert len(modules) < MOST_FOR_HELP


@pytest.mark.parametrize("program", [_SERVE, _SERVE + _TEAM])
def test_a_server_answers_before_it_imports_what_teams_need(program: str) -> None:
    """A thread imports AutoGen and the model's library, once requests are answered."""
    assert not imported(program).intersection(LIBRARIES + LATER)
