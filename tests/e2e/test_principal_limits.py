"""Limits of a principal, on each way in: with a code, `Retry-After`, and nothing registered."""

import json
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from tests.e2e.conftest import Start
from tests.e2e.viewers import ask, client_of, say, socket


@pytest.mark.parametrize("direct", ["true", "false"])
async def test_streams_and_sockets_of_a_principal_are_counted_together(start: Start, direct: str) -> None:
    """A stream is refused before its run starts, a socket before the upgrade; a place that gets free can be taken."""
    limits: dict[str, Any] = {"ASKSTREAM_LIMIT_ANONYMOUS": "true", "ASKSTREAM_PRINCIPAL_CONNECTIONS": "2"}
    url = start(ASKSTREAM_DIRECT=direct, **limits).url
    body = {"question": "What was revenue in March 2026?"}
    async with client_of(url) as client, socket(url) as first:
        async with socket(url):
            for request in (("POST", "/ask-stream"), ("GET", "/test-stream")):
                refused = await client.request(*request, json=body)
                assert (refused.status_code, refused.json()["code"]) == (429, "principal_limit")
                assert refused.headers["retry-after"] == "5"
            with pytest.raises(InvalidStatus) as closed:
                await socket(url)
            assert closed.value.response.status_code == 429
            assert closed.value.response.headers["retry-after"] == "5"
            assert json.loads(closed.value.response.body or b"")["code"] == "principal_limit"
            assert (await client.get("/runs")).json()["runs"] == []
        for _ in range(3):  # each gives its place back when it has ended
            assert (await client.get("/test-stream")).status_code == 200
        assert (await say(first, type="ping"))["type"] == "pong"


@pytest.mark.parametrize("direct", ["true", "false"])
async def test_run_starts_of_a_principal_are_counted_over_both_transports(start: Start, direct: str) -> None:
    """The third in a minute is refused; joining a run by its key is no start."""
    limits: dict[str, Any] = {"ASKSTREAM_LIMIT_ANONYMOUS": "true", "ASKSTREAM_RUN_STARTS": "2"}
    url = start(ASKSTREAM_DIRECT=direct, **limits).url
    fields: dict[str, Any] = {"question": "What data is there?", "idempotency_key": "k"}
    run_id = await ask(url, **fields)
    assert await ask(url, **fields) == run_id
    async with client_of(url) as client, socket(url) as ws:
        assert (await client.get("/test-stream")).status_code == 200
        refused = await client.post("/runs", json={"question": "x"})
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert 0 < int(refused.headers["retry-after"]) <= 30
        error = (await say(ws, type="ask", question="x"))["error"]
        assert error["code"] == "rate_limited"
        assert 0 < error["retry_after"] <= 30
