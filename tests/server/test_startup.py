"""What a command imports before it answers. Time is not looked at: it is made of imports, and those can be counted."""

import json
import os
import subprocess
import sys

import pytest

# What nobody who only looks for help should wait for; each of them takes longer than all the rest.
HEAVY = ("autogen_agentchat", "autogen_core", "autogen_ext", "openai", "pydantic", "starlette", "uvicorn", "sqlite3")
LIBRARIES = ("autogen_agentchat", "autogen_core", "autogen_ext", "openai")
# What else the first answer of /health needs none of: both are a tenth of what would be imported before it.
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
    """The modules that are there when `program` has run."""
    program += "\nimport json, sys\nprint(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    # Without what measures coverage, which brings modules of its own into every process.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_help_imports_nothing_that_serves() -> None:
    """It answers in the blink of an eye: no framework, no database, no library of a model."""
    modules = imported(_HELP)
    assert "typer" in modules
    assert not modules.intersection(HEAVY)
    assert {name for name in modules if name.startswith("askstream.")} == {"askstream.server", "askstream.server.cli"}
    assert len(modules) < MOST_FOR_HELP


@pytest.mark.parametrize("program", [_SERVE, _SERVE + _TEAM])
def test_a_server_answers_before_it_imports_what_teams_need(program: str) -> None:
    """AutoGen and the model's library come in a thread, once requests are answered."""
    assert not imported(program).intersection(LIBRARIES + LATER)
