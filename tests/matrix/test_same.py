"""Each kind of team says the same served, over each transport, as with `run_stream` in process."""

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.e2e.conftest import ServerProcess
from tests.e2e.viewers import watch_sse, watch_ws
from tests.matrix import runs
from tests.matrix.conftest import environment
from tests.matrix.runs import Seen, Step
from tests.matrix.script import Model
from tests.matrix.teams import KINDS

# Warnings of autogen_ext in process: of its code executor, and of its model client for structured answers.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Using LocalCommandLineCodeExecutor",
    "ignore:No approval function set",
    "ignore:Pydantic serializer warnings",
)


TRANSPORTS = {"sse": watch_ws, "websocket": watch_sse}
"""Each with the way to watch the same run over the other."""


@pytest.mark.parametrize("kind", KINDS)
async def test_a_served_run_is_that_of_run_stream(
    kind: str, server: ServerProcess, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same messages, tool calls and results in the same order, usage, stop reason and answer."""
    for name, value in environment(model).items():
        monkeypatch.setenv(name, value)
    expected = await runs.in_process(kind, model)
    for transport, watch in TRANSPORTS.items():
        async with runs.asked(transport, server.url, kind) as stream:
            lines = await runs.followed(server.url, stream, iter(KINDS[kind].replies))
        events = [json.loads(line)["event"] for line in lines]
        assert events[-1]["event_type"] == "completed", events[-1]
        seen = runs.of_events(events, expected.steps)
        assert _ordered(kind, seen) == _ordered(kind, expected)
        assert seen == replace(expected, steps=seen.steps)
        _check_chunks(events)
        assert await watch(server.url, events[0]["run_id"], filters={"tokens": True}) == lines


def _ordered(kind: str, seen: Seen) -> list[Step]:
    """Of agents that work at the same time, only each one's own order is fixed."""
    return sorted(seen.steps, key=lambda step: str(step[1])) if KINDS[kind].at_once else seen.steps


def _check_chunks(events: list[dict[str, Any]]) -> None:
    """The pieces of a text are the text, and come under its author's name."""
    pieces: dict[tuple[str, str], str] = {}
    for event in events:
        key = event["agent_name"], event["data"].get("message_id")
        if event["event_type"] == "agent_chunk":
            pieces[key] = pieces.get(key, "") + event["data"]["delta"]
        elif event["event_type"] == "agent_response" and key in pieces:
            assert pieces.pop(key) == event["message"]
