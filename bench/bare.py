"""The least that a durable event costs in Python: no product, only what can't be left out.

A task for each run, a line of JSON, one SQLite transaction for all events that came meanwhile, one write for each
viewer, on the event loop of our server. It parses no HTTP beyond the first line, and has no ids to resume from, no
slow viewers, and no run that ends.
"""

import asyncio
import sqlite3
from pathlib import Path
from time import monotonic
from typing import cast

import orjson

from bench.events import PARTS, Allowance, envelope

# Seconds between two transactions, as in our journal.
COMMIT_SECONDS = 0.002
BACKLOG = 2048
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_TABLE = "CREATE TABLE events (place INTEGER PRIMARY KEY, run INTEGER, id INTEGER, line BLOB)"


class Log:
    """Rows of all runs. Events of one COMMIT_SECONDS share a transaction; then they are written to the viewers."""

    def __init__(self, file: Path) -> None:
        self._db = sqlite3.connect(file, isolation_level=None)
        for setting in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = normal", _TABLE):
            self._db.execute(setting)
        self._rows: list[tuple[int, int, bytes]] = []
        self._free_at = 0.0
        self.viewers: dict[int, list[asyncio.Transport]] = {}

    def append(self, run: int, number: int) -> None:
        self._rows.append((run, number + 1, orjson.dumps(envelope(number))))
        if len(self._rows) == 1:
            asyncio.get_running_loop().call_later(max(0.0, self._free_at - monotonic()), self._commit)

    def _commit(self) -> None:
        rows, self._rows = self._rows, []
        self._free_at = monotonic() + COMMIT_SECONDS
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany("INSERT INTO events (run, id, line) VALUES (?, ?, ?)", rows)
        self._db.execute("COMMIT")
        for run, event_id, line in rows:
            block = b"data: %b\nid: %d\n\n" % (line, event_id)
            chunk = b"%x\r\n%b\r\n" % (len(block), block)
            for viewer in self.viewers[run]:
                viewer.write(chunk)


class Client(asyncio.Protocol):
    """Watches a run, which begins with its first viewer; or it is the control connection."""

    def __init__(self, log: Log, allowance: Allowance, publishing: set[asyncio.Task[None]]) -> None:
        self._log, self._allowance, self._publishing = log, allowance, publishing
        self._run: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if not data.startswith(b"GET /watch/"):
            self._allowance.feed(data)
            return
        self._run = int(data.split(b" ", 2)[1].rpartition(b"/")[2])
        if self._run not in self._log.viewers:
            self._log.viewers[self._run] = []
            self._publishing.add(asyncio.create_task(self._publish(self._run)))
        self._log.viewers[self._run].append(self._transport)
        self._transport.write(_HEAD)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._run is not None:
            self._log.viewers[self._run].remove(self._transport)

    async def _publish(self, run: int) -> None:
        async for number in self._allowance.numbers(run % PARTS):
            self._log.append(run, number)


async def serve(port: int, folder: Path) -> None:
    log, allowance, publishing = Log(folder / "bare.db"), Allowance(), set[asyncio.Task[None]]()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Client(log, allowance, publishing), "127.0.0.1", port, backlog=BACKLOG)
    await server.serve_forever()
