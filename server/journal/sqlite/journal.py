"""The default journal: a SQLite file in WAL mode. One connection writes, one only checkpoints, readers are read-only.

The roles are no preference: SQLite before 3.51.3 can corrupt a WAL that one connection resets while another begins a
second checkpoint of the same pages (https://sqlite.org/wal.html, the WAL-reset bug). So `GroupWriter` checkpoints
beside its writes only after a commit. A lock beside the file keeps a second server out.
"""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_args

from askstream.server.events.errors import JournalError
from askstream.server.journal.base import (
    READ_BYTES,
    Append,
    Checkpoint,
    Entry,
    ImmediateJournal,
    ListPosition,
    RunRecord,
    Size,
    holds_key,
)
from askstream.server.journal.notifier import AppendNotifier, follow
from askstream.server.journal.sqlite.files import JournalFiles
from askstream.server.journal.sqlite.group_writer import GroupWriter
from askstream.server.journal.sqlite.pruning import Pruning
from askstream.server.journal.sqlite.tables import (
    NUMBER,
    Synchronous,
    connect_reader,
    connect_writer,
    decode_text,
    insert_record,
    records,
    touch,
)

T = TypeVar("T")

# Readers share the disk with the writer; with two, a late viewer's replay doesn't wait for a listing.
_READERS = 2
_DROP_WHOLE_CHUNKS = f"""
DELETE FROM events WHERE place IN (
    SELECT chunk.place FROM events AS chunk JOIN (
        SELECT agent_name, max(id) AS last FROM events WHERE number = {NUMBER} AND event_type = 'agent_response'
        GROUP BY agent_name
    ) AS whole ON whole.agent_name = chunk.agent_name AND whole.last > chunk.id
    WHERE chunk.number = {NUMBER} AND chunk.event_type = 'agent_chunk'
)
"""
# The number of a run in a listing, or of the one that would be in its place had it not been forgotten meanwhile.
_BEFORE = """coalesce((SELECT number FROM runs WHERE run_id = ?), (
    SELECT coalesce(max(number), 0) + 1 FROM runs WHERE created_at < ?
))"""


class SqliteJournal(ImmediateJournal):
    """`synchronous` is SQLite's: `normal` survives the death of the process, `full` that of the machine as well."""

    survives = True

    def __init__(self, path: Path, *, synchronous: Synchronous = "normal") -> None:
        self._path = path.absolute()
        self._notifier = AppendNotifier()
        self._files = JournalFiles(self._path)
        try:
            connection = connect_writer(self._path, synchronous)
        except sqlite3.Error as problem:
            self._files.close()
            raise JournalError(
                f"{path.name!r} can't be opened as a journal: {problem}; {_advice(problem)}"
            ) from problem
        except JournalError:
            self._files.close()
            raise
        self._writer = GroupWriter(
            connection,
            self._notifier,
            waits_for_disk=synchronous in ("full", "extra"),
            on_carried_over=self._files.remember_size,
        )
        self._files.remember()
        self._pruning = Pruning(self._writer)
        self.append = self._writer.append  # on the way of every event: saves a call
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="journal-reader")
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []  # of the readers

    def write_now(self, appends: Sequence[Append]) -> Sequence[BaseException | None] | None:
        return self._writer.write_now(appends)

    async def create(self, record: RunRecord, entries: Sequence[Entry]) -> RunRecord:
        write = insert_record if record.idempotency_key is None else _create
        made: RunRecord = await self._writer.submit(partial(write, record=record, entries=entries), urgent=True)
        return made

    async def by_idempotency_key(self, principal: str, idempotency_key: str, *, now: float) -> RunRecord | None:
        return await self._query(lambda db: _by_key(db, principal, idempotency_key, now))

    async def claim(self, run_id: str) -> RunRecord | None:
        claimed: RunRecord | None = await self._writer.submit(lambda db: _claim(db, run_id))
        return claimed

    async def read(self, run_id: str, after: int, *, limit: int = READ_BYTES) -> list[Entry]:
        return await self._query(lambda db: _read(db, run_id, after, limit))

    def watch(self, run_id: str, after: int) -> AsyncIterator[Sequence[Entry]]:
        return follow(self, self._notifier, run_id, after)

    async def record(self, run_id: str) -> RunRecord | None:
        return await self._query(lambda db: _record(db, run_id))

    async def checkpoint(self, run_id: str) -> Checkpoint | None:
        sql = f"SELECT last_id, state FROM checkpoints WHERE number = {NUMBER}"
        row = await self._query(lambda db: db.execute(sql, (run_id,)).fetchone())
        return Checkpoint(*row) if row else None

    async def runs(
        self, principal: str | None, *, before: ListPosition | None = None, limit: int = 50
    ) -> list[RunRecord]:
        if principal is None:
            return await self._newest("TRUE", (), before, limit)
        return await self._newest("principal = ?", (principal,), before, limit)

    async def session(
        self, principal: str, session_id: str, *, before: ListPosition | None = None, limit: int = 50
    ) -> list[RunRecord]:
        return await self._newest("principal = ? AND session_id = ?", (principal, session_id), before, limit)

    async def unfinished(self) -> list[RunRecord]:
        return await self._query(lambda db: records(db, "WHERE ended_at IS NULL ORDER BY number", ()))

    async def forget(self, run_id: str) -> bool:
        forgotten: bool = await self._writer.submit(lambda db: _forget(db, run_id), long=True)
        return forgotten

    async def compact(self, run_id: str) -> Size:
        left: Size = await self._writer.submit(lambda db: _compact(db, run_id), long=True)
        return left

    async def expire(self, *, now: float, running: float, keep_seconds: float, most_bytes: int) -> int:
        return await self._pruning.expire(now=now, running=running, keep_seconds=keep_seconds, most_bytes=most_bytes)

    async def check(self, *, write: bool = False) -> None:
        """Raise JournalError if the files are gone or truncated, and with `write` also if nothing can be written.

        Every write is refused from then on, until a later check succeeds.
        """
        try:
            await self._writer.on_thread(self._files.check)
        except JournalError as problem:
            self._writer.refuse(problem)
            raise
        self._writer.refuse(None)
        if write:
            await self._writer.submit(touch, long=True, urgent=True)

    async def close(self) -> None:
        await self._pruning.close()
        await asyncio.to_thread(self._readers.shutdown)
        for connection in self._connections:
            connection.close()
        await self._writer.close()
        self._files.close()

    async def _newest(
        self, where: str, values: tuple[Any, ...], before: ListPosition | None, limit: int
    ) -> list[RunRecord]:
        """Return the newest runs, in the order of their creation, before a position."""
        if before is not None:
            where, values = f"{where} AND number < {_BEFORE}", (*values, before.run_id, before.created_at)
        return await self._query(
            lambda db: records(db, f"WHERE {where} ORDER BY number DESC LIMIT ?", (*values, limit))
        )

    async def _query(self, query: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, self._read_with, query)
        except sqlite3.Error as problem:
            raise JournalError(f"the journal could not be read: {problem}; {_advice(problem)}") from problem

    def _read_with(self, query: Callable[[sqlite3.Connection], T]) -> T:
        if not hasattr(self._local, "connection"):
            self._local.connection = connect_reader(self._path)
            self._connections.append(self._local.connection)
        try:
            return query(self._local.connection)
        except sqlite3.OperationalError as problem:
            if "decode to UTF-8" not in str(problem):
                raise
            self._local.connection.text_factory = decode_text  # costs a call for each text, so only after damage
            return query(self._local.connection)


