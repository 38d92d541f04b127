"""SSE and WebSocket are two views of one durable log: the events are the same on both."""

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ServerProcess, Start
from tests.e2e.viewers import ask, client_of, frames, is_terminal, say, socket, sse_lines, watch_sse, watch_ws
from tests.timing import PATIENCE

REPORT = "Generate a monthly business report for our sales performance"
TOKENS = {"tokens": True}
SHORT = "What was revenue in March 2026?"


async def test_a_run_is_the_same_bytes_on_both_transports(server: ServerProcess) -> None:
    """Watched live on both at once, by an early and a late viewer, chunks included."""
    run_id = await ask(server.url, REPORT)
    sse, ws = await asyncio.gather(
        watch_sse(server.url, run_id, filters=TOKENS), watch_ws(server.url, run_id, filters=TOKENS)
    )
    assert sse == ws
    assert [json.loads(line)["event"]["id"] for line in sse] == list(range(1, len(sse) + 1))
    late = await asyncio.gather(
        watch_sse(server.url, run_id, filters=TOKENS), watch_ws(server.url, run_id, filters=TOKENS)
    )
    assert late == [sse, sse]


async def test_resuming_at_any_id_on_either_transport_gives_the_rest(server: ServerProcess) -> None:
    """Every cursor of a finished run, by query, by header and by socket."""
    run_id = await ask(server.url, SHORT)
    whole = await watch_sse(server.url, run_id, filters=TOKENS)
    async with client_of(server.url) as client:
        for cursor in range(len(whole)):
            header = {"Last-Event-ID": str(cursor)}
            path = f"/runs/{run_id}/events?tokens=true&after=1"
            answer = await client.get(path, headers=header)
            assert [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")] == whole[cursor:]
            if cursor % 5 == 0:
                assert await watch_ws(server.url, run_id, after=cursor, filters=TOKENS) == whole[cursor:]
        assert (await client.get(f"/runs/{run_id}/events?after={len(whole)}")).status_code == 204
        assert (await client.get(f"/runs/{run_id}/events?after=latest")).status_code == 204


async def test_a_viewer_that_changes_transports_sees_each_event_once(server: ServerProcess) -> None:
    """Cut after a few events again and again, while the run goes on, each time on the other transport."""
    chance = random.Random(7)
    run_id = await ask(server.url, REPORT)
    seen: list[str] = []
    while not seen or not is_terminal(seen[-1]):
        few = chance.randrange(1, 12)
        if chance.random() < 0.5:
            path = f"/runs/{run_id}/events?tokens=true&after={len(seen)}"
            async for _, line in sse_lines(server.url, path):
                seen.append(line)
                if not (few := few - 1):
                    break
        else:
            # With a bounded queue this client would wait ten seconds for a close frame behind what it doesn't read.
            async with socket(server.url, max_queue=None) as ws:
                assert (await say(ws, type="subscribe", run_id=run_id, after=len(seen), tokens=True))["ok"]
                while few and not (seen and is_terminal(seen[-1])):
                    seen.append(str(await ws.recv()))
                    few -= 1
    assert seen == await watch_sse(server.url, run_id, filters=TOKENS)


@pytest.mark.long
async def test_fifty_runs_at_once_do_not_mix(server: ServerProcess) -> None:
    """No event in a wrong run, ids of each from 1 without a gap, each answers its own question."""

    async def one(number: int) -> None:
        month = ["January", "February", "March", "April", "May"][number % 5]
        question = f"What was revenue in {month} 2026{'?' * (number + 1)}"
        async with socket(server.url) as ws:
            reply = await say(ws, type="ask", ref=number, question=question)
            found = [json.loads(frame)["event"] for frame in await frames(ws)]
        assert {event["run_id"] for event in found} == {reply["run_id"]}
        assert found[0]["data"]["question"] == question
        assert f"{month} 2026" in found[-1]["data"]["final_response"]
        whole = await watch_sse(server.url, reply["run_id"], filters=TOKENS)
        assert [json.loads(line)["event"]["id"] for line in whole] == list(range(1, len(whole) + 1))

    async with asyncio.timeout(6 * PATIENCE):
        await asyncio.gather(*(one(number) for number in range(50)))


async def test_many_runs_on_one_socket(server: ServerProcess) -> None:
    """Each run's events are in order, marked by run_id; an unsubscribed run sends none."""
    async with socket(server.url) as ws:
        runs = [(await _started(ws, f"What was revenue in March 2026{'?' * (n + 1)}")) for n in range(5)]
        left = runs.pop()
        await ws.send(json.dumps({"type": "unsubscribe", "ref": "off", "run_id": left}))
        seen: dict[str, list[int]] = {run_id: [] for run_id in runs}
        over, gone = set[str](), False
        while len(over) < len(runs):
            frame = json.loads(await ws.recv())
            if "reply" in frame:
                gone = gone or frame["reply"].get("ref") == "off"
                continue
            event = frame["event"]
            assert not (gone and event["run_id"] == left)
            if event["run_id"] in seen:
                seen[event["run_id"]].append(event["id"])
            if event["event_type"] == "completed":
                over.add(event["run_id"])
    assert all(ids == sorted(set(ids)) for ids in seen.values())


async def _started(ws: object, question: str) -> str:
    """Ask on a socket that other runs' events arrive on as well."""
    from websockets.asyncio.client import ClientConnection

    assert isinstance(ws, ClientConnection)
    await ws.send(json.dumps({"type": "ask", "ref": question, "question": question}))
    while True:
        reply = json.loads(await ws.recv()).get("reply", {})
        if reply.get("ref") == question:
            return reply["run_id"]


async def test_filters_hide_and_never_renumber(server: ServerProcess) -> None:
    """The same events on both transports, with their ids in the log; the stream ends even if its end is hidden."""
    run_id = await ask(server.url, SHORT)
    whole = [json.loads(line)["event"] for line in await watch_sse(server.url, run_id, filters=TOKENS)]
    shown = [event for event in whole if event["event_type"] != "agent_chunk"]
    for field, names, part in (
        ("include", ["agent_response", "completed"], "event_type"),
        ("agents", ["DataAgent", "ReportAgent"], "agent_name"),
    ):
        filters = {field: names}
        expected = [event for event in shown if event[part] in names]
        assert _parsed(await watch_sse(server.url, run_id, filters=filters)) == expected
        assert _parsed(await watch_ws(server.url, run_id, filters=filters)) == expected
    hidden = {"exclude": ["tool_execution", "started"]}
    expected = [event for event in shown if event["event_type"] not in hidden["exclude"]]
    assert _parsed(await watch_sse(server.url, run_id, filters=hidden)) == expected


def _parsed(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line)["event"] for line in lines]


