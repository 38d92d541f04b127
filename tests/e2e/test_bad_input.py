"""Bad input gets a clear error with a stable code, and nothing is started or lost."""

import json
from typing import Any, cast

import pytest
from websockets.exceptions import ConnectionClosedError

from tests.e2e.conftest import ServerProcess
from tests.e2e.viewers import ask, client_of, say, socket, watch_sse

JSON = {"content-type": "application/json"}
UNKNOWN = "0" * 32


@pytest.mark.parametrize("path", ["/ask-stream", "/ask", "/runs"])
@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"", JSON, 400, "invalid_json"),
        (b"{", JSON, 400, "invalid_json"),
        (b'{"question": "x"', JSON, 400, "invalid_json"),
        (b"\xff\xfe", JSON, 400, "invalid_json"),
        (b'{"question": "\xff"}', JSON, 400, "invalid_json"),
        (b"[]", JSON, 422, "invalid_request"),
        (b"null", JSON, 422, "invalid_request"),
        (b"{}", JSON, 422, "invalid_request"),
        (b'{"question": 7}', JSON, 422, "invalid_request"),
        (b'{"question": null}', JSON, 422, "invalid_request"),
        (b'{"question": ""}', JSON, 422, "invalid_request"),
        (b'{"question": " \\n\\t"}', JSON, 422, "invalid_request"),
        (b'{"question": "a\\u0000b"}', JSON, 422, "invalid_request"),
        (json.dumps({"question": "x" * 4001}).encode(), JSON, 422, "invalid_request"),
        (b'{"question": "x", "colour": "red"}', JSON, 422, "invalid_request"),
        (b'{"question": "x", "tokens": "yes"}', JSON, 422, "invalid_request"),
        (b'{"question": "x", "include": "error"}', JSON, 422, "invalid_request"),
        (b'{"question": "x", "include": ["eror"]}', JSON, 422, "invalid_request"),
        (b'{"question": "x", "on_disconnect": "explode"}', JSON, 422, "invalid_request"),
        (b'{"question": "x", "session_id": "a b"}', JSON, 422, "invalid_request"),
        (b'{"question": "x", "idempotency_key": ""}', JSON, 422, "invalid_request"),
        (b'{"question": "x"}', JSON | {"idempotency-key": "a b"}, 422, "invalid_request"),
        (b'{"question": "x"}', {"content-type": "text/plain"}, 415, "unsupported_media_type"),
        (b'{"question": "x"}', {}, 415, "unsupported_media_type"),
        (b'{"question": "' + b"x" * 300_000 + b'"}', JSON, 413, "body_too_large"),
        (b"[" * 200_000, JSON, 400, "invalid_json"),
    ],
)
async def test_a_bad_question_is_refused_before_anything_starts(
    server: ServerProcess, path: str, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    """problem+json with a stable code and a sentence; what was sent is not repeated."""
    async with client_of(server.url) as client:
        answer = await client.post(path, content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told["status"] == status
    assert told["title"]
    assert told["detail"].endswith(".")
    assert "x-run-id" not in answer.headers


async def test_the_longest_question_is_accepted(server: ServerProcess) -> None:
    """4,000 characters of any kind, not bytes."""
    await ask(server.url, "€" * 4000)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", f"/runs/{UNKNOWN}", 404, "run_not_found"),
        ("GET", f"/runs/{UNKNOWN}/events", 404, "run_not_found"),
        ("POST", f"/runs/{UNKNOWN}/cancel", 404, "run_not_found"),
        ("DELETE", f"/runs/{UNKNOWN}", 404, "run_not_found"),
        ("GET", "/runs/%00", 404, "run_not_found"),
        ("GET", "/runs/%ff%fe", 404, "run_not_found"),
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/static/../server/cli.py", 404, "not_found"),
        ("GET", "/static/%2e%2e/__init__.py", 404, "not_found"),
        ("GET", "/ask-stream", 405, "method_not_allowed"),
        ("PUT", "/runs", 405, "method_not_allowed"),
        ("POST", "/health", 405, "method_not_allowed"),
        ("GET", "/runs?limit=0", 422, "invalid_request"),
        ("GET", "/runs?limit=many", 422, "invalid_request"),
        ("GET", "/runs?before=yesterday", 422, "invalid_request"),
        ("GET", "/ws", 426, "upgrade_required"),
    ],
)
async def test_a_bad_address_is_refused(server: ServerProcess, method: str, path: str, status: int, code: str) -> None:
    """With a code, as problem+json; 405 names the methods."""
    async with client_of(server.url) as client:
        answer = await client.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize("cursor", ["-1", "x", "1.5", "%00", "9" * 30, "1e3", "٣"])