def open_url(url: str, *, synchronous: str) -> SqliteJournal:
    """Open `sqlite:///relative.db` or `sqlite:////absolute.db`. The path is taken as it is, `#`, `?` and `%` too."""
    levels: dict[str, Synchronous] = {level: level for level in get_args(Synchronous)}
    if synchronous not in levels:
        raise ValueError(f"expected synchronous to be one of {list(levels)}, got {synchronous!r}")
    return SqliteJournal(path_of(url), synchronous=levels[synchronous])


def path_of(url: str) -> Path:
    """Return the path in a journal's URL. Raises ValueError if there is none."""
    path = url.removeprefix("sqlite:///")
    if path in ("", url):
        raise ValueError(f"expected a path in the journal URL, as in sqlite:///askstream.db, got {url!r}")
    if path == ":memory:":
        raise ValueError("expected the path of a file in the journal URL; a journal in memory is memory://")
    return Path(path)


def _advice(problem: sqlite3.Error) -> str:
    match getattr(problem, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            return "move it away, or put a backup in its place"
        case sqlite3.SQLITE_BUSY:
            return "another program uses it"
        case _:
            return "check the disk, and that the server may write there"


def _create(db: sqlite3.Connection, record: RunRecord, entries: Sequence[Entry]) -> RunRecord:
    """Insert a run unless its idempotency key is taken. Return the run that holds the key."""
    assert record.idempotency_key is not None
    holder = _by_key(db, record.principal, record.idempotency_key, record.created_at)
    return holder or insert_record(db, record, entries)


def _by_key(db: sqlite3.Connection, principal: str, key: str, now: float) -> RunRecord | None:
    rest = "WHERE principal = ? AND idempotency_key = ? ORDER BY number DESC LIMIT 1"
    return next((holder for holder in records(db, rest, (principal, key)) if holds_key(holder, now)), None)


def _record(db: sqlite3.Connection, run_id: str) -> RunRecord | None:
    return next(iter(records(db, "WHERE run_id = ?", (run_id,))), None)


def _claim(db: sqlite3.Connection, run_id: str) -> RunRecord | None:
    record = _record(db, run_id)
    if record is None or record.ended:
        return None
    db.execute(f"UPDATE heads SET attempt = attempt + 1 WHERE number = {NUMBER}", (run_id,))
    return replace(record, attempt=record.attempt + 1)


def _read(db: sqlite3.Connection, run_id: str, after: int, limit: int) -> list[Entry]:
    rows = db.execute(
        f"SELECT id, event_type, agent_name, line FROM events WHERE number = {NUMBER} AND id > ? ORDER BY id",
        (run_id, after),
    )
    found: list[Entry] = []
    size = 0
    for row in rows:
        size += len(row[3])
        if found and size > limit:
            break
        found.append(Entry(*row))
    rows.close()
    return found


def _forget(db: sqlite3.Connection, run_id: str) -> bool:
    ended = db.execute("SELECT number FROM runs WHERE run_id = ? AND ended_at IS NOT NULL", (run_id,)).fetchone()
    for table in ("events", "heads", "checkpoints", "runs") if ended else ():
        db.execute(f"DELETE FROM {table} WHERE number = ?", ended)
    return ended is not None


def _compact(db: sqlite3.Connection, run_id: str) -> Size:
    db.execute(_DROP_WHOLE_CHUNKS, (run_id, run_id))
    sql = f"SELECT count(*), coalesce(sum(length(line)), 0) FROM events WHERE number = {NUMBER}"
    return Size(*db.execute(sql, (run_id,)).fetchone())