async def test_where_the_newest_is_hidden_a_block_of_id_alone_moves_the_cursor(server: ServerProcess) -> None:
    """So a browser that reconnects doesn't ask for it again."""
    run_id = await ask(server.url, SHORT)
    whole = await watch_sse(server.url, run_id, filters=TOKENS)
    async with client_of(server.url) as client:
        answer = await client.get(f"/runs/{run_id}/events?include=started")
    blocks = answer.text.split("\n\n")
    assert blocks[1] == f"data: {whole[0]}\nid: 1"
    assert blocks[-2:] == [f"id: {len(whole)}", ""]


async def test_the_log_as_lines(server: ServerProcess) -> None:
    """`Accept: application/x-ndjson`: the same bytes, a line each."""
    run_id = await ask(server.url, SHORT)
    whole = await watch_sse(server.url, run_id)
    async with client_of(server.url) as client:
        answer = await client.get(f"/runs/{run_id}/events", headers={"Accept": "application/x-ndjson"})
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert answer.text == "".join(line + "\n" for line in whole)


@pytest.mark.parametrize("journal", ["memory://", "sqlite:///{data}/own.db"])
async def test_cancel_over_either_transport_ends_the_run_for_all_viewers(
    start: Start, tmp_path: Path, journal: str
) -> None:
    """A run that waits on its team is stopped; both kinds of viewer see it end as cancelled by the client."""
    server = start("--team", "tests.e2e.teams:waiting", ASKSTREAM_JOURNAL=journal.format(data=tmp_path))
    async with asyncio.timeout(3 * PATIENCE):
        for over_socket in (True, False):
            run_id = await ask(server.url, "Wait.")
            viewers = asyncio.gather(watch_sse(server.url, run_id), watch_ws(server.url, run_id))
            if over_socket:
                async with socket(server.url) as ws:
                    assert (await say(ws, type="cancel", ref=1, run_id=run_id))["state"] == "running"
            else:
                async with client_of(server.url) as client:
                    assert (await client.post(f"/runs/{run_id}/cancel")).status_code == 202
            sse, ws_seen = await viewers
            assert sse == ws_seen
            last = json.loads(sse[-1])["event"]
            assert (last["event_type"], last["data"]["reason"]) == ("cancelled", "client")


async def test_disconnecting_is_not_cancelling_unless_asked_for(start: Start) -> None:
    """The run goes on without its viewer; with `on_disconnect: cancel` it ends with the one that started it."""
    server = start("--team", "tests.e2e.teams:waiting")
    async with asyncio.timeout(3 * PATIENCE), client_of(server.url) as client:
        for policy in ("continue", "cancel"):
            body = {"question": "Wait.", "on_disconnect": policy}
            by_sse = await _asked_and_left(server.url, body)
            async with socket(server.url) as ws:
                by_ws = (await say(ws, type="ask", **body))["run_id"]
            for run_id in (by_sse, by_ws):
                if policy == "cancel":
                    last = json.loads((await watch_sse(server.url, run_id))[-1])["event"]
                    assert last["data"]["reason"] == "client"
                else:
                    assert (await client.get(f"/runs/{run_id}")).json()["state"] == "running"


async def _asked_and_left(url: str, body: dict[str, str]) -> str:
    """Read one event of /ask-stream and disconnect. Return the run's id."""
    async for _, line in sse_lines(url, "/ask-stream", method="POST", json=body):
        return json.loads(line)["event"]["run_id"]
    raise AssertionError("the stream was empty")
