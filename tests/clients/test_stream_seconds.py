"""Streams that the server ends by itself after a time, for networks that would cut them."""

import json
from pathlib import Path

import pytest

from askstream.transports.framing import Decoder
from tests.clients.raw import ask_raw, request
from tests.e2e.conftest import started
from tests.e2e.viewers import ask, client_of, watch_sse


@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
@pytest.mark.parametrize("direct", ["true", "false"])
async def test_a_stream_ends_in_time_and_is_resumed(tmp_path: Path, direct: str, accept: str) -> None:
    """Cleanly, and over SSE with the time to come back. The client's next requests bring the rest."""
    counting = ("--orchestrator", "tests.embedding.counting:counting")
    times = {"ASKSTREAM_STREAM_SECONDS": "0.6", "ASKSTREAM_RETRY_SECONDS": "0.25"}
    with started(tmp_path, *counting, ASKSTREAM_DIRECT=direct, **times) as server:
        run_id = await ask(server.url, "5 0.3")
        seen: list[int] = []
        connections = 0
        async with client_of(server.url) as client:
            while not seen or seen[-1] < 7:
                headers = {"Accept": accept, "Last-Event-ID": str(seen[-1]) if seen else ""}
                answer = await client.get(f"/runs/{run_id}/events", headers=headers)
                seen += _ids(answer.text)
                connections += 1
                if "stream" in accept and seen[-1] < 7:
                    assert answer.text.endswith("retry: 250\n\n")
        assert seen == [1, 2, 3, 4, 5, 6, 7]
        assert connections > 2
        assert len(await watch_sse(server.url, run_id)) == 7


async def test_the_end_of_a_stream_is_no_disconnect(tmp_path: Path) -> None:
    """`on_disconnect: cancel` means a client that left."""
    counting = ("--orchestrator", "tests.embedding.counting:counting")
    with started(tmp_path, *counting, ASKSTREAM_STREAM_SECONDS="0.3") as server:
        body = {"question": "3 0.3", "on_disconnect": "cancel"}
        asked = await ask_raw(server.url, request("POST", "/ask-stream", body=body, Connection="close"))
        run_id = asked.headers["x-run-id"]
        messages = [each for _ in range(9) for each in [await watch_sse(server.url, run_id)] if len(each) == 5]
    assert Decoder().feed(asked.body)
    assert json.loads(messages[-1][-1])["event"]["event_type"] == "completed"


def _ids(text: str) -> list[int]:
    return [int(part.split(",")[0]) for part in text.split('"id":')[1:]]
