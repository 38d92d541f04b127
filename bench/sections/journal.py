"""The journal: how many events it accepts, and how fast a late viewer reads from it."""

import asyncio
import json
import os
import socket
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import orjson
import uvloop

from askstream.server.journal import Entry, Journal, RunRecord, open_journal
from bench import fanout, machine, servers
from bench.build import Unmeasurable
from bench.events import AGENT, envelope
from bench.generator import Seen, watching
from bench.goals import SQLITE, UNDISTURBED
from bench.ours import CONTROL_PATH
from bench.report import Row, Table
from bench.servers import FLOOR, OURS, Running, Transport, Watching
from bench.suite import TITLES, Scope, say

RUNS = 500
REPLAYED = 10_000
# Between the end of one replay and the start of the next: replays fill a good part of the time, but not all of it.
PAUSE_MS = 100.0


# ---- appends -----------------------------------------------------------------------------------------------


def journal(scope: Scope) -> Iterator[Table]:
    """Appends from many runs at once, in this process; and what SQLite itself accepts."""
    say(f"journal, {RUNS} runs")
    events = 200 if scope.is_full else 40
    ours = machine.least_disturbed(partial(_rate, events), os.getpid())
    bare = machine.least_disturbed(partial(_bare_rate, events), os.getpid())
    result = Table(f"Durable events, {RUNS} runs at once", "Events a second", better="more")
    result.rows.append(Row("appended", {OURS: ours, SQLITE: bare}, 0, "journal"))
    yield result


def _rate(events: int) -> float:
    """Each run waits for its last event to be durable before the next."""
    with tempfile.TemporaryDirectory(prefix="askstream-bench-") as folder:
        path = Path(folder, "journal.db")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_appends(path, _entries(events)))


async def _appends(path: Path, entries: Sequence[Entry]) -> float:
    journal = open_journal(f"sqlite:///{path}", synchronous="normal")
    records = [
        RunRecord(run_id=str(n), principal="bench", session_id=str(n), question="?", model="none", created_at=0.0)
        for n in range(RUNS)
    ]
    for record in records:
        await journal.create(record, [])
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for record in records:
            group.create_task(_append(journal, record, entries))
    seconds = time.perf_counter() - began
    await journal.close()
    return RUNS * len(entries) / seconds


async def _append(journal: Journal, record: RunRecord, entries: Sequence[Entry]) -> None:
    for entry in entries:
        await journal.append(record.update._replace(last_id=entry.id), [entry])


def _entries(count: int) -> list[Entry]:
    return [Entry(number + 1, "agent_thinking", AGENT, orjson.dumps(envelope(number))) for number in range(count)]


def _bare_rate(events: int) -> float:
    """The same lines from one thread, RUNS of them in each transaction."""
    entries = _entries(events)
    with (
        tempfile.TemporaryDirectory(prefix="askstream-bench-") as folder,
        closing(sqlite3.connect(Path(folder, "bare.db"), isolation_level=None)) as database,
    ):
        for setting in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = normal"):
            database.execute(setting)
        database.execute("CREATE TABLE events (run, id, line, PRIMARY KEY (run, id)) WITHOUT ROWID")
        began = time.perf_counter()
        for entry in entries:
            database.execute("BEGIN IMMEDIATE")
            rows = [(str(run), entry.id, entry.line) for run in range(RUNS)]
            database.executemany("INSERT INTO events VALUES (?, ?, ?)", rows)
            database.execute("COMMIT")
        return RUNS * events / (time.perf_counter() - began)


# ---- replays -----------------------------------------------------------------------------------------------


