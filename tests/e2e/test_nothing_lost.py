"""Nothing is lost: runs through restarts and drains, sessions, keys, slow and absent viewers."""

import asyncio
import contextlib
import hashlib
import json
import signal
import socket as sockets
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.e2e.conftest import ServerProcess, Start
from tests.e2e.viewers import ask, client_of, frames, say, socket, sse_lines, watch_sse, watch_ws
from tests.timing import GLANCE, PATIENCE

REPORT = "Generate a monthly business report for our sales performance"
SHORT = "What was revenue in March 2026?"
WAITING = ("--team", "tests.e2e.teams:waiting")


async def run_of(server: ServerProcess, run_id: str) -> dict[str, Any]:
    async with client_of(server.url) as client:
        return (await client.get(f"/runs/{run_id}")).json()


async def test_after_kill_9_finished_runs_replay_and_unfinished_ones_go_on(start: Start) -> None:
    """Byte for byte; ids stay contiguous; the turn in flight is done again, and earlier turns are not."""
    first = start()
    done = await ask(first.url, SHORT)
    lines = await watch_sse(first.url, done, filters={"tokens": True})
    run_id = await ask(first.url, REPORT)
    seen: list[str] = []
    async for _, line in sse_lines(first.url, f"/runs/{run_id}/events"):
        seen.append(line)
        if '"agent_response"' in line and '"PlanningAgent"' in line:
            break
    first.kill()

    second = start()
    assert await watch_sse(second.url, done, filters={"tokens": True}) == lines
    whole = await watch_sse(second.url, run_id, filters={"tokens": True})
    events = [json.loads(line)["event"] for line in whole]
    assert [event["id"] for event in events] == list(range(1, len(events) + 1))
    assert [line for line in whole if '"agent_chunk"' not in line][: len(seen)] == seen
    (resumed,) = [event for event in events if event["event_type"] == "resumed"]
    assert resumed["data"]["attempt"] == 2
    assert resumed["data"]["from_id"] >= json.loads(seen[-1])["event"]["id"]
    after = [event["agent_name"] for event in events if event["id"] > resumed["id"]]
    assert "ReportAgent" in after
    assert events[-1]["event_type"] == "completed"
    run = await run_of(second, run_id)
    text = "".join(line + "\n" for line in whole if '"event_type":"agent_chunk"' not in line)
    assert (run["attempt"], run["digest"]) == (2, hashlib.sha256(text.encode()).hexdigest())


