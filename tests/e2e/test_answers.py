"""Both transports have the same answer of a team whose texts are hard to send."""

import json
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import ServerProcess, started
from tests.e2e.viewers import ask, client_of, watch_sse, watch_ws


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with started(tmp_path_factory.mktemp("data"), "--team", "tests.e2e.teams:approving") as process:
        yield process


async def test_the_writers_text_is_the_answer_on_both_transports(server: ServerProcess) -> None:
    """It is cut with a mark, halves of characters are mended, and the run is completed."""
    run_id = await ask(server.url, "Write.")
    lines = await watch_sse(server.url, run_id, filters={"tokens": True})
    assert lines == await watch_ws(server.url, run_id, filters={"tokens": True})
    events = [json.loads(line)["event"] for line in lines]
    end = events[-1]
    assert (end["event_type"], end["agent_name"]) == ("completed", "Writer")
    assert end["data"]["answered_by"] == "Writer"
    assert end["data"]["stop_reason"] == "Text 'APPROVE' mentioned"
    assert end["data"]["response_length"] == 300_000
    assert end["data"]["final_response"].endswith("of 300,000 characters.]")
    said = [event["message"] for event in events if event["event_type"] == "agent_response"]
    assert said[:2] == ["\U0001f600", "a\ufffd"]
    assert said[3] == "**APPROVE**"
    chunks = "".join(e["data"]["delta"] for e in events if e["event_type"] == "agent_chunk")
    assert chunks == "\U0001f600a\ufffd" + "x" * 300_000 + "**APPROVE**"


async def test_a_question_with_half_a_character_is_refused_with_a_sentence(server: ServerProcess) -> None:
    async with client_of(server.url) as client:
        answer = await client.post(
            "/ask", content=rb'{"question": "a\ud83d"}', headers={"Content-Type": "application/json"}
        )
    assert answer.status_code in (400, 422)
    assert answer.json()["code"] in ("invalid_json", "invalid_request")
