"""The journal: how many durable events a second it takes from many runs."""

import asyncio
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import orjson
import uvloop

from askstream.server.journal import Entry, Head, Journal, RunRecord
from askstream.server.journal.sqlite.journal import SqliteJournal
from bench.events import AGENT, envelope

T = TypeVar("T")
RUNS = 500


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
        return in_loop(_appends(Path(folder, "journal.db"), events))


def in_loop(work: Coroutine[Any, Any, T]) -> T:
    """Runs `work` in the event loop that the server runs in."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


async def _appends(path: Path, events: int) -> Appends:
    journal = SqliteJournal(path)
    records = [_record(str(number)) for number in range(RUNS)]
    for record in records:
        await journal.create(record, [])
    entries = _entries(events)
    heads = [[record.head._replace(last_id=entry.id) for entry in entries] for record in records]
    took: list[float] = []
    cpu, began = time.process_time(), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for those in heads:
            group.create_task(_append(journal, those, entries, took))
    cpu, seconds = time.process_time() - cpu, time.perf_counter() - began
    await journal.close()
    quantiles = statistics.quantiles(took, n=100)
    return Appends(
        rate=len(took) / seconds, cpu=cpu / len(took) * 1e6, p50=quantiles[49] * 1e3, p99=quantiles[98] * 1e3
    )


async def _append(journal: Journal, heads: Sequence[Head], entries: Sequence[Entry], took: list[float]) -> None:
    for head, entry in zip(heads, entries, strict=True):
        began = time.perf_counter()
        await journal.append(head, [entry])
        took.append(time.perf_counter() - began)


def _record(run_id: str) -> RunRecord:
    return RunRecord(run_id=run_id, principal="bench", session_id=run_id, question="?", model="none", created_at=0.0)


def _entries(count: int) -> list[Entry]:
    """Made beforehand, like the heads: that they are is not the journal's work."""
    return [Entry(number + 1, "agent_thinking", AGENT, orjson.dumps(envelope(number))) for number in range(count)]


def bare_sqlite(events: int) -> float:
    """Rows a second that SQLite itself takes: the same lines from one thread, RUNS of them in each transaction."""
    with tempfile.TemporaryDirectory(prefix="askstream-bench-") as folder:
        database = sqlite3.connect(Path(folder, "bare.db"), isolation_level=None)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = normal")
        database.execute("CREATE TABLE events (run, id, line, PRIMARY KEY (run, id)) WITHOUT ROWID")
        entries = _entries(events)
        began = time.perf_counter()
        for entry in entries:
            rows = [(str(run), entry.id, entry.line) for run in range(RUNS)]
            database.execute("BEGIN IMMEDIATE")
            database.executemany("INSERT INTO events VALUES (?, ?, ?)", rows)
            database.execute("COMMIT")
        seconds = time.perf_counter() - began
        database.close()
    return RUNS * events / seconds
