"""A team of a kind that can't be saved where it asks a person waits in memory, and nobody can tell the difference."""

import json
import os
from pathlib import Path
from typing import Any

from tests.e2e.conftest import ServerProcess, Start
from tests.e2e.test_human import answer, asked, events_of
from tests.e2e.viewers import ask, client_of, say, socket, watch_sse, watch_ws

ASKING = ("--team", "tests.e2e.teams:asking")


async def state_of(url: str, run_id: str) -> dict[str, Any]:
    async with client_of(url) as client:
        return (await client.get(f"/runs/{run_id}")).json()


async def test_a_person_is_asked_and_answers_over_either_transport(start: Start) -> None:
    """The first answer over HTTP, the second over a WebSocket; both views have the same events. The limit on messages
    counts from the last answer: five come in all."""
    server = start(*ASKING, ASKSTREAM_MESSAGES="4")
    run_id = await ask(server.url, "Write.")
    first = await asked(server.url, run_id)
    assert (first["prompt"], first["schema"]["type"]) == ("Is it good?", "string")
    run = await state_of(server.url, run_id)
    assert (run["state"], run["pending_input"]["request_id"]) == ("waiting", first["request_id"])
    assert (await answer(server.url, run_id, first["request_id"], "again"))[0] == 200
    assert (await answer(server.url, run_id, first["request_id"], "again"))[0] == 200
    assert (await answer(server.url, run_id, first["request_id"], "approved"))[0] == 409
    second = await asked(server.url, run_id, but=first["request_id"])
    async with socket(server.url) as ws:
        told = await say(ws, type="input", run_id=run_id, request_id=second["request_id"], value="approved")
        assert told["ok"], told
    over_sse = await watch_sse(server.url, run_id)
    assert over_sse == await watch_ws(server.url, run_id)
    events = [json.loads(line)["event"] for line in over_sse]
    said = [(event["agent_name"], event["message"]) for event in events if event["event_type"] == "agent_response"]
    assert said == [
        ("Writer", "Writer has written"),
        ("Person", "again"),
        ("Writer", "Writer has written"),
        ("Person", "approved"),
        ("Publisher", "Publisher has written"),
    ]
    assert events[-1]["data"]["final_response"] == "Publisher has written"
    kinds = [event["event_type"] for event in events if event["event_type"] != "agent_thinking"]
    assert kinds[1:4] == ["agent_response", "input_requested", "input_resolved"]


async def test_a_restart_interrupts_the_run_honestly(start: Start) -> None:
    """The next server ends it, and refuses a late answer."""
    first = start(*ASKING)
    run_id = await ask(first.url, "Write.")
    request = await asked(first.url, run_id)
    first.kill()
    second = start(*ASKING)
    events = await events_of(second.url, run_id)
    assert (events[-1]["event_type"], events[-1]["data"]["error"]) == ("error", "interrupted")
    status, told = await answer(second.url, run_id, request["request_id"], "approved")
    assert (status, told["code"]) == (410, "input_expired")


async def test_the_servers_console_is_never_read(tmp_path: Path) -> None:
    """Not by `input` in a run, and not by a thread that no run knows of."""
    for team, said in ((*ASKING,), "approved"), (("--team", "tests.e2e.teams:reading"), "''"):
        reads, writes = os.pipe()
        os.write(writes, b"from the console\n" * 10)
        server = ServerProcess(tmp_path / team[1], *team, console=reads)
        try:
            run_id = await ask(server.url, "Write.")
            if team == ASKING:
                request = await asked(server.url, run_id)
                await answer(server.url, run_id, request["request_id"], "approved")
            assert said in [event["message"] for event in await events_of(server.url, run_id)]
        finally:
            server.release()
            os.close(reads)
            os.close(writes)
