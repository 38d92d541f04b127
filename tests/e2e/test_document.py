"""The document's three clients, unchanged, and its promises about events and logs."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import jsonschema
import pytest
from playwright.sync_api import sync_playwright

from tests.e2e.conftest import ROOT, ServerProcess, Start
from tests.timing import PATIENCE

QUESTION = "Generate a monthly business report for our sales performance"
CURL = ["-H", "Content-Type: application/json", "-d", '{"question": "Generate a business report"}']
TYPES = {"started", "agent_thinking", "agent_response", "tool_execution", "completed"}


def _events(body: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:])["event"] for line in body.splitlines() if line.startswith("data: ")]


def test_curl(server: ServerProcess) -> None:
    """The command as it is printed, with another port."""
    done = subprocess.run(
        ["curl", "-sN", "-X", "POST", f"{server.url}/ask-stream", *CURL],
        capture_output=True,
        text=True,
        check=True,
        timeout=3 * PATIENCE,
    )
    events = _events(done.stdout)
    assert events[0]["event_type"] == "started"
    assert events[0]["data"]["question"] == "Generate a business report"
    assert events[-1]["event_type"] == "completed"
    assert {event["event_type"] for event in events} == TYPES
    assert all({"timestamp", "agent_name", "message", "data"} <= event.keys() for event in events)


def test_the_python_client(server: ServerProcess) -> None:
    """`streaming_client_example.py "question"` prints agents and messages, and the answer."""
    printed = _client(server, QUESTION)
    for agent in ("PlanningAgent", "DataAgent", "AnalysisAgent", "ReportAgent"):
        assert f"\n{agent}: " in printed


def test_the_python_client_with_test(server: ServerProcess) -> None:
    """`streaming_client_example.py test` streams the mock events."""
    assert "TestAgent: " in _client(server, "test")


def test_the_python_client_without_a_server() -> None:
    """It prints one line: the address, and what to do."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and doesn't listen
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        done = _run_client(url, "test")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"No server answers at {url}. Start one")


def _client(server: ServerProcess, argument: str) -> str:
    done = _run_client(server.url, argument)
    done.check_returncode()
    return done.stdout


def _run_client(url: str, argument: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "examples" / "streaming_client_example.py"), argument],
        env={"ASKSTREAM_URL": url, "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=3 * PATIENCE,
    )


# As the document prints it, but it collects its log, and continues after a line that a network chunk cuts in two, where
# the document's stops.
JAVASCRIPT = """
async (question) => {
    const seen = [];
    const response = await fetch('/ask-stream', {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ question })
    });
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    while (true) {
        const { value, done } = await reader.read();
        if (done) break;
        const chunk = decoder.decode(value);
        const lines = chunk.split('\\n');
        for (const line of lines) {
            if (line.startsWith('data: ')) {
                const event = JSON.parse(line.slice(6));
                seen.push(`${event.event.agent_name}: ${event.event.message}`);
            }
        }
    }
    return seen;
}
"""


@pytest.mark.browser
def test_the_javascript_client_in_a_browser(server: ServerProcess, chromium_launch: dict[str, Any]) -> None:
    """As the document prints it; it parses every chunk by itself, so no small event may be cut in two."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**chromium_launch)
        page = browser.new_page()
        page.goto(f"{server.url}/client")
        seen = page.evaluate(JAVASCRIPT, "What was revenue in March 2026?")
        browser.close()
    assert seen[0].startswith("System: ")
    assert any(line.startswith("ReportAgent: ") for line in seen)


def test_test_stream_has_the_documents_five_types(server: ServerProcess) -> None:
    """Without a model, through the same log: its run can be replayed."""
    answer = httpx2.get(f"{server.url}/test-stream", timeout=3 * PATIENCE)
    events = _events(answer.text)
    assert [event["event_type"] for event in events] == [
        "started",
        "agent_thinking",
        "agent_response",
        "tool_execution",
        "completed",
    ]
    replayed = httpx2.get(f"{server.url}/runs/{answer.headers['x-run-id']}/events", timeout=3 * PATIENCE)
    assert replayed.text == answer.text


def test_every_event_is_valid_against_the_schema_that_the_server_serves(server: ServerProcess) -> None:
    """Chunks included."""
    schema = httpx2.get(f"{server.url}/schemas/event.json").json()
    answer = httpx2.post(f"{server.url}/ask-stream", json={"question": QUESTION, "tokens": True}, timeout=3 * PATIENCE)
    events = _events(answer.text)
    assert "agent_chunk" in {event["event_type"] for event in events}
    every = {"$defs": schema.pop("$defs"), "type": "array", "items": schema}
    jsonschema.validate([{"event": event} for event in events], every)


def test_logs_are_the_documents_and_hold_no_question(
    start: Start, tmp_path: Path, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    """`tail -f server.log | grep STREAM` works; each line names its run; questions stay out at INFO."""
    log = tmp_path / "logs" / "server.log"
    server = start(ASKSTREAM_LOG_FILE=str(log))
    secret = "What was revenue in March 2026 for Zanzibar7?"
    answer = httpx2.post(f"{server.url}/ask-stream", json={"question": secret}, timeout=3 * PATIENCE)
    run_id = answer.headers["x-run-id"]
    eventually(lambda: f"run={run_id}" in log.read_text())
    server.stop()
    text = log.read_text()
    stream = [line for line in text.splitlines() if " - STREAM - " in line]
    pattern = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} - STREAM - INFO - run=[0-9a-f]{32} id=\d+ \w+ \w+"
    assert len(stream) > 5
    assert all(re.fullmatch(pattern, line) and run_id in line for line in stream)
    assert re.search(r"^\S+ \S+ - __main__ - INFO - ", text, re.MULTILINE)
    assert "Zanzibar7" not in text + server.output
    assert "Traceback" not in text + server.output


def test_log_level_is_a_setting(start: Start) -> None:
    """DEBUG logs chunks too, WARNING nothing of a run that succeeds."""
    quiet = start(LOG_LEVEL="WARNING")
    httpx2.get(f"{quiet.url}/test-stream", timeout=3 * PATIENCE)
    quiet.stop()
    assert "STREAM" not in quiet.output
