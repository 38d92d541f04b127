"""A client that comes back gets the events after its cursor, whichever way it sends that, and starts no second run."""

import json
from typing import Any

import httpx2
import pytest

from askstream.transports.framing import Decoder
from tests.e2e.viewers import ask, client_of, watch_sse

QUESTION = "3 0"
LAST = 5  # started, three numbers, completed


def ids(answer: httpx2.Response) -> list[int]:
    return [json.loads(message.data)["event"]["id"] for message in Decoder().feed(answer.content)]


async def count_runs(client: httpx2.AsyncClient) -> int:
    return len((await client.get("/runs", params={"limit": 200})).json()["runs"])


@pytest.mark.parametrize(
    ("headers", "query", "expected"),
    [
        ({}, {}, [1, 2, 3, 4, 5]),
        ({"Last-Event-ID": "3"}, {}, [4, 5]),
        ({"Last-Event-ID": ""}, {"after": "4"}, [5]),
        ({}, {"lastEventId": "2"}, [3, 4, 5]),
        ({}, {"lastEventId": "2 "}, [3, 4, 5]),
        ({}, {"after": "1"}, [2, 3, 4, 5]),
        ({}, {"after": "0"}, [1, 2, 3, 4, 5]),
        ({}, {"lastEventId": "2", "after": "4"}, [3, 4, 5]),
        ({"Last-Event-ID": "4"}, {"lastEventId": "2", "after": "1"}, [5]),
        ({"Last-Event-ID": "4"}, {"after": "latest"}, [5]),
    ],
)
async def test_the_cursor_comes_from_the_header_then_from_the_query(
    way: str, headers: dict[str, str], query: dict[str, str], expected: list[int]
) -> None:
    """Of a run, and of a question that is sent again with its key."""
    key, body = f"key-{json.dumps([headers, query])}".encode().hex()[:128], {"question": QUESTION}
    async with client_of(way) as client:
        first = await client.post("/ask-stream", json=body, headers={"Idempotency-Key": key})
        run_id = first.headers["x-run-id"]
        replay = await client.get(f"/runs/{run_id}/events", headers=headers, params=query)
        again = await client.post("/ask-stream", json=body, headers={"Idempotency-Key": key, **headers}, params=query)
    assert (ids(replay), ids(again)) == (expected, expected)
    assert again.headers["x-run-id"] == run_id


@pytest.mark.parametrize(
    "sent", [{"headers": {"Last-Event-ID": "5"}}, {"params": {"lastEventId": "5"}}, {"params": {"after": "latest"}}]
)
async def test_a_client_that_has_the_end_gets_204(way: str, sent: dict[str, Any]) -> None:
    """An `EventSource` stops then. So does a question that is repeated with its key."""
    body = {"question": QUESTION, "idempotency_key": f"ended-{next(iter(sent))}-{len(str(sent))}"}
    async with client_of(way) as client:
        run_id = (await client.post("/ask-stream", json=body)).headers["x-run-id"]
        assert (await client.get(f"/runs/{run_id}/events", **sent)).status_code == 204
        assert (await client.post("/ask-stream", json=body, **sent)).status_code == 204


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        ({"headers": {"Last-Event-ID": "3"}}, 409, "cursor_without_key"),
        ({"params": {"lastEventId": "3"}}, 409, "cursor_without_key"),
        ({"params": {"after": "latest"}}, 409, "cursor_without_key"),
        ({"headers": {"Last-Event-ID": "3", "Idempotency-Key": "nobody-has-it"}}, 404, "run_not_found"),
        ({"headers": {"Last-Event-ID": "abc"}, "params": {"after": "1"}}, 409, "cursor_without_key"),
        ({"headers": {"Last-Event-ID": "abc", "Idempotency-Key": "abc"}}, 404, "run_not_found"),
    ],
)
async def test_a_cursor_never_starts_a_run(way: str, sent: dict[str, Any], status: int, code: str) -> None:
    """Its client has seen a part of a run, and wants the rest of that."""
    async with client_of(way) as client:
        before = await count_runs(client)
        refused = await client.post("/ask-stream", json={"question": QUESTION}, **sent)
        assert (refused.status_code, refused.json()["code"]) == (status, code)
        assert "/runs" in refused.json()["detail"]  # how to go on
        assert await count_runs(client) == before


