"""The journal: how many durable events a second it takes from many runs, and how fast a run is replayed from it."""

import asyncio
import json
import socket
import sqlite3
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import orjson
import uvloop

from bench import machine, servers
from bench.builds import Unmeasurable
from bench.events import AGENT, envelope
from bench.ours import CONTROL_PATH
from server.journal import Entry, Journal, RunRecord
from server.journal.sqlite import SqliteJournal

T = TypeVar("T")
RUNS = 500
REPLAYED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Appends:
    """Durable events a second, CPU in µs an event, and how long one append took, in ms."""

    rate: float
    cpu: float
    p50: float
    p99: float


def appends(events: int) -> Appends:
    """`events` from each of RUNS runs, each waiting for its last one to be durable before the next."""
    with tempfile.TemporaryDirectory(prefix="askstream-bench-") as folder:
        return in_loop(_appends(SqliteJournal(Path(folder, "journal.db")), events))


def in_loop(work: Coroutine[Any, Any, T]) -> T:
    """Runs `work` in the event loop that the server runs in."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


async def _appends(journal: Journal, events: int) -> Appends:
    records = [_record(str(number)) for number in range(RUNS)]
    for record in records:
        await journal.create(record, [])
    took: list[float] = []
    cpu, began = time.process_time(), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for record in records:
            group.create_task(_append(journal, record, events, took))
    cpu, seconds = time.process_time() - cpu, time.perf_counter() - began
    await journal.close()
    quantiles = statistics.quantiles(took, n=100)
    return Appends(
        rate=len(took) / seconds, cpu=cpu / len(took) * 1e6, p50=quantiles[49] * 1e3, p99=quantiles[98] * 1e3
    )


async def _append(journal: Journal, record: RunRecord, events: int, took: list[float]) -> None:
    for number in range(events):
        record = replace(record, last_id=number + 1)
        began = time.perf_counter()
        await journal.append(record, [_entry(number)])
        took.append(time.perf_counter() - began)


def _record(run_id: str) -> RunRecord:
    return RunRecord(run_id=run_id, principal="bench", session_id=run_id, question="?", model="none", created_at=0.0)


def _entry(number: int) -> Entry:
    return Entry(number + 1, "agent_thinking", AGENT, orjson.dumps(envelope(number)))


def bare_sqlite(events: int) -> float:
    """Rows a second that SQLite itself takes: the same lines from one thread, RUNS of them in each transaction."""
    with tempfile.TemporaryDirectory(prefix="askstream-bench-") as folder:
        database = sqlite3.connect(Path(folder, "bare.db"), isolation_level=None)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = normal")
        database.execute("CREATE TABLE events (run, id, line, PRIMARY KEY (run, id)) WITHOUT ROWID")
        began = time.perf_counter()
        for number in range(events):
            rows = [(str(run), number, _entry(number).line) for run in range(RUNS)]
            database.execute("BEGIN IMMEDIATE")
            database.executemany("INSERT INTO events VALUES (?, ?, ?)", rows)
            database.execute("COMMIT")
        seconds = time.perf_counter() - began
        database.close()
    return RUNS * events / seconds


def replay(journal: Literal["sqlite", "memory"], times: int) -> float:
    """MB a second that a late viewer gets of a finished run of REPLAYED events, over HTTP."""
    with servers.running(servers.ours("sse", journal=journal)) as server:
        machine.settle(server.pid)
        [run_id] = servers.start_runs(server.port, 1, REPLAYED)
        _publish(server.port, REPLAYED)
        _await_end(server.port, run_id)
        machine.settle(server.pid)
        return statistics.median(_replayed(server.port, run_id) for _ in range(times))


def _publish(port: int, events: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as control:
        head = f"POST {CONTROL_PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 16\r\n\r\n"
        control.sendall(f"{head}upto {events:010d}\n".encode())
        control.recv(1024)


def _await_end(port: int, run_id: str) -> None:
    for _ in range(600):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/runs/{run_id}", timeout=10) as answer:
            if json.load(answer)["state"] == "completed":
                return
        time.sleep(0.1)
    raise Unmeasurable("the run to be replayed did not end within a minute")


def _replayed(port: int, run_id: str) -> float:
    with socket.create_connection(("127.0.0.1", port)) as viewer:
        began = time.perf_counter()
        viewer.sendall(f"GET /runs/{run_id}/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        size, tail = 0, b""
        buffer = bytearray(1 << 20)
        while count := viewer.recv_into(buffer):
            size += count
            tail = (tail + bytes(buffer[max(0, count - 400) : count]))[-400:]
        seconds = time.perf_counter() - began
    if b'"event_type":"completed"' not in tail:
        raise Unmeasurable("the replay is not complete")
    return size / seconds / 1e6
