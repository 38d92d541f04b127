"""One application under uvicorn, hypercorn and granian, alone and mounted: plain ASGI, the same promises."""

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from askstream.server.journal.sqlite.journal import SqliteJournal
from tests.e2e.viewers import ask, client_of, is_terminal, say, socket, sse_lines, watch_sse, watch_ws
from tests.embedding.conftest import Start

pytestmark = pytest.mark.long

KINDS = pytest.mark.parametrize("kind", ["uvicorn", "hypercorn", "granian"])
HOSTS = "tests.embedding.hosts:"
# A drain of half a second, 5 s for a run that ignores its cancel, and a busy machine.
STOP_SECONDS = 20


@pytest.mark.parametrize(
    ("kind", "app", "prefix"),
    [
        ("uvicorn", "alone", ""),
        ("uvicorn", "mounted", "/ai"),
        ("hypercorn", "mounted", "/ai"),
        ("granian", "alone", ""),
    ],
)
async def test_an_application_answers_over_both_transports(start: Start, kind: str, app: str, prefix: str) -> None:
    """A run of each, watched over the other, and resumed from a cursor: the same lines, byte for byte."""
    url = start(kind, HOSTS + app).url + prefix
    first = [line async for _, line in sse_lines(url, "/ask-stream", method="POST", json={"question": "5 0.01"})]
    run_id = json.loads(first[0])["event"]["run_id"]
    assert first == await watch_ws(url, run_id)
    assert first[3:] == await watch_sse(url, run_id, after=3) == await watch_ws(url, run_id, after=3)
    async with socket(url) as ws:
        reply = await say(ws, type="ask", question="3 0.01")
        assert reply["ok"], reply
    assert is_terminal((await watch_sse(url, reply["run_id"]))[-1])


@KINDS
async def test_a_stopped_server_ends_in_time_and_the_next_one_goes_on(start: Start, kind: str) -> None:
    """SIGTERM with a stream open on each transport. Nothing is lost: the next server ends the run."""
    server = start(kind, HOSTS + "alone")
    run_id = await ask(server.url, "30 0.1")
    viewers = [Watching(_sse_events(server.url, run_id)), Watching(_ws_events(server.url, run_id))]
    for viewer in viewers:
        await viewer.sees(4)
    began = time.monotonic()
    await asyncio.to_thread(server.end, seconds=STOP_SECONDS)
    assert time.monotonic() - began < STOP_SECONDS
    seen = [await viewer.ended() for viewer in viewers]
    again = start(kind, HOSTS + "alone")
    log = [json.loads(line)["event"] for line in await watch_sse(again.url, run_id)]
    assert [event["id"] for event in log] == list(range(1, len(log) + 1))
    assert log[-1]["event_type"] == "completed"
    assert "resumed" in {event["event_type"] for event in log}
    for events in seen:
        logged = [event for event in events if "id" in event]
        assert len(logged) >= 4
        assert logged == log[: len(logged)]
    if kind == "uvicorn":
        assert [events[-1]["event_type"] for events in seen] == ["drain", "drain"]


@KINDS
async def test_limits_of_messages_and_principals_hold_under_every_server(start: Start, kind: str) -> None:
    """Those that docs/limits.md says so of: the others are the server's own."""
    own = {"LIMIT_ANONYMOUS": "true", "MESSAGE_BYTES": "1000", "MESSAGES_AT_ONCE": "4", "SUBSCRIPTIONS": "1"}
    own |= {"PRINCIPAL_CONNECTIONS": "2", "RUN_STARTS": "2", "QUESTION_CHARACTERS": "50"}
    settings: dict[str, Any] = {f"ASKSTREAM_{name}": value for name, value in own.items()}
    url = start(kind, HOSTS + "alone", **settings).url
    async with client_of(url) as client, socket(url) as ws, socket(url) as other:
        assert (await client.get("/test-stream")).json()["code"] == "principal_limit"
        with pytest.raises(InvalidHandshake):
            await socket(url)
        assert (await say(ws, type="ask", question="9 0.1"))["ok"]
        codes = [
            (await client.post("/runs", json={"question": "x" * 51})).json()["code"],
            (await client.post("/runs", content=b"x" * 300_000, headers={"content-type": "application/json"})).json()[
                "code"
            ],
            (await client.post("/runs", json={"question": "1 0"})).status_code,
            (await client.post("/runs", json={"question": "1 0"})).json()["code"],
        ]
        assert codes == ["invalid_request", "body_too_large", 202, "rate_limited"]
        assert await _refusal(ws, type="ask", question="1 0") == "too_many_subscriptions"
        for _ in range(4):
            await other.send("{}")
        assert await _refusal(other, type="ping") == "rate_limited"
    async with socket(url) as ws:
        await ws.send(" " * 1001)
        with pytest.raises(ConnectionClosed) as closed:
            await ws.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


