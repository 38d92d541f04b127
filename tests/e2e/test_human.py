"""The team asks a human: the question waits in the log and is answered once, over either transport."""

import asyncio
import json
from typing import Any

from tests.e2e.conftest import ServerProcess, Start
from tests.e2e.viewers import ask, client_of, say, socket, sse_lines, watch_sse, watch_ws

VAGUE = "How are we doing in the north?"
SHORT = "What was revenue in March 2026?"


async def asked(url: str, run_id: str, *, but: str = "") -> dict[str, Any]:
    """Wait for the run's first request for input, or the first one other than `but`."""
    async for _, line in sse_lines(url, f"/runs/{run_id}/events", params={"include": "input_requested,completed"}):
        event = json.loads(line)["event"]
        assert event["event_type"] == "input_requested"
        if event["data"]["request_id"] != but:
            return event["data"]
    raise AssertionError("nothing was asked")


async def answer(url: str, run_id: str, request_id: str, value: Any) -> tuple[int, Any]:
    async with client_of(url) as client:
        told = await client.post(f"/runs/{run_id}/input", json={"request_id": request_id, "value": value})
        return told.status_code, told.json()


async def events_of(url: str, run_id: str) -> list[dict[str, Any]]:
    return [json.loads(line)["event"] for line in await watch_sse(url, run_id)]


async def test_an_ambiguous_question_is_asked_back_and_answered_over_either_transport(server: ServerProcess) -> None:
    """The first answer wins; the same one is idempotent, another is a conflict; the report follows it."""
    for over_socket in (False, True):
        run_id = await ask(server.url, VAGUE, asks=True)
        request = await asked(server.url, run_id)
        assert request["schema"]["type"] == "string"
        async with client_of(server.url) as client:
            run = (await client.get(f"/runs/{run_id}")).json()
        assert (run["state"], run["pending_input"]["request_id"]) == ("waiting", request["request_id"])
        value = "orders, March 2026"
        if over_socket:
            async with socket(server.url) as ws:
                told = await say(ws, type="input", run_id=run_id, request_id=request["request_id"], value=value)
                assert told["ok"], told
        else:
            assert (await answer(server.url, run_id, request["request_id"], value))[0] == 200
        assert (await answer(server.url, run_id, request["request_id"], value))[0] == 200
        status, told = await answer(server.url, run_id, request["request_id"], "something else")
        assert (status, told["code"]) == (409, "input_conflict")
        events = await events_of(server.url, run_id)
        resolved = [event["data"] for event in events if event["event_type"] == "input_resolved"]
        assert resolved == [{"request_id": request["request_id"], "outcome": "answered", "value": value}]
        final = events[-1]["data"]["final_response"]
        assert "North" in final
        assert "March 2026" in final
        assert (await answer(server.url, run_id, request["request_id"], value))[0] == 200


async def test_of_many_answers_at_once_one_wins(server: ServerProcess) -> None:
    """Each client gets the result of its own."""
    run_id = await ask(server.url, VAGUE, asks=True)
    request = await asked(server.url, run_id)
    told = await asyncio.gather(
        *(answer(server.url, run_id, request["request_id"], f"revenue, {n} 2026") for n in ["May", "June"] * 10)
    )
    statuses = sorted(status for status, _ in told)
    assert statuses == [200] * 10 + [409] * 10
    await watch_ws(server.url, run_id)


async def test_a_bad_answer_is_refused_and_the_question_stays(server: ServerProcess) -> None:
    """A value against the schema, an unknown request."""
    run_id = await ask(server.url, VAGUE, asks=True)
    request = await asked(server.url, run_id)
    for value in (7, None, {"a": 1}, "", 10**30):
        status, told = await answer(server.url, run_id, request["request_id"], value)
        assert (status, told["code"]) == (422, "invalid_request")
    status, told = await answer(server.url, run_id, "nobody", "x")
    assert (status, told["code"]) == (404, "input_not_found")
    async with client_of(server.url) as client:
        await client.post(f"/runs/{run_id}/cancel")
    assert (await events_of(server.url, run_id))[-1]["data"]["reason"] == "client"
    status, told = await answer(server.url, run_id, request["request_id"], "revenue")
    assert (status, told["code"]) == (410, "input_expired")


