"""The cost of a whole run over HTTP beside AutoGen's own `run_stream` in process, and the time to its first event.

Each has a process of its own with the same team and model, and the process's own clock counts its CPU, all threads.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import aiohttp

from bench import machine, servers
from bench.fanout import Scope
from bench.machine import Unmeasurable, say
from bench.report import AUTOGEN, STARLETTE, Row, Table
from bench.servers import LIMITS, ROOT, STREAMING, Checkout, Running, Server
from bench.writers import QUESTION, SHAPE, delays, quantiles

_DELTA = re.compile(rb'"delta":"([^"]*)"')
WRITERS = str(ROOT / "bench" / "writers.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """`runs` at once, of so many agents that each write so many pieces, with `pause` seconds between two."""

    runs: int
    agents: int
    pieces: int
    pause: float = 0.0
    extra: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def environment(self) -> Mapping[str, str]:
        return {SHAPE: f"{self.agents} {self.pieces} {self.pause}", **self.extra}

    def cost(self, cpu: float, written: int, p50: float, p99: float) -> "Cost":
        """Raise Unmeasurable if not every piece arrived."""
        if written != self.runs * self.agents * self.pieces:
            raise Unmeasurable(f"{written} pieces arrived of {self.runs * self.agents * self.pieces}")
        return Cost(cpu / self.runs * 1e3, p50, p99)


@dataclass(frozen=True, slots=True)
class Cost:
    """Return the CPU in ms of a run, and the delays of a piece in ms."""

    cpu: float
    p50: float
    p99: float


_ENDLESS = Shape(runs=1, agents=1, pieces=100_000, pause=0.05)


def teams(scope: Scope) -> Iterator[Table]:
    cost = Table("A run over HTTP beside the same team driven in process", "CPU milliseconds a run, all threads")
    delay = Table("How long a piece of text is on its way", "Milliseconds")
    spoken = Shape(runs=10 if scope.is_full else 3, agents=3, pieces=50)
    found = compared(scope.checkouts, spoken, rounds=3)
    cpu = {name: each.cpu for name, each in found.items()}
    cost.rows.append(Row(f"3 agents, 50 pieces each, {spoken.runs} runs", cpu, goal="run"))
    written = Shape(runs=300 if scope.is_full else 50, agents=1, pieces=200, pause=0.05)
    found = compared(scope.checkouts, written, rounds=1)
    case, goal = f"200 pieces, 20 a second, {written.runs} runs", "delay" if scope.is_full else ""
    cost.rows.append(Row(case, {name: each.cpu for name, each in found.items()}, goal="written"))
    delay.rows.append(Row(f"{case}, p50", {name: each.p50 for name, each in found.items()}))
    delay.rows.append(Row(f"{case}, p99", {name: each.p99 for name, each in found.items()}, goal=goal))
    yield from (cost, delay, _first_events(scope))


def compared(checkouts: Iterable[Checkout], shape: Shape, *, rounds: int) -> Mapping[str, Cost]:
    """Return the cheapest round of each. The first round imports and fills caches, and doesn't count."""
    say(f"teams: {shape.agents} agents, {shape.pieces} pieces each, {shape.runs} runs")
    found: dict[str, list[Cost]] = {}
    for checkout in checkouts:
        with servers.running(_server(shape, checkout)) as server:
            found[checkout.name] = [asyncio.run(_served(server, shape)) for _ in range(rounds + 1)]
    found[AUTOGEN] = _in_process(shape, rounds + 1)
    return {name: min(costs[1:], key=lambda cost: cost.cpu) for name, costs in found.items()}


def _server(shape: Shape, checkout: Checkout) -> Server:
    """The product's command with its defaults, except for the model and for limits that a benchmark must exceed."""
    variables = {**LIMITS, "OPENAI_API_KEY": "none", "ASKSTREAM_TEAM": "writers:team", **shape.environment}
    command = checkout.serve(WRITERS, checkout.package)
    return Server(name=checkout.name, command=command, environment=variables, root=checkout.root)


async def _served(server: Running, shape: Shape) -> Cost:
    took: list[float] = []
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=300)
    address, before = f"http://127.0.0.1:{server.port}", machine.cpu_seconds(server.pid)
    async with (
        aiohttp.ClientSession(address, connector=connector, timeout=timeout, read_bufsize=2**20) as session,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(shape.runs):
            group.create_task(_ask(session, took))
    return shape.cost(machine.cpu_seconds(server.pid) - before, len(took), *quantiles(took))


async def _ask(session: aiohttp.ClientSession, took: list[float]) -> None:
    async with session.post("/ask-stream", json={"question": QUESTION, "tokens": True}) as answer:
        async for line in answer.content:
            took += delays(b"".join(_DELTA.findall(line)).decode())


def _in_process(shape: Shape, rounds: int) -> list[Cost]:
    command = [sys.executable, WRITERS, "stream", str(shape.runs), str(rounds)]
    process = subprocess.Popen(command, env=servers.environment(shape.environment), stdout=subprocess.PIPE, text=True)
    os.sched_setaffinity(process.pid, {machine.cores()[0]})
    lines = process.communicate()[0].splitlines()
    if process.returncode:
        raise Unmeasurable("AutoGen's process failed; its reason is on standard error")
    return [shape.cost(*json.loads(line)) for line in lines]


def _first_events(scope: Scope) -> Table:
    """Measure from a question to its first event, while other runs write 20 pieces a second each."""
    result = Table("From a question to its first event, beside an answer of Starlette's", "Milliseconds")
    asked = 300 if scope.is_full else 50
    with servers.running(STREAMING) as peer:
        floor = _timed(peer, asked, lambda: servers.request(peer.port, "/health").read())
    for going, case in ((0, "at rest"), (200, "while 200 runs are going")):
        say(f"first event {case}")
        found = {each.name: _first_event_times(_server(_ENDLESS, each), going, asked) for each in scope.checkouts}
        found[STARLETTE] = floor
        for number, name in enumerate(("p50", "p99")):
            figures = {server: times[number] for server, times in found.items()}
            result.rows.append(Row(f"{case}, {name}", figures, goal="first event", of=f"{case} {name}"))
    return result


def first_event_at_rest(extra: Mapping[str, str]) -> float:
    """Return p50 in ms from a question to its first event, with these variables."""
    return _first_event_times(_server(replace(_ENDLESS, extra=extra), servers.here()), 0, 50)[0]


def _first_event_times(which: Server, going: int, asked: int) -> tuple[float, float]:
    with servers.running(which) as server:
        port, body = server.port, {"question": QUESTION}
        ids = [json.load(servers.request(port, "/runs", body))["run_id"] for _ in range(going)]
        machine.settle(server.pid, longest=3)
        found = _timed(server, asked, lambda: _first_event(port))
        if any(servers.state(port, run) != "running" for run in ids):
            raise Unmeasurable(f"of {going} runs some ended early")
        return found


def _timed(server: Running, times: int, ask: Callable[[], object]) -> tuple[float, float]:
    """Return p50 and p99 in ms, of the round that other programs disturb least."""

    def measure() -> list[float]:
        took: list[float] = []
        for _ in range(times):
            began = time.perf_counter()
            ask()
            took.append((time.perf_counter() - began) * 1e3)
            time.sleep(0.02)  # for the cancel of the run before
        return took

    ask()
    return quantiles(machine.least_disturbed(measure, server.pid, os.getpid())[0])


def _first_event(port: int) -> None:
    with servers.request(port, "/ask-stream", {"question": QUESTION, "on_disconnect": "cancel"}) as answer:
        while not answer.readline().startswith(b"data:"):
            pass
