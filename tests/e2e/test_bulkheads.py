"""Nothing that a team does harms the server or another run."""

import asyncio
import contextlib
import json
import re
import resource
import socket as sockets
from typing import Any

import httpx2
import pytest

from tests.e2e.conftest import ServerProcess, Start
from tests.e2e.viewers import ask, client_of, watch_sse, watch_ws
from tests.timing import GLANCE, MS, PATIENCE

TEAM = ("--team", "tests.e2e.harmful_teams:team")


async def last_event(server: ServerProcess, run_id: str) -> dict[str, Any]:
    """A run's terminal event, the same over both transports."""
    over_sse, over_ws = await asyncio.gather(watch_sse(server.url, run_id), watch_ws(server.url, run_id))
    assert over_sse == over_ws
    return json.loads(over_sse[-1])["event"]


async def events(server: ServerProcess, run_id: str) -> list[dict[str, Any]]:
    return [json.loads(line)["event"] for line in await watch_sse(server.url, run_id)]


async def test_tools_that_exit_end_neither_the_server_nor_another_run(start: Start) -> None:
    """In a thread, on the loop, and in a callback, beside five runs: all end, and the server answers."""
    server = start(*TEAM)
    asked = [await ask(server.url, "Go on.") for _ in range(5)]
    expected = {"leave": "SystemExit: 2", "leave_later": "SystemExit: 2", "leave_by_callback": "nothing"}
    guilty = {tool: await ask(server.url, f"{tool} in B") for tool in expected}
    ends = [await last_event(server, run_id) for run_id in (*asked, *guilty.values())]
    assert [end["event_type"] for end in ends] == ["completed"] * 8
    for tool, run_id in guilty.items():
        calls = [event for event in await events(server, run_id) if event["event_type"] == "tool_execution"]
        assert [event["data"].get("result") for event in calls] == [None, expected[tool]]
    async with client_of(server.url) as client:
        assert (await client.get("/health")).status_code == 200
    assert server.stop() == 0


async def test_a_server_without_file_descriptors_for_its_imports_tries_again(start: Start) -> None:
    """Idle sockets took them. It serves once they are closed."""
    server = start()
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (200, 200))
    host, port = server.url.removeprefix("http://").split(":")
    idle = [sockets.create_connection((host, int(port))) for _ in range(180)]
    async with asyncio.timeout(PATIENCE):
        while "can't be made ready" not in server.output:
            idle.append(sockets.create_connection((host, int(port))))  # takes what an import has closed
            await asyncio.sleep(MS)
    for each in idle:
        each.close()
    async with asyncio.timeout(PATIENCE):
        while not await _is_ready(server):  # noqa: ASYNC110 - it resets what it can't accept
            await asyncio.sleep(GLANCE)
    end = await last_event(server, await ask(server.url, "What was revenue in March 2026?"))
    assert end["event_type"] == "completed"
    assert server.stop() == 0


async def test_the_log_says_what_failed_and_where_and_clients_do_not(start: Start) -> None:
    """It has a tool's error with its traceback, and the tool that blocked the loop."""
    server = start(*TEAM)
    raised, blocked = await ask(server.url, "look_up in A"), await ask(server.url, "block in B")
    assert [(await last_event(server, run_id))["event_type"] for run_id in (raised, blocked)] == ["completed"] * 2
    file = "harmful_teams\\.py"
    said = rf"run={raised} agent=A tool=look_up raised KeyError at \S*{file}:\d+: 'no such row'\nTraceback "
    assert re.search(said, server.output)
    assert re.search(rf"blocked for 500 ms by block, at \S*{file}:\d+;", server.output)
    assert "Traceback" not in str(await events(server, raised))
    assert server.stop() == 0


async def _is_ready(server: ServerProcess) -> bool:
    try:
        async with client_of(server.url) as client:
            return (await client.get("/ready")).status_code == 200
    except httpx2.TransportError:
        return False


@pytest.mark.long
async def test_a_run_that_kills_the_process_is_found_and_five_beside_it_complete(start: Start) -> None:
    """As a segmentation fault or the OOM killer would. The server is started again after each death."""
    server = start(*TEAM, HARMFUL_TURN="0.3")
    innocent = [await ask(server.url, "Go on.") for _ in range(5)]
    guilty = await ask(server.url, "die in B")
    deaths = 0
    while await _is_unfinished(server, [*innocent, guilty]):
        while server.process.poll() is not None:
            deaths += 1
            assert deaths < 12, "it dies again and again"
            with contextlib.suppress(RuntimeError):  # it died before it listened
                server = start(*TEAM, HARMFUL_TURN="0.3")
        await asyncio.sleep(GLANCE)
    assert deaths >= 5
    assert [(await last_event(server, run_id))["event_type"] for run_id in innocent] == ["completed"] * 5
    end = await last_event(server, guilty)
    assert (end["event_type"], end["data"]["error"]) == ("error", "interrupted")
    assert end["message"] == "The server stopped 5 times while only this run was at work."


async def _is_unfinished(server: ServerProcess, run_ids: list[str]) -> bool:
    """Also where the server has just died."""
    try:
        async with client_of(server.url) as client:
            runs = [(await client.get(f"/runs/{run_id}")).json() for run_id in run_ids]
    except httpx2.TransportError:
        await asyncio.to_thread(server.process.wait, PATIENCE)
        return True
    return any(run["ended_at"] is None for run in runs)
