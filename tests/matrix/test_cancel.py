"""A cancel ends each kind of team in time, and its model is asked no more."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from tests.e2e.conftest import ServerProcess
from tests.e2e.viewers import client_of, say, socket, sse_lines
from tests.matrix import runs
from tests.matrix.script import Model
from tests.matrix.teams import KINDS, SLOW
from tests.timing import GLANCE, PATIENCE

# A run must have ended 5 s after its cancel, whatever it does.
IN_TIME = 5.0
TRANSPORTS = ("sse", "websocket")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_run_that_is_cancelled_in_a_model_call_ends_in_time(
    kind: str, server: ServerProcess, model: Model
) -> None:
    for transport in TRANSPORTS:
        model.reset(**{kind: KINDS[kind].hangs_at})
        async with _started(transport, server, kind) as (run_id, following):
            assert await asyncio.to_thread(model.hung.wait, PATIENCE)
            await _ends_in_time(transport, server.url, run_id, following)
        await _eventually(lambda: not model.fake.answering)
        assert not model.asked_more


@pytest.mark.parametrize("kind", SLOW)
async def test_a_run_that_is_cancelled_in_a_tool_ends_in_time_and_leaves_no_process(
    kind: str, server: ServerProcess, model: Model
) -> None:
    """Code and an MCP server in processes of their own."""
    before = _processes(server.process.pid)
    for transport in TRANSPORTS:
        model.reset()
        async with _started(transport, server, kind) as (run_id, following):
            called = {"include": "tool_execution"}
            async with aclosing(sse_lines(server.url, f"/runs/{run_id}/events", params=called)) as calls:
                await anext(calls)
            await _ends_in_time(transport, server.url, run_id, following)
        await _eventually(lambda: _processes(server.process.pid) <= before)


@asynccontextmanager
async def _started(
    transport: str, server: ServerProcess, kind: str
) -> AsyncGenerator[tuple[str, asyncio.Future[list[str]]]]:
    """A run's id, and its events to come."""
    replies = iter({**KINDS, **SLOW}[kind].replies)
    async with runs.asked(transport, server.url, kind) as stream:
        first = json.loads(await anext(stream))["event"]
        yield first["run_id"], asyncio.ensure_future(runs.followed(server.url, stream, replies))


async def _ends_in_time(transport: str, url: str, run_id: str, following: asyncio.Future[list[str]]) -> None:
    async with asyncio.timeout(IN_TIME):
        await _cancel(transport, url, run_id)
        end = json.loads((await following)[-1])["event"]
    assert (end["event_type"], end["data"]["reason"]) == ("cancelled", "client")


async def _eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(IN_TIME):
        while not holds():  # noqa: ASYNC110 - another thread's, or another process's
            await asyncio.sleep(GLANCE)


def _processes(parent: int) -> set[int]:
    """The processes that a process has started, and theirs."""
    found: set[int] = set()
    for listed in Path(f"/proc/{parent}/task").glob("*/children"):
        for child in map(int, listed.read_text().split()):
            found |= {child} | _processes(child)
    return found


async def _cancel(transport: str, url: str, run_id: str) -> None:
    if transport == "sse":
        async with client_of(url) as client:
            (await client.post(f"/runs/{run_id}/cancel")).raise_for_status()
    else:
        async with socket(url) as ws:
            assert (await say(ws, type="cancel", run_id=run_id))["ok"]