async def test_a_drain_sends_viewers_away_and_the_next_server_goes_on(start: Start) -> None:
    """Not ready, a notice on both transports, WebSocket 4012; the run ends with its next server."""
    first = start(ASKSTREAM_DRAIN_SECONDS="0")
    run_id = await ask(first.url, REPORT)
    async with socket(first.url) as ws:
        await say(ws, type="subscribe", run_id=run_id, tokens=True)
        opened = asyncio.Event()
        sse = asyncio.ensure_future(_all_data(first.url, run_id, opened))
        await ws.recv()
        await opened.wait()  # a request after the signal may be refused
        stopping = asyncio.ensure_future(asyncio.to_thread(first.stop))
        over_ws = await _until_closed(ws)
        assert ws.close_code == 4012
    for line in (over_ws[-1], (await sse)[-1]):
        notice = json.loads(line)["event"]
        assert (notice["event_type"], "id" in notice) == ("drain", False)
        assert 0 <= notice["data"]["retry_ms"] < 10_000
    assert await stopping == 0

    second = start()
    events = [json.loads(line)["event"] for line in await watch_sse(second.url, run_id, filters={"tokens": True})]
    assert [event["id"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["event_type"] == "completed"


async def _until_closed(ws: ClientConnection) -> list[str]:
    found: list[str] = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            found.append(str(await ws.recv()))
    return found


async def _all_data(url: str, run_id: str, opened: asyncio.Event) -> list[str]:
    found: list[str] = []
    async for _, data in sse_lines(url, f"/runs/{run_id}/events", params={"tokens": "true"}):
        found.append(data)
        opened.set()
    return found


@pytest.mark.parametrize("direct", ["true", "false"])
async def test_a_viewer_that_is_behind_notices_that_the_server_stops(start: Start, direct: str) -> None:
    """It gets what was written for it, the notice and the response's end. A direct connection waits only a moment for
    the reader and may cut the response at any byte: without the response's end the client reconnects."""
    server = start("--team", "tests.e2e.teams:flooding", ASKSTREAM_DRAIN_SECONDS="0", ASKSTREAM_DIRECT=direct)
    run_id = await ask(server.url, "Flood.")
    with contextlib.closing(
        await _read_nothing(server, f"GET /runs/{run_id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    ) as lagging:
        await watch_ws(server.url, run_id)
        stopping = asyncio.ensure_future(asyncio.to_thread(server.stop))
        await _until_nobody_listens(server)
        lagging.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 2**20)  # now it reads as fast as it can
        received = await asyncio.to_thread(_all_of, lagging)
    assert await stopping == 0
    last = received.rpartition(b"data: ")[2]
    is_whole = last.endswith(b"\r\n0\r\n\r\n")
    assert is_whole or direct == "true"
    assert not is_whole or b'"event_type":"drain"' in last
    assert b'"event_type":"completed"' not in received


async def _until_nobody_listens(server: ServerProcess) -> None:
    """Return when the server accepts no more connections and begins to end the open ones.

    A connection that it hasn't accepted when it closes its socket is reset, maybe before `connect` returns.
    """
    split = urlsplit(server.url)
    with contextlib.suppress(ConnectionRefusedError, ConnectionResetError):
        while True:
            _, writer = await asyncio.open_connection(split.hostname, split.port)
            writer.close()
            await asyncio.sleep(GLANCE)


def _all_of(plain: sockets.socket) -> bytes:
    """Return all bytes until the other side closes or resets."""
    found: list[bytes] = []
    with contextlib.suppress(ConnectionResetError):
        while data := plain.recv(2**20):
            found.append(data)
    return b"".join(found)


async def test_runs_get_their_time_to_end_in_a_drain(start: Start) -> None:
    """A short run ends in its own server, which then exits without waiting any longer."""
    server = start(ASKSTREAM_DRAIN_SECONDS="20")
    run_id = await ask(server.url, SHORT)
    assert await asyncio.to_thread(server.stop) == 0
    next_one = start()
    run = await run_of(next_one, run_id)
    assert (run["state"], run["attempt"]) == ("completed", 1)


async def test_during_a_drain_nothing_new_starts_and_the_readiness_probe_fails(start: Start) -> None:
    """A second signal ends it at once; the next server resumes the run."""
    server = start(*WAITING)
    run_id = await ask(server.url, "Wait.")
    async with client_of(server.url) as client:
        server.process.send_signal(signal.SIGTERM)
        while (await client.get("/ready")).status_code == 200:  # noqa: ASYNC110 - the signal is on its way
            await asyncio.sleep(GLANCE)
        assert (await client.get("/ready")).json()["code"] == "draining"
        refused = await client.post("/ask-stream", json={"question": SHORT})
        assert (refused.status_code, refused.json()["code"]) == (503, "draining")
        assert refused.headers["retry-after"]
        assert (await client.get(f"/runs/{run_id}")).json()["state"] == "running"
        server.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(server.process.wait, PATIENCE)
    assert (await run_of(start(*WAITING), run_id))["state"] == "running"


async def test_a_team_that_cannot_be_resumed_ends_in_an_error(start: Start) -> None:
    """Its run has a terminal event, `interrupted`, and can be asked again."""
    first = start("--team", "tests.e2e.teams:unresumable")
    run_id = await ask(first.url, "Wait.")
    await _until(first, run_id, lambda run: run["last_id"] >= 2)
    first.kill()
    second = start("--team", "tests.e2e.teams:unresumable")
    last = json.loads((await watch_sse(second.url, run_id))[-1])["event"]
    assert (last["event_type"], last["data"]["error"]) == ("error", "interrupted")


async def _until(server: ServerProcess, run_id: str, holds: Callable[[dict[str, Any]], bool]) -> None:
    while not holds(await run_of(server, run_id)):  # noqa: ASYNC110 - another process brings it about
        await asyncio.sleep(GLANCE)


async def test_a_key_joins_its_run_after_a_restart_and_in_a_race(start: Start) -> None:
    """A hundred equal posts at once start one run; the same post joins it in the next server, from event 1."""
    body = {"question": SHORT, "idempotency_key": "k", "session_id": "s"}
    first = start()
    async with client_of(first.url) as client:
        answers = await asyncio.gather(*(client.post("/runs", json=body) for _ in range(100)))
        assert {answer.status_code for answer in answers} == {202}
        (run_id,) = {answer.json()["run_id"] for answer in answers}
        assert len((await client.get("/runs")).json()["runs"]) == 1
    whole = await watch_sse(first.url, run_id)
    first.kill()
    second = start()
    joined = [data async for _, data in sse_lines(second.url, "/ask-stream", method="POST", json=body)]
    assert joined == whole


async def test_a_sessions_runs_go_one_after_the_other(server: ServerProcess) -> None:
    """Busy: refused by default, queued when asked for, up to eight; the queue runs in its order."""
    body = {"session_id": "turns", "question": REPORT}
    async with client_of(server.url) as client:
        assert (await client.post("/runs", json=body)).status_code == 202
        refused = await client.post("/ask-stream", json={**body, "question": SHORT})
        assert (refused.status_code, refused.json()["code"]) == (409, "session_busy")
        queued = [
            await client.post("/runs", json={**body, "question": f"{SHORT} {n}", "if_busy": "queue"}) for n in range(9)
        ]
        assert [answer.status_code for answer in queued] == [202] * 8 + [409]
        busy = await client.delete("/sessions/turns")
        assert (busy.status_code, busy.json()["code"]) == (409, "session_busy")
        for answer in queued[:8]:
            await watch_sse(server.url, answer.json()["run_id"])
        runs = (await client.get("/sessions/turns")).json()["runs"]
        assert [run["state"] for run in runs] == ["completed"] * 9
        assert [run["ended_at"] for run in runs] == sorted(run["ended_at"] for run in runs)
        assert (await client.delete("/sessions/turns")).status_code == 204
        assert (await client.get("/sessions/turns")).json()["code"] == "session_not_found"
        assert (await client.get(f"/runs/{runs[0]['run_id']}")).status_code == 404


async def test_a_run_in_a_queue_can_be_cancelled(start: Start) -> None:
    """The team isn't called; the run before it goes on."""
    server = start(*WAITING)
    ahead = await ask(server.url, "Wait.", session_id="s")
    queued = await ask(server.url, "Wait too.", session_id="s", if_busy="queue")
    async with client_of(server.url) as client:
        await client.post(f"/runs/{queued}/cancel")
    kinds = [json.loads(line)["event"]["event_type"] for line in await watch_sse(server.url, queued)]
    assert kinds == ["started", "cancelled"]
    assert (await run_of(server, ahead))["state"] == "running"


async def test_a_run_that_nobody_watches_is_stopped_and_one_that_is_watched_goes_on(start: Start) -> None:
    """Its reason is `orphaned`."""
    server = start(*WAITING, ASKSTREAM_ORPHAN_SECONDS="0.5")
    watched = await ask(server.url, "Wait.")
    alone = await ask(server.url, "Wait.")
    async with socket(server.url) as ws:
        await say(ws, type="subscribe", run_id=watched)
        await _until(server, alone, lambda run: run["state"] != "running")
        last = json.loads((await watch_sse(server.url, alone))[-1])["event"]
        assert last["data"]["reason"] == "orphaned"
        assert (await run_of(server, watched))["state"] == "running"
    await _until(server, watched, lambda run: run["state"] == "cancelled")


@pytest.mark.parametrize("limit", ["ASKSTREAM_RUN_SECONDS", "ASKSTREAM_SILENCE_SECONDS"])
async def test_time_limits_end_a_run(start: Start, limit: str) -> None:
    """The limit of the whole time, and that of the time without an event."""
    server = start(*WAITING, data=None, **{limit: "0.3"})
    run_id = await ask(server.url, "Wait.")
    last = json.loads((await watch_sse(server.url, run_id))[-1])["event"]
    assert (last["event_type"], last["data"]["reason"]) == ("cancelled", "timeout")


async def _read_nothing(server: ServerProcess, request: bytes) -> sockets.socket:
    """Return a client that has sent a request and doesn't read, with the smallest buffer."""
    host, port = server.url.removeprefix("http://").split(":")
    client = sockets.socket()
    client.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    client.connect((host, int(port)))
    client.sendall(request)
    return client


@pytest.mark.parametrize("transport", ["sse", "websocket"])
async def test_a_viewer_that_reads_nothing_is_cut_and_delays_nobody(start: Start, transport: str) -> None:
    """The run doesn't wait, others see all of it, the stalled connection is cut in time."""
    server = start("--team", "tests.e2e.teams:flooding", ASKSTREAM_SEND_SECONDS="1")
    run_id = await ask(server.url, "Flood.")
    if transport == "sse":
        stalled = await _read_nothing(server, f"GET /runs/{run_id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    else:
        key = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
        hello = f"GET /ws HTTP/1.1\r\nHost: localhost\r\n{key}{'A' * 22}==\r\n\r\n".encode()
        stalled = await _read_nothing(server, hello)
        assert stalled.recv(1000).startswith(b"HTTP/1.1 101 ")
        stalled.sendall(_masked({"type": "subscribe", "run_id": run_id}))
    with contextlib.closing(stalled):
        async with asyncio.timeout(2 * PATIENCE):
            lines = await watch_ws(server.url, run_id)
            assert json.loads(lines[-1])["event"]["event_type"] == "completed"
            await _until_cut(server, stalled)


def _masked(message: dict[str, Any]) -> bytes:
    text = json.dumps(message).encode()
    assert len(text) < 126
    return bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text


async def _until_cut(server: ServerProcess, stalled: sockets.socket) -> None:
    """Return when the server has closed the connection."""
    host, port = stalled.getsockname()
    mark = f"{int.from_bytes(sockets.inet_aton(host)[::-1]):08X}:{port:04X}"
    while any(mark == row.split()[2] for row in _sockets_of(server)):  # noqa: ASYNC110 - the kernel's table
        await asyncio.sleep(GLANCE)


def _sockets_of(server: ServerProcess) -> list[str]:
    """Return the kernel's rows of the server's established TCP connections."""
    port = int(server.url.rsplit(":", 1)[1])
    rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return [row for row in rows if row.split()[1].endswith(f":{port:04X}") and row.split()[3] == "01"]


@pytest.mark.long
async def test_an_expired_log_is_gone(start: Start) -> None:
    """The response is 410, and the run's resource has `log_expired`."""
    server = start(ASKSTREAM_KEEP_SECONDS="0.001")
    run_id = await ask(server.url, SHORT)
    await watch_sse(server.url, run_id)
    server.stop()
    again = start(ASKSTREAM_KEEP_SECONDS="0.001")
    await _until(again, run_id, lambda run: run["log_expired"])
    async with client_of(again.url) as client:
        answer = await client.get(f"/runs/{run_id}/events")
    assert (answer.status_code, answer.json()["code"]) == (410, "log_expired")
    async with socket(again.url) as ws:
        assert (await say(ws, type="subscribe", run_id=run_id))["error"]["code"] == "log_expired"


async def test_a_log_that_outgrows_its_bound_loses_chunks_and_reports_it(start: Start) -> None:
    """A viewer with tokens gets a gap instead of them; one without gets everything; the digest is the same."""
    server = start("--team", "tests.e2e.teams:streaming", ASKSTREAM_LOG_EVENTS="600")
    run_id = await ask(server.url, "Stream.")
    live = await watch_sse(server.url, run_id)
    assert await watch_sse(server.url, run_id) == live
    tokens = [json.loads(line)["event"] for line in await watch_sse(server.url, run_id, filters={"tokens": True})]
    gaps = [event for event in tokens if event["event_type"] == "gap"]
    assert gaps
    expected = 1
    for event in tokens:
        if event["event_type"] == "gap":
            assert event["data"]["from"] == expected
            expected = event["data"]["to"] + 1
        else:
            assert event["id"] == expected
            expected += 1
    run = await run_of(server, run_id)
    text = "".join(line + "\n" for line in live)
    assert run["digest"] == hashlib.sha256(text.encode()).hexdigest()
    over_ws = await watch_ws(server.url, run_id, filters={"tokens": True})
    assert [json.loads(f)["event"].get("id") for f in over_ws] == [event.get("id") for event in tokens]


async def test_frames_of_an_ask_over_the_socket_are_the_runs_log(server: ServerProcess) -> None:
    """Without review nothing waits for a human."""
    async with socket(server.url) as ws:
        reply = await say(ws, type="ask", question=SHORT)
        seen = await frames(ws)
    assert seen == await watch_sse(server.url, reply["run_id"])