def replay(scope: Scope) -> Iterator[Table]:
    """A late viewer reads a run that has ended, alone and while others watch a live one."""
    speed = Table(f"A late viewer reads {REPLAYED:,} events over HTTP", "MB a second", better="more")
    others = Table("Live viewers while late ones read one after another", "Milliseconds from publish to socket")
    floor = _floor()
    cases: list[tuple[Transport, int]] = [("sse", 100), *([("websocket", 1000)] if scope.is_full else [])]
    kinds: list[tuple[str, Literal["memory", "sqlite"]]] = [("memory", "memory"), ("SQLite", "sqlite")]
    for kept, kind in kinds:
        for transport, live in cases:
            case = f"from {kept}, {live:,} live {TITLES[transport]} viewers"
            say(f"replay {case}")
            alone, quiet, beside = replays(transport, kind, live, 4 if scope.is_full else 2)
            speed.rows.append(Row(f"{case}: alone", {OURS: alone, FLOOR.name: floor}, 0, f"replay {kept}"))
            speed.rows.append(Row(f"{case}: meanwhile", {OURS: beside.replay_mb_s}, 0))
            others.rows.append(Row(f"{case}, p50", {OURS: beside.p50_ms, UNDISTURBED: quiet.p50_ms}))
            p99 = {OURS: beside.p99_ms, UNDISTURBED: quiet.p99_ms}
            others.rows.append(Row(f"{case}, p99", p99, goal="replay p99", of=f"{TITLES[transport]} {kept}"))
    yield from (speed, others)


def replays(
    transport: Transport,
    kind: Literal["memory", "sqlite"],
    live: int,
    seconds: float,
    extra: Mapping[str, str] | None = None,
) -> tuple[float, Seen, Seen]:
    """MB/s of a late viewer alone; what `live` viewers see without late viewers, and with them."""
    ours = servers.ours(transport, journal=kind)
    with servers.running(replace(ours, environment={**ours.environment, **(extra or {})})) as process:
        how = _ended_run(process, process.server.prepare(process.port, 1))
        alone, first = _alone(process, how, first=REPLAYED)
        with watching(process, how, live, first=first) as viewers:
            machine.settle(process.pid)
            rate = fanout.paced_rate(live)
            pace = partial(viewers.pace, max(10, round(seconds * rate)), rate=rate)
            quiet = machine.least_disturbed(pace, process.pid, viewers.pid)
            beside = machine.least_disturbed(partial(pace, late_pause_ms=PAUSE_MS), process.pid, viewers.pid)
    return alone, quiet, beside


def _floor() -> float:
    """The C loop: the same bytes from its memory with as few system calls as possible."""
    with servers.running(FLOOR) as process:
        how = process.server.prepare(process.port, 1)
        return _alone(process, replace(how, late=_request("/late", process.port), late_events=REPLAYED), first=0)[0]


def _alone(process: Running, how: Watching, *, first: int) -> tuple[float, int]:
    """One replay after another beside one event a second. MB a second, and the number of the next event."""
    with watching(process, how, 1, first=first) as viewers:
        machine.settle(process.pid)
        pace = partial(viewers.pace, 2, rate=1, late_pause_ms=PAUSE_MS / 5)
        return machine.least_disturbed(pace, process.pid, viewers.pid).replay_mb_s, viewers.first


def _ended_run(process: Running, how: Watching) -> Watching:
    """Let the live run and one more publish REPLAYED events; the other one ends with them."""
    [run_id] = servers.start_runs(process.port, 1, REPLAYED)
    with socket.create_connection(("127.0.0.1", process.port)) as control:
        line = f"upto {REPLAYED:07d}.00\n"
        update = f"POST {CONTROL_PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(line)}\r\n\r\n"
        control.sendall(f"{update}{line}".encode())
        control.recv(1024)
    for _ in range(600):
        if json.load(servers.request(process.port, f"/runs/{run_id}"))["state"] == "completed":
            machine.settle(process.pid)
            return replace(how, late=_request(f"/runs/{run_id}/events", process.port), late_events=REPLAYED)
        time.sleep(0.1)
    raise Unmeasurable("the run to be replayed did not end within a minute")


def _request(path: str, port: int) -> str:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
