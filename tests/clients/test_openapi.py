"""openapi.json says what the server does: schemathesis tries all of it, streams included, and finds nothing."""

import re
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from tests.e2e.conftest import started

HERE = Path(__file__).parent
EXAMPLES = 25


@pytest.mark.parametrize("direct", ["true", "false"])
def test_all_references_lead_somewhere(tmp_path: Path, direct: str) -> None:
    """In the description as it is served."""
    with started(tmp_path, "--orchestrator", "tests.clients.answering:echo", ASKSTREAM_DIRECT=direct) as server:
        described = httpx2.get(f"{server.url}/openapi.json").json()
    names = {match[1] for match in re.finditer(r"#/components/schemas/(\w+)", str(described))}
    assert {"Event", "JsonValue", "Problem", "SseEvent"} <= names
    assert names <= described["components"]["schemas"].keys()


@pytest.mark.long
@pytest.mark.parametrize("direct", ["true", "false"])
def test_schemathesis_finds_nothing(tmp_path: Path, direct: str) -> None:
    with started(tmp_path, "--orchestrator", "tests.clients.answering:echo", ASKSTREAM_DIRECT=direct) as server:
        command = [Path(sys.executable).with_name("schemathesis"), "--config-file", HERE / "schemathesis.toml", "run"]
        options = ["--max-examples", str(EXAMPLES), "--seed", "1", "--no-color", "--suppress-health-check", "all"]
        done = subprocess.run(
            [*command, f"{server.url}/openapi.json", *options],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
        )
    assert done.returncode == 0, done.stdout
    assert re.search(r"Tested: (1[5-9]|[2-9]\d)\b", done.stdout), done.stdout
