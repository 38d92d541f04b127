"""No character of an agent's text ends a line, over SSE and in NDJSON."""

import json
from datetime import UTC, datetime

import httpx
import pytest

from askstream.server.events import AgentThinking, Draft, decode
from askstream.server.events.codec import encode_as

MOMENT = datetime(2026, 11, 30, tzinfo=UTC)
TEXT = "one\u2028two\u2029three\x85four\x0bfive\x0csix\x1cseven\r\neight"


def test_a_line_is_a_line_for_every_reader() -> None:
    """And says the same as before."""
    line = encode_as(Draft(TEXT, TEXT, AgentThinking()), 1, "r", MOMENT)
    assert len(line.decode().splitlines()) == 1
    assert (decode(line).message, decode(line).agent_name) == (TEXT, TEXT)


def test_other_characters_stay_as_they_are() -> None:
    """Escapes would make a text in another script three times as long."""
    assert "Größe 数字 😀 \u2027\u202a\x86".encode() in encode_as(
        Draft("A", "Größe 数字 😀 \u2027\u202a\x86", AgentThinking()), 1, "r", MOMENT
    )


@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
def test_a_client_that_splits_at_unicodes_line_ends_gets_whole_events(way: str, accept: str) -> None:
    """httpx does so."""
    with httpx.Client(base_url=way, verify=False, timeout=60) as client:
        run = client.post("/ask", json={"question": "\u20281\u20290"}).json()["run_id"]
        with client.stream("GET", f"/runs/{run}/events", headers={"Accept": accept}) as answer:
            lines = [line.removeprefix("data: ") for line in answer.iter_lines()]
    events = [json.loads(line)["event"] for line in lines if line.startswith("{")]
    assert [event["id"] for event in events] == [1, 2, 3]
    assert events[0]["data"]["question"] == "\u20281\u20290"