async def test_a_question_survives_a_kill_and_its_answer_resumes_the_run(start: Start) -> None:
    """The wait survives, and so does an answer that was accepted just before the kill."""
    first = start()
    run_id = await ask(first.url, VAGUE, asks=True)
    request = await asked(first.url, run_id)
    first.kill()
    second = start()
    async with client_of(second.url) as client:
        run = (await client.get(f"/runs/{run_id}")).json()
    assert (run["state"], run["pending_input"]) == ("waiting", request)
    assert (await answer(second.url, run_id, request["request_id"], "revenue, March 2026"))[0] == 200
    second.kill()
    third = start()
    events = await events_of(third.url, run_id)
    assert [event["id"] for event in events if event["event_type"] != "agent_chunk"]
    assert events[-1]["event_type"] == "completed"
    assert "March 2026" in events[-1]["data"]["final_response"]
    assert (await answer(third.url, run_id, request["request_id"], "revenue, March 2026"))[0] == 200


async def test_when_nobody_answers_the_team_goes_on_and_reports_its_assumption(start: Start) -> None:
    """`timed_out` in the log, an assumption in the report; a later answer is refused."""
    server = start(ASKSTREAM_INPUT_SECONDS="0.3")
    run_id = await ask(server.url, VAGUE, asks=True)
    events = await events_of(server.url, run_id)
    (resolved,) = [event["data"] for event in events if event["event_type"] == "input_resolved"]
    assert resolved["outcome"] == "timed_out"
    assert events[-1]["event_type"] == "completed"
    assert "ssum" in events[-1]["data"]["final_response"]
    status, told = await answer(server.url, run_id, resolved["request_id"], "revenue")
    assert (status, told["code"]) == (410, "input_expired")


async def test_a_client_that_cant_be_asked_gets_an_answer_at_once(server: ServerProcess) -> None:
    """Over HTTP, unless it says `asks`; over WebSocket, if it says that nobody answers. The report says what was
    assumed."""
    async with client_of(server.url) as client:
        answer = (await client.post("/ask", json={"question": VAGUE})).json()
    run_id = await ask(server.url, VAGUE)
    async with socket(server.url) as ws:
        told = await say(ws, type="ask", question=VAGUE, asks=False)
    for one in (answer["run_id"], run_id, told["run_id"]):
        events = await events_of(server.url, one)
        assert "input_requested" not in [event["event_type"] for event in events]
        assert "No period was named" in events[-1]["data"]["final_response"]


async def test_a_websocket_client_is_asked_unless_it_says_no(server: ServerProcess) -> None:
    """Its default is to be asked."""
    async with socket(server.url) as ws:
        told = await say(ws, type="ask", question=VAGUE)
    assert "North" in (await asked(server.url, told["run_id"]))["prompt"]


async def test_a_report_waits_for_approval_and_obeys_a_remark(server: ServerProcess) -> None:
    """With `review`: sent back with a remark, done again, approved, final."""
    run_id = await ask(server.url, SHORT, review=True)
    request = await asked(server.url, run_id)
    remark = {"approve": False, "remark": "use orders instead of revenue"}
    assert (await answer(server.url, run_id, request["request_id"], remark))[0] == 200
    again = await asked(server.url, run_id, but=request["request_id"])
    assert (await answer(server.url, run_id, again["request_id"], {"approve": True}))[0] == 200
    final = (await events_of(server.url, run_id))[-1]
    assert final["event_type"] == "completed"
    assert "rders" in final["data"]["final_response"].splitlines()[0] + final["data"]["final_response"][:400]


async def test_a_follow_up_is_understood_in_its_session(server: ServerProcess) -> None:
    """`and the month before?` is about the same measure."""
    await events_of(server.url, await ask(server.url, SHORT, session_id="follow"))
    events = await events_of(server.url, await ask(server.url, "and the month before?", session_id="follow"))
    assert "February 2026" in events[-1]["data"]["final_response"].splitlines()[0]
    alone = await events_of(server.url, await ask(server.url, "and the month before?"))
    assert "February 2026" not in alone[-1]["data"]["final_response"].splitlines()[0]
