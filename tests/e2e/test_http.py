"""The plain HTTP side, as its clients use it."""

import hashlib
from typing import Any

import pytest

from tests.e2e.conftest import ServerProcess, Start
from tests.e2e.viewers import ask, client_of, watch_sse

QUESTION = "What was revenue in March 2026?"


async def test_ask_waits_for_the_answer(server: ServerProcess) -> None:
    """The document's shape, and the same run as on /ask-stream."""
    async with client_of(server.url) as client:
        answer = (await client.post("/ask", json={"question": QUESTION})).json()
        assert answer["status"] == "Success"
        assert answer["message"]["role"] == "assistant"
        run = (await client.get(f"/runs/{answer['run_id']}")).json()
        assert run["state"] == "completed"
        last = (await watch_sse(server.url, answer["run_id"]))[-1]
    assert f'"final_response":{_json(answer["message"]["content"])}' in last


def _json(text: str) -> str:
    import orjson

    return orjson.dumps(text).decode()


async def test_a_run_is_a_resource(server: ServerProcess) -> None:
    """202 with its links; at the end state, usage and a digest that any client can compute."""
    async with client_of(server.url) as client:
        started = await client.post("/runs", json={"question": QUESTION, "session_id": "mine"})
        assert started.status_code == 202
        assert started.headers["location"] == started.json()["links"]["self"]
        assert (started.json()["session_id"], started.json()["state"]) == ("mine", "running")
        lines = await watch_sse(server.url, started.json()["run_id"])
        run = (await client.get(started.headers["location"])).json()
    assert (run["state"], run["progress"]) == ("completed", 100)
    assert run["usage"] == {"prompt_tokens": None, "completion_tokens": None}  # of rules there is nothing to count
    assert run["digest"] == hashlib.sha256("".join(line + "\n" for line in lines).encode()).hexdigest()


async def test_runs_are_listed_newest_first_page_by_page(start: Start) -> None:
    """`next` leads to each of them once."""
    server = start()
    asked = [await ask(server.url, f"What data is there? {n}") for n in range(5)]
    async with client_of(server.url) as client:
        seen: list[str] = []
        path: str | None = "/runs?limit=2"
        while path:
            page = (await client.get(path)).json()
            seen += [run["run_id"] for run in page["runs"]]
            path = page["next"]
    assert seen == asked[::-1]


async def test_an_idempotency_key_joins_the_first_run(server: ServerProcess) -> None:
    """By field or by header; another body is a conflict, another view is not."""
    async with client_of(server.url) as client:
        body = {"question": QUESTION, "idempotency_key": "abc"}
        first = (await client.post("/runs", json=body)).json()["run_id"]
        joined = await client.post(
            "/ask-stream", json={"question": QUESTION, "tokens": True}, headers={"Idempotency-Key": "abc"}
        )
        assert joined.headers["x-run-id"] == first
        assert joined.text.startswith('retry: 2000\n\ndata: {"event":')
        conflict = await client.post("/runs", json={**body, "question": "Something else?"})
    assert (conflict.status_code, conflict.json()["code"]) == (409, "idempotency_conflict")


async def test_the_root_address_leads_to_the_page(server: ServerProcess) -> None:
    """A browser is redirected, other clients get the addresses; liveness and readiness."""
    async with client_of(server.url) as client:
        landing = await client.get("/", headers={"accept": "text/html"})
        assert (landing.status_code, landing.headers["location"]) == (307, "/client")
        assert {"message", "docs", "client"} == (await client.get("/")).json().keys()
        assert (await client.get("/health")).json() == {"status": "ok"}
        assert (await client.get("/ready")).status_code == 200
        page = await client.get("/client")
        assert "default-src 'self'" in page.headers["content-security-policy"]
        assert "unsafe" not in page.headers["content-security-policy"]


async def test_a_head_request_starts_nothing(server: ServerProcess) -> None:
    """HEAD must be safe. On the mock stream it would start a run, so it is refused."""
    async with client_of(server.url) as client:
        assert (await client.head("/test-stream")).status_code == 405


async def test_openapi_describes_every_route(server: ServerProcess) -> None:
    """It is made from the models that validate; every address in it is served."""
    async with client_of(server.url) as client:
        described: dict[str, Any] = (await client.get("/openapi.json")).json()
        for path, operations in described["paths"].items():
            address = path.replace("{run_id}", "0" * 32)
            for method in set(operations) - {"parameters"}:
                answer = await client.request(method, address)
                assert str(answer.status_code) in operations[method]["responses"], (method, path)
    assert described["components"]["schemas"]["Ask"]["required"] == ["question"]


async def test_pages_of_this_machine_may_ask_and_a_setting_lists_others(server: ServerProcess, start: Start) -> None:
    """The first API let all origins ask; that is one setting now."""
    for serving, origin, allowed in (
        (server, "http://localhost:3000", "http://localhost:3000"),
        (start(ASKSTREAM_CORS_ORIGINS='["*"]'), "https://example.org", "*"),
    ):
        async with client_of(serving.url) as client:
            answer = await client.get("/health", headers={"Origin": origin})
            assert answer.headers["access-control-allow-origin"] == allowed
            assert "X-Run-Id" in answer.headers["access-control-expose-headers"]
    async with client_of(server.url) as client:
        refused = await client.get("/health", headers={"Origin": "https://example.org"})
    assert (refused.status_code, refused.json()["code"]) == (403, "origin_not_allowed")
    assert "access-control-allow-origin" not in refused.headers


async def test_a_silent_stream_has_heartbeats(start: Start) -> None:
    """A comment over SSE, a reply over WebSocket."""
    server = start("--team", "tests.e2e.teams:waiting", ASKSTREAM_HEARTBEAT_SECONDS="0.1")
    run_id = await ask(server.url, "Wait.")
    async with client_of(server.url) as client, client.stream("GET", f"/runs/{run_id}/events") as response:
        text = ""
        async for part in response.aiter_text():
            text += part
            if text.endswith(":\n\n:\n\n"):
                break
    from tests.e2e.viewers import socket

    async with socket(server.url) as ws:
        assert await ws.recv() == '{"reply":{"type":"heartbeat"}}'


@pytest.mark.parametrize(
    ("options", "environment", "said"),
    [
        (["--team", "nowhere.at:all"], {}, "nowhere"),
        (["--port", "99999999"], {}, "port"),
        ([], {"ASKSTREAM_JOURNAL": "redis://x"}, "redis"),
        ([], {"ASKSTREAM_TRANSPORTS": '["pigeon"]'}, "pigeon"),
        ([], {"ASKSTREAM_WAREHOUSE": "nowhere.db"}, "nowhere.db"),
        ([], {"LOG_LEVEL": "LOUD"}, "LOUD"),
        ([], {"ASKSTREAM_SYNCHRONOUS": "never"}, "synchronous"),
    ],
)
def test_wrong_settings_are_reported_in_one_line(
    start: Start, options: list[str], environment: dict[str, str], said: str
) -> None:
    """At the start, without a traceback."""
    with pytest.raises(RuntimeError) as refused:
        start(*options, data=None, **environment)
    assert said in str(refused.value)
    assert "Traceback" not in str(refused.value)


async def test_a_second_server_on_the_same_data_is_refused(start: Start) -> None:
    """Two servers would damage each other's log."""
    start()
    with pytest.raises(RuntimeError, match="another server"):
        start()
