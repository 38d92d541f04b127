"""The journal: how many events it accepts, and how fast a late viewer reads from it."""

import asyncio
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial

import orjson
import uvloop

from askstream.server.journal import Entry, Journal, RunRecord, open_journal
from bench import machine, servers
from bench.events import AGENT, envelope
from bench.fanout import NOISY, Scope, Seen, paced_rate, watching
from bench.machine import Unmeasurable, say
from bench.report import SQLITE, UNDISTURBED, Row, Table
from bench.servers import FLOOR, OURS, TITLES, Running, Transport, Watching

RUNS = 500
REPLAYED = 10_000
# From the end of one replay to the start of the next, in ms: replays fill much of the time, but not all of it.
PAUSE_MS = 100


def journal(scope: Scope) -> Iterator[Table]:
    """Measure appends from many runs at once, in this process, and the same rows in bare SQLite."""
    say(f"journal, {RUNS} runs")
    events = 200 if scope.is_full else 40
    entries = [Entry(number + 1, "agent_thinking", AGENT, orjson.dumps(envelope(number))) for number in range(events)]
    ours, _ = machine.least_disturbed(partial(_rate, entries), os.getpid())
    bare, _ = machine.least_disturbed(partial(_bare_rate, entries), os.getpid())
    result = Table(f"Durable events, {RUNS} runs at once", "Events a second", better="more")
    result.rows.append(Row("appended", {OURS: ours, SQLITE: bare}, 0, "journal"))
    yield result


def _rate(entries: list[Entry]) -> float:
    with servers.folder() as folder:
        return RUNS * len(entries) / uvloop.run(_appends(f"sqlite:///{folder}/journal.db", entries))


async def _appends(address: str, entries: list[Entry]) -> float:
    """Return the seconds after the runs' creation."""
    journal = open_journal(address, synchronous="normal")
    record = RunRecord(run_id="", principal="bench", session_id="", question="?", model="none", created_at=0.0)
    records = [replace(record, run_id=str(run), session_id=str(run)) for run in range(RUNS)]
    for record in records:
        await journal.create(record, [])
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for record in records:
            group.create_task(_append(journal, record, entries))
    seconds = time.perf_counter() - began
    await journal.close()
    return seconds


async def _append(journal: Journal, record: RunRecord, entries: list[Entry]) -> None:
    """Append a run's events. Each waits until the last one is durable."""
    for entry in entries:
        await journal.append(record.update._replace(last_id=entry.id), [entry])


def _bare_rate(entries: list[Entry]) -> float:
    """Write the same lines from one thread, RUNS of them in each transaction."""
    with servers.folder() as folder, closing(sqlite3.connect(f"{folder}/bare.db", isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = normal")
        database.execute("CREATE TABLE events (run, id, line, PRIMARY KEY (run, id)) WITHOUT ROWID")
        began = time.perf_counter()
        for entry in entries:
            database.execute("BEGIN IMMEDIATE")
            rows = [(str(run), entry.id, entry.line) for run in range(RUNS)]
            database.executemany("INSERT INTO events VALUES (?, ?, ?)", rows)
            database.execute("COMMIT")
        return RUNS * len(entries) / (time.perf_counter() - began)


def replay(scope: Scope) -> Iterator[Table]:
    """Measure a late viewer of a run that has ended, alone and while others watch a live run."""
    speed = Table(f"A late viewer reads {REPLAYED:,} events over HTTP", "MB a second", better="more")
    others = Table("Live viewers while late ones read one after another", "Milliseconds from publish to socket")
    floor = _floor()
    cases: list[tuple[Transport, int]] = [("sse", 100), *([("websocket", 1000)] if scope.is_full else [])]
    kinds: Mapping[str, servers.Journal] = {"memory": "memory", "SQLite": "sqlite"}
    for kept, kind in kinds.items():
        for transport, live in cases:
            case = f"from {kept}, {live:,} live {TITLES[transport]} viewers"
            say(f"replay {case}")
            alone, quiet, beside, noise = replays(transport, kind, live, 4 if scope.is_full else 2)
            others.notes += [NOISY] if noise > machine.QUIET else []
            speed.rows.append(Row(f"{case}: alone", {OURS: alone, FLOOR.name: floor}, 0, f"replay {kept}"))
            speed.rows.append(Row(f"{case}: meanwhile", {OURS: beside.replay_mb_s}, 0))
            others.rows.append(Row(f"{case}, p50", {OURS: beside.p50_ms, UNDISTURBED: quiet.p50_ms}))
            p99 = {OURS: beside.p99_ms, UNDISTURBED: quiet.p99_ms}
            others.rows.append(Row(f"{case}, p99", p99, goal="replay p99", of=f"{TITLES[transport]} {kept}"))
    yield from (speed, others)


def replays(
    transport: Transport, kind: servers.Journal, live: int, seconds: float, extra: Mapping[str, str] | None = None
) -> tuple[float, Seen, Seen, float]:
    """Return the MB/s of a late viewer alone, and the results of `live` viewers without late ones and with them, and
    the share of the cores that other programs used at most."""
    with servers.running(servers.ours(transport, journal=kind, extra=extra)) as process:
        how = _ended_run(process, process.server.prepare(process.port, 1))
        (alone, _), first = _paced(process, how, 1, REPLAYED, 2, PAUSE_MS // 5)
        (quiet, before), first = _paced(process, how, live, first, seconds, 0)
        (beside, noise), _ = _paced(process, how, live, first, seconds, PAUSE_MS)
    return alone.replay_mb_s, quiet, beside, max(before, noise)


def _paced(
    process: Running, how: Watching, live: int, first: int, seconds: float, pause_ms: int
) -> tuple[tuple[Seen, float], int]:
    """Measure live viewers, and late ones if `pause_ms` isn't 0. Also return the noise and the next event's number.

    A single live viewer gets one event a second, so that a late one is nearly alone.
    """
    rate = paced_rate(live) if live > 1 else 1
    with watching(process, how, live, first=first) as viewers:
        machine.settle(process.pid)
        pace = partial(viewers.pace, max(2, round(seconds * rate)), rate=rate, late_pause_ms=pause_ms)
        return machine.least_disturbed(pace, process.pid, viewers.process.pid), viewers.first


def _floor() -> float:
    """Measure the C loop: the same bytes from memory, in as few system calls as possible."""
    with servers.running(FLOOR) as process:
        how = _late("/late", process, process.server.prepare(process.port, 1))
        return _paced(process, how, 1, 0, 2, PAUSE_MS // 5)[0][0].replay_mb_s


def _ended_run(process: Running, how: Watching) -> Watching:
    """Let the live run and one more publish REPLAYED events; the other one ends with them."""
    [run_id] = servers.start_runs(process.port, 1, REPLAYED)
    with watching(process, how, 1) as viewers:
        viewers.rush(REPLAYED)
    machine.settle(process.pid)
    if servers.state(process.port, run_id) != "completed":
        raise Unmeasurable("the run to be replayed did not end")
    return _late(f"/runs/{run_id}/events", process, how)


def _late(path: str, process: Running, how: Watching) -> Watching:
    request = servers.head("GET", path, process.port, "Connection: close")
    return replace(how, late=request, late_events=REPLAYED)