async def test_a_wrong_cursor_with_a_key_is_refused(way: str) -> None:
    """The run is there; the cursor is none of its events."""
    body = {"question": QUESTION, "idempotency_key": "wrong-cursor"}
    async with client_of(way) as client:
        await client.post("/ask-stream", json=body)
        refused = await client.post("/ask-stream", json=body, headers={"Last-Event-ID": "abc"})
        conflict = await client.post("/ask-stream", json={**body, "question": "4 0"}, headers={"Last-Event-ID": "2"})
    assert (refused.status_code, refused.json()["code"]) == (400, "bad_cursor")
    assert (conflict.status_code, conflict.json()["code"]) == (409, "idempotency_conflict")


async def test_a_cursor_of_zero_is_the_start(way: str) -> None:
    """A client that always sends its cursor may ask, too."""
    async with client_of(way) as client:
        asked = await client.post("/ask-stream", json={"question": QUESTION}, headers={"Last-Event-ID": "0"})
    assert ids(asked) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("sent", [{"headers": {"Last-Event-ID": "5"}}, {"params": {"lastEventId": "5"}}])
async def test_the_test_stream_is_not_started_anew(way: str, sent: dict[str, Any]) -> None:
    """`new EventSource('/test-stream')` comes back after each end, with its last id."""
    async with client_of(way) as client:
        assert ids(await client.get("/test-stream"))[:1] == [1]
        before = await count_runs(client)
        assert (await client.get("/test-stream", **sent)).status_code == 204
        assert await count_runs(client) == before


@pytest.mark.parametrize(
    ("accept", "is_lines"),
    [
        ("application/x-ndjson", True),
        ("application/x-ndjson, */*", True),
        ("Application/X-NDJSON;q=0.9", True),
        ("text/event-stream;q=0.5, application/x-ndjson", True),
        ("application/*", True),
        ("application/x-ndjson;q=0", False),
        ("application/x-ndjson; q=0.0, */*;q=0.1", False),
        ("application/x-ndjson;q=0.5, text/event-stream", False),
        ("application/x-ndjson;q=nan, text/event-stream;q=0.1", False),
        ("*/*", False),
        ("text/event-stream", False),
        ("", False),
    ],
)
async def test_accept_is_read_with_its_qualities(way: str, accept: str, is_lines: bool) -> None:
    run_id = await ask(way, QUESTION)
    async with client_of(way) as client:
        answer = await client.get(f"/runs/{run_id}/events", headers={"Accept": accept})
    assert answer.headers["content-type"].startswith("application/x-ndjson") == is_lines


@pytest.mark.parametrize(
    ("accept", "status"), [("text/html", 307), ("text/html;q=0, */*", 200), ("text/html;q=0.1, application/json", 200)]
)
async def test_the_landing_reads_accept_in_the_same_way(way: str, accept: str, status: int) -> None:
    async with client_of(way) as client:
        assert (await client.get("/", headers={"Accept": accept})).status_code == status


async def test_a_run_that_has_ended_has_a_tag(way: str) -> None:
    """A program that asks again and again gets 304, until the run changes."""
    run_id = await ask(way, QUESTION)
    await watch_sse(way, run_id)
    async with client_of(way) as client:
        shown = await client.get(f"/runs/{run_id}")
        tag = shown.headers["etag"]
        for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            same = await client.get(f"/runs/{run_id}", headers={"If-None-Match": known})
            assert (same.status_code, same.headers["etag"], same.content) == (304, tag, b"")
        other = await client.get(f"/runs/{run_id}", headers={"If-None-Match": '"other"'})
        assert (other.status_code, other.json()) == (200, shown.json())


async def test_a_run_that_goes_on_has_no_tag(way: str) -> None:
    run_id = await ask(way, "2 0.5")
    async with client_of(way) as client:
        shown = await client.get(f"/runs/{run_id}", headers={"If-None-Match": "*"})
        await client.post(f"/runs/{run_id}/cancel")
    assert (shown.status_code, "etag" in shown.headers) == (200, False)