async def _refusal(ws: ClientConnection, **message: Any) -> str:
    """Send a message, and return the code of the reply with its ref."""
    await ws.send(json.dumps({**message, "ref": "this"}))
    async for frame in ws:
        reply = json.loads(frame).get("reply", {})
        if reply.get("ref") == "this":
            return reply["error"]["code"]
    raise AssertionError("the socket was closed")


@KINDS
async def test_a_proxys_prefix_is_found_under_every_server(start: Start, kind: str) -> None:
    """uvicorn replaces the proxy's address by the client's, the others don't."""
    headers = {"X-Forwarded-Prefix": "/out", "X-Forwarded-For": "203.0.113.5", "X-Forwarded-Proto": "https"}
    async with client_of(start(kind, HOSTS + "mounted", ASKSTREAM_AUTH="none").url) as client:
        started = await client.post("/ai/runs", json={"question": "1 0"}, headers=headers)
        assert started.headers["location"] == f"/out/ai/runs/{started.json()['run_id']}"
        sent = await client.get("/ai/client/", headers=headers)
        location = httpx2.URL(sent.headers["location"])
        assert (location.scheme, location.path) == ("https", "/out/ai/client")


@KINDS
async def test_the_guard_holds_under_every_server(start: Start, kind: str, tmp_path: Path) -> None:
    """A foreign page, a rebound name and another machine are refused, over HTTP and before an upgrade. A client that
    claims to be this machine, by a header, is not believed."""
    url = start(kind, HOSTS + "mounted").url
    here, elsewhere = f"{url}/ai", {"X-Forwarded-For": "203.0.113.5"}
    run_id = await ask(here, "1 0")
    for headers, status, code in (
        ({"Origin": "https://evil.example"}, 403, "origin_not_allowed"),
        ({"Sec-Fetch-Site": "cross-site"}, 403, "origin_not_allowed"),
        ({"Host": "evil.example"}, 421, "host_not_allowed"),
        (elsewhere, 401, "unauthorized"),
        ({"Forwarded": "for=203.0.113.5"}, 401, "unauthorized"),
        ({"X-Forwarded-For": "127.0.0.1, 203.0.113.5"}, 401, "unauthorized"),
    ):
        async with client_of(url) as client:
            refused = await client.get(f"/ai/runs/{run_id}", headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (status, code), headers
        if "Host" not in headers:  # the library sends its own
            with pytest.raises(InvalidStatus) as unopened:
                async with socket(here, additional_headers=headers):
                    pass
            assert unopened.value.response.status_code in (status, 403), "granian can't send another status"
    token = (tmp_path / "data" / "token").read_text().strip()
    async with client_of(here) as client:
        allowed = {**elsewhere, "Authorization": f"Bearer {token}"}
        assert (await client.get(f"{here}/runs/{run_id}", headers=allowed)).status_code == 200
    async with socket(here, additional_headers=allowed) as ws:
        assert (await say(ws, type="ping"))["ok"]


async def test_uvicorns_own_log_has_no_ticket(start: Start) -> None:
    """It logs each request and each handshake with its query string."""
    server = start("uvicorn", HOSTS + "alone")
    run_id = await ask(server.url, "1 0")
    async with client_of(server.url) as client:
        made = (await client.post(f"/runs/{run_id}/ticket")).json()
        assert (await client.get(made["events"])).status_code == 200
        assert (await client.get(f"/runs/{run_id}?ticket=wrong")).status_code == 401
    async with connect(f"{server.url.replace('http', 'ws')}/ws?ticket={made['ticket']}") as ws:
        assert (await say(ws, type="subscribe", run_id=run_id))["ok"]
    server.wait_for(lambda: "/ws?ticket=redacted" in server.output)
    assert f"/runs/{run_id}/events?ticket=redacted" in server.output
    assert made["ticket"] not in server.output
    assert "wrong" not in server.output


@pytest.mark.parametrize("app", ["alone", "mounted"])
async def test_under_uvicorn_a_signal_drains_first(start: Start, app: str) -> None:
    """Viewers get the notice, a short run ends within the drain, and then uvicorn handles the signal."""
    server = start("uvicorn", HOSTS + app, ASKSTREAM_DRAIN_SECONDS="10")
    url = server.url + ("/ai" if app == "mounted" else "")
    run_id = await ask(url, "20 0.1")
    viewer = Watching(_sse_events(url, run_id))
    await viewer.sees(1)
    began = time.monotonic()
    status = await asyncio.to_thread(server.end)
    assert time.monotonic() - began < 8, "it ends when its runs have"
    assert status == -signal.SIGTERM, "uvicorn raises the signal again once it has ended"
    assert (await viewer.ended())[-1]["event_type"] == "drain"
    again = start("uvicorn", HOSTS + app)
    log = [
        json.loads(line)["event"]["event_type"] for line in await watch_sse(again.url + url[len(server.url) :], run_id)
    ]
    assert log[-1] == "completed"
    assert "resumed" not in log


async def test_under_uvicorn_a_second_signal_stops_at_once(start: Start) -> None:
    """Ctrl-C twice, as in a terminal."""
    server = start("uvicorn", HOSTS + "alone", ASKSTREAM_DRAIN_SECONDS="60")
    await ask(server.url, "600 0.1")
    server.process.send_signal(signal.SIGINT)
    await asyncio.to_thread(server.wait_for, lambda: httpx2.get(server.url + "/ready").status_code == 503)
    began = time.monotonic()
    await asyncio.to_thread(server.end, signal.SIGINT)
    assert time.monotonic() - began < STOP_SECONDS


@KINDS
async def test_a_second_process_on_the_same_journal_refuses_to_start(start: Start, kind: str, tmp_path: Path) -> None:
    """It prints the reason, and ends with an error; hypercorn's worker does, but hypercorn loses its status."""
    first = SqliteJournal(tmp_path / "data" / "askstream.db")
    try:
        with pytest.raises(RuntimeError, match="another server writes to") as refused:
            start(kind, HOSTS + "alone")
    finally:
        await first.close()
    status = {"uvicorn": 3, "granian": 1, "hypercorn": 0}[kind]
    assert str(refused.value).startswith(f"it ended with {status}:")
    if kind != "hypercorn":  # it prints a traceback for each failed start
        assert "Traceback" not in str(refused.value)


async def test_two_workers_on_one_journal_are_refused(start: Start) -> None:
    """uvicorn ends both when one of them can't start."""
    with pytest.raises(RuntimeError, match="another server writes to"):
        start("uvicorn", HOSTS + "alone", "--workers", "2").wait_for(lambda: False)


class Watching:
    """A viewer's task and the events that it has seen, up to the end of its connection, however that ends."""

    def __init__(self, events: AsyncIterator[dict[str, Any]]) -> None:
        self._seen: list[dict[str, Any]] = []
        self._more = asyncio.Event()
        self._task = asyncio.create_task(self._watch(events))

    async def sees(self, number: int) -> None:
        async with asyncio.timeout(STOP_SECONDS):
            while len(self._seen) < number:
                self._more.clear()
                await self._more.wait()

    async def ended(self) -> list[dict[str, Any]]:
        async with asyncio.timeout(STOP_SECONDS):
            await self._task
        return self._seen

    async def _watch(self, events: AsyncIterator[dict[str, Any]]) -> None:
        with contextlib.suppress(httpx2.TransportError, ConnectionClosed):  # a server that doesn't drain cuts it
            async for event in events:
                self._seen.append(event)
                self._more.set()


async def _sse_events(url: str, run_id: str) -> AsyncIterator[dict[str, Any]]:
    async for _, line in sse_lines(url, f"/runs/{run_id}/events"):
        yield json.loads(line)["event"]


async def _ws_events(url: str, run_id: str) -> AsyncIterator[dict[str, Any]]:
    async with socket(url) as ws:
        assert (await say(ws, type="subscribe", run_id=run_id))["ok"]
        async for frame in ws:
            message = json.loads(frame)
            if "event" in message:
                yield message["event"]
