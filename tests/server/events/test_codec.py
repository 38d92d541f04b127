"""The one JSON form of an event."""

import json
import sys
import tracemalloc
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askstream.server.events import (
    AgentChunk,
    AgentResponse,
    AgentThinking,
    Cancelled,
    Completed,
    Draft,
    Drain,
    Event,
    EventBody,
    Failed,
    Gap,
    InputRequested,
    InputResolved,
    Notice,
    Resumed,
    Started,
    ToolExecution,
    Usage,
    decode,
    encode,
    encode_notice,
    rfc3339,
    with_progress,
)
from askstream.server.events.codec import text

MOMENT = datetime(2026, 11, 22, 10, 30, 0, 123_000, tzinfo=UTC)
BODIES: list[EventBody] = [
    Started(question="Why?", session_id="s", model="m"),
    AgentThinking(progress=25),
    AgentResponse(progress=50, usage=Usage(7, 8), message_id="x"),
    ToolExecution(tool_name="t", parameters={"a": [1, None]}, call_id="c", status="started"),
    ToolExecution(tool_name="t", parameters={}, call_id="c", status="failed", result="no", duration_ms=3),
    Completed(final_response="r", total_messages=4, response_length=1, usage=Usage(1, 2), duration_ms=9),
    Failed(error="internal", progress=25),
    Cancelled(reason="client"),
    InputRequested(request_id="q", prompt="?", schema={"type": "string"}, deadline="2026-11-22T10:30:00.123Z"),
    InputResolved(request_id="q", outcome="answered", value={"yes": True}),
    Resumed(attempt=2, from_id=7),
    AgentChunk(delta="wo", message_id="x"),
]


def event(body: EventBody, message: str = "hello") -> Event:
    return Event(7, "run", MOMENT, "PlanningAgent", message, body)


@pytest.mark.parametrize("body", BODIES, ids=lambda body: type(body).__name__)
def test_an_encoded_event_decodes_to_an_equal_one(body: EventBody) -> None:
    """Both ends of a wire agree on every type of event."""
    assert decode(encode(event(body))) == event(body)


def test_the_envelope_is_the_first_apis_with_id_and_run_id_at_the_end() -> None:
    """Existing clients find every field of the first API, in its order."""
    line = encode(event(AgentThinking(progress=25), "Planning task breakdown..."))
    assert line == (
        b'{"event":{"event_type":"agent_thinking","timestamp":"2026-11-22T10:30:00.123Z",'
        b'"agent_name":"PlanningAgent","message":"Planning task breakdown...",'
        b'"data":{"progress":25},"id":7,"run_id":"run"}}'
    )


def test_a_notice_has_no_id() -> None:
    """A notice can't move a cursor. `from` has this name on the wire although Python reserves the word."""
    told = json.loads(encode_notice(Notice("run", MOMENT, "gone", Gap(from_=2, to=5, reason="trimmed"))))["event"]
    assert "id" not in told
    assert told["event_type"] == "gap"
    assert told["data"] == {"from": 2, "to": 5, "reason": "trimmed"}
    assert json.loads(encode_notice(Notice("run", MOMENT, "", Drain(retry_ms=5))))["event"]["data"] == {"retry_ms": 5}


def test_a_timestamp_is_in_utc_with_z() -> None:
    """It has one form of RFC 3339, from any zone."""
    assert rfc3339(MOMENT.astimezone(timezone(timedelta(hours=5)))) == "2026-11-22T10:30:00.123Z"


@given(st.integers(0, 10**17) | st.just(10**15))
def test_every_time_has_milliseconds_that_are_cut_and_not_rounded(microseconds: int) -> None:
    """They are there even if they are zero, which the encoder leaves out."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    expected = f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"
    assert rfc3339(moment) == expected
    assert rfc3339(moment.astimezone(timezone(timedelta(hours=-7)))) == expected


@given(st.text(alphabet=st.characters()))
def test_any_text_fits_on_one_line_of_utf8(message: str) -> None:
    """Newlines, NULs or lone surrogates of a model never break the frame."""
    line = encode(event(AgentThinking(), message))
    assert b"\n" not in line
    assert b"\r" not in line
    assert json.loads(line.decode("utf-8"))["event"]["id"] == 7


@pytest.mark.parametrize(
    ("given_", "sent"),
    [
        ({"n": 2**70}, {"n": str(2**70)}),
        ({"n": float("nan")}, {"n": None}),
        ({"s": "a\ud800b"}, {"s": "a\ufffdb"}),
        ({"s": "\ud83d" + "\ude00"}, {"s": "\U0001f600"}),
        ({1: (2, {3})}, {"1": [2, "{3}"]}),
    ],
)
def test_values_that_json_cannot_hold_are_replaced(given_: Any, sent: Any) -> None:
    """A tool may be called with anything; the run goes on."""
    body = ToolExecution(tool_name="t", parameters=given_, call_id="c", status="started")
    assert json.loads(encode(event(body)))["event"]["data"]["parameters"] == sent


@pytest.mark.parametrize("line", [b"", b"[]", b"{}", b'{"event":{"event_type":"unheard of"}}', b'{"event":7}'])
def test_anything_else_is_not_an_event(line: bytes) -> None:
    """A client that reads garbage gets a ValueError."""
    with pytest.raises(ValueError, match="expected an event envelope"):
        decode(line)


def test_progress_is_raised_and_never_lowered() -> None:
    """A body without progress is left alone."""
    assert with_progress(Draft("A", "", AgentThinking(progress=0)), 50).body == AgentThinking(progress=50)
    assert with_progress(Draft("A", "", AgentThinking(progress=75)), 50).body == AgentThinking(progress=75)
    chunk = Draft("A", "", AgentChunk(delta="x", message_id="m"))
    assert with_progress(chunk, 50) is chunk


def test_text_is_a_string_as_it_is_and_json_otherwise() -> None:
    """A tool's result becomes an excerpt this way."""
    assert text("as it is") == "as it is"
    assert text({"a": [1]}) == '{"a":[1]}'


@pytest.mark.parametrize("length", [10, 300, 3000])
def test_a_line_holds_no_more_memory_than_its_bytes_need(length: int) -> None:
    """orjson gives 4 KB and more to every line. A channel keeps hundreds of them."""
    event = Event(1, "r", MOMENT, "A", "x" * length, AgentThinking())
    encode(event)
    tracemalloc.start()
    try:
        lines = [encode(event) for _ in range(100)]
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1.2 * sum(map(sys.getsizeof, lines)) + 2000
