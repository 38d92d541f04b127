"""Runs that are cancelled at random moments end in time, and leave nothing in the server."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import httpx2
import pytest

from tests.chaos.host import RETRY_SECONDS, Host
from tests.chaos.scenario import POOLED_THREADS, TEAM, settled
from tests.chaos.team import Plan
from tests.e2e.viewers import client_of, socket, watch_sse
from tests.timing import MS

SEED = 2026
RUNS, LEGS = 1000, 4
AT_ONCE = 20
# Contract: a cancelled run has ended 5 s later. The extra second is for a busy machine.
CANCEL_SECONDS = 5 + 1000 * MS
# The permanent growth of the heap per run, in KiB. It counts from the second leg on, when pools, caches and late
# imports are full. A leaked task costs several times as much.
HEAP_KB_A_RUN = 0.5
# The growth of RSS for SQLite's cache, the allocator and new worker threads.
RSS_KB = 16 * 1024
SETTINGS = {
    "ASKSTREAM_MESSAGES": "1000000",  # no run may end by itself
    # Python and malloc must keep no freed memory: then the count of bytes in use is exact.
    "PYTHONMALLOC": "malloc",
    "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0",
}


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    opened = Host(tmp_path, TEAM, SETTINGS)
    await opened.begin()
    try:
        yield opened
        await opened.stop()
    finally:
        await opened.release()


@pytest.mark.long
async def test_runs_cancelled_at_random_moments_leave_nothing_behind(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the first event, in a text, in a tool's thread, between turns, while it waits for a human; with viewers on
    either transport or without. Memory, tasks, threads and files don't grow."""
    chance = Random(SEED)
    held, slowest = [await settled(host, None)], 0.0
    for _ in range(LEGS):
        slowest = max(slowest, await _cancelled(host, chance, RUNS // LEGS))
        held.append(await settled(host, held[-1]))
    with capsys.disabled():
        print(f"\n{RUNS} cancelled, seed {SEED}: slowest {slowest:.2f} s", *held, sep="\n  ")
    assert slowest < CANCEL_SECONDS
    first, last = held[1], held[-1]
    assert last.heap - first.heap < HEAP_KB_A_RUN * (RUNS - RUNS // LEGS)
    assert last.rss - first.rss < RSS_KB
    assert last.threads < POOLED_THREADS
    assert not host.complaints, host.output[-4000:]


async def _cancelled(host: Host, chance: Random, count: int) -> float:
    """Start and cancel so many runs. Return the longest time from the acknowledgement to a run's end."""
    slowest = 0.0
    numbers = iter(range(count))

    async def one_after_the_other(own: Random) -> None:
        nonlocal slowest
        url = await host.url()
        async with client_of(url) as client:
            for number in numbers:
                slowest = max(slowest, await _cancel_one(client, url, number, own))

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(one_after_the_other(Random(chance.random())))
    return slowest


async def _cancel_one(client: httpx2.AsyncClient, url: str, number: int, chance: Random) -> float:
    plan = Plan(
        tag=f"cancel-{number}",
        turns=10_000,
        pause=chance.choice((0.002, 0.02, 0.2)),
        chunks=chance.randint(0, 10),
        asks=chance.choice((0, 0, 1)),
        stubborn=chance.random() < 0.1,
    )
    async with asyncio.TaskGroup() as viewers:
        run_id = (await client.post("/runs", json={"question": plan.question()})).json()["run_id"]
        if chance.random() < 0.5:
            viewers.create_task(watch_sse(url, run_id))
        if chance.random() < 0.3:
            viewers.create_task(_glances(url, run_id))
        await asyncio.sleep(chance.choice((0, chance.uniform(0, 0.1), chance.uniform(0, 1))))
        assert (await client.post(f"/runs/{run_id}/cancel")).status_code == 202
        began = time.monotonic()
        while (run := (await client.get(f"/runs/{run_id}")).json())["ended_at"] is None:  # noqa: ASYNC110
            await asyncio.sleep(RETRY_SECONDS)
        assert (run["state"], run["pending_input"]) == ("cancelled", None)
        return time.monotonic() - began


async def _glances(url: str, run_id: str) -> None:
    """Subscribe and disconnect before anything can arrive."""
    async with socket(url) as ws:
        await ws.send(f'{{"type":"subscribe","run_id":"{run_id}"}}')
        ws.transport.abort()