async def test_a_bad_cursor_is_refused(server: ServerProcess, cursor: str) -> None:
    """In the query and in the header; an empty header counts as none."""
    run_id = await ask(server.url, "What data is there?")
    async with client_of(server.url) as client:
        answer = await client.get(f"/runs/{run_id}/events?after={cursor}")
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_cursor")
        if cursor.isascii() and "%" not in cursor:
            answer = await client.get(f"/runs/{run_id}/events", headers={"Last-Event-ID": cursor})
            assert (answer.status_code, answer.json()["code"]) == (400, "bad_cursor")


@pytest.mark.parametrize("query", ["include=eror", "tokens=maybe", "agents=" + "x" * 300])
async def test_a_bad_filter_is_refused(server: ServerProcess, query: str) -> None:
    """In a query string as in a body."""
    run_id = await ask(server.url, "What data is there?")
    async with client_of(server.url) as client:
        answer = await client.get(f"/runs/{run_id}/events?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


async def test_a_socket_survives_every_bad_message(server: ServerProcess) -> None:
    """Each bad message gets an error reply with its ref; the watched run goes on undisturbed."""
    bad: list[Any] = ["", "{", "[]", "null", '{"type":"ask"}', '{"type":"ask","question":""}', '{"type":"x"}', b"\xff"]
    async with socket(server.url) as ws:
        run_id = (await say(ws, type="ask", question="What was revenue in March 2026?"))["run_id"]
        for message in bad:
            await ws.send(message)
        for ref, kind in enumerate(["subscribe", "cancel", "unsubscribe"]):
            await ws.send(json.dumps({"type": kind, "ref": ref, "run_id": UNKNOWN}))
        seen: list[str] = []
        refused: list[dict[str, Any]] = []
        while len(refused) < len(bad) + 3 or '"completed"' not in seen[-1]:
            frame = cast(str, await ws.recv())
            if frame.startswith('{"reply"'):
                refused.append(json.loads(frame)["reply"])
            else:
                seen.append(frame)
    assert all(reply["ok"] is False and reply["error"]["message"] for reply in refused)
    assert [reply["error"]["code"] for reply in refused[-3:]] == ["run_not_found", "run_not_found", "not_subscribed"]
    assert [reply["ref"] for reply in refused[-3:]] == [0, 1, 2]
    assert seen == await watch_sse(server.url, run_id)


async def test_a_socket_message_that_is_too_large_closes_it(server: ServerProcess) -> None:
    """64 KiB are allowed; the close code has the reason."""
    async with socket(server.url) as ws:
        await ws.send(json.dumps({"type": "ping", "ref": "x" * 100}) + " " * 60_000)
        assert json.loads(await ws.recv())["reply"]["ok"] is True
        await ws.send(" " * 70_000)
        with pytest.raises(ConnectionClosedError) as closed:
            await ws.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


async def test_a_run_can_be_forgotten_once_it_has_ended(server: ServerProcess) -> None:
    """Its log is deleted then, and kept until then."""
    run_id = await ask(server.url, "What data is there?")
    await watch_sse(server.url, run_id)
    async with client_of(server.url) as client:
        assert (await client.delete(f"/runs/{run_id}")).status_code == 204
        assert (await client.get(f"/runs/{run_id}/events")).status_code == 404
