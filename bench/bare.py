"""The least that a durable event costs in Python: no product, only the necessary steps.

    python -m bench.bare PORT FOLDER

A task for each run, a line of JSON, one SQLite transaction for all events since the last one, one write for each
viewer, on the event loop of our server. It parses no HTTP beyond the first line, and has no ids to resume from, no
slow viewers, and no run that ends.
"""

import asyncio
import sqlite3
import sys
from pathlib import Path
from time import monotonic
from typing import cast

import orjson
import uvloop

from bench.events import PARTS, Allowance, envelope

# Seconds between two transactions, as in our journal.
COMMIT_SECONDS = 0.002
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
        self.allowance = Allowance()
        self.viewers: dict[int, list[asyncio.Transport]] = {}
        self.publishing: list[asyncio.Task[None]] = []

    async def publish(self, run: int) -> None:
        async for number in self.allowance.numbers(run % PARTS):
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
    """A viewer of a run, which begins with its first viewer; or the control connection."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._watched: list[asyncio.Transport] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if not data.startswith(b"GET /watch/"):
            self._log.allowance.feed(data)
            return
        run = int(data.split(b" ", 2)[1].rpartition(b"/")[2])
        if run not in self._log.viewers:
            self._log.viewers[run] = []
            self._log.publishing.append(asyncio.create_task(self._log.publish(run)))
        self._watched = self._log.viewers[run]
        self._watched.append(self._transport)
        self._transport.write(_HEAD)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._watched:
            self._watched.remove(self._transport)


async def main(port: int, folder: Path) -> None:
    log = Log(folder / "bare.db")
    server = await asyncio.get_running_loop().create_server(lambda: Client(log), "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), Path(sys.argv[2])))
