"""Nothing that a team does harms the server or another run."""

import asyncio
import json
from typing import Any

import pytest

from tests.e2e.conftest import ServerProcess, Start
from tests.e2e.viewers import ask, client_of, watch_sse, watch_ws

TEAM = ("--team", "tests.e2e.harmful_teams:team")


async def last_event(server: ServerProcess, run_id: str) -> dict[str, Any]:
    """A run's terminal event, the same over both transports."""
    over_sse, over_ws = await asyncio.gather(watch_sse(server.url, run_id), watch_ws(server.url, run_id))
    assert over_sse == over_ws
    return json.loads(over_sse[-1])["event"]


@pytest.mark.parametrize("tool", ["leave", "leave_later", "leave_by_callback"])
async def test_a_tool_that_exits_ends_neither_the_server_nor_another_run(start: Start, tool: str) -> None:
    """Six runs at once, and one of them calls it: all end, and the server answers."""
    server = start(*TEAM)
    asked = [await ask(server.url, "Go on.") for _ in range(5)]
    guilty = await ask(server.url, f"{tool} in B")
    ends = [await last_event(server, run_id) for run_id in (*asked, guilty)]
    assert [end["event_type"] for end in ends] == ["completed"] * 6
    assert server.process.poll() is None
    async with client_of(server.url) as client:
        assert (await client.get("/health")).status_code == 200
    assert server.stop() == 0
