"""The default journal: a SQLite file in WAL mode. One connection writes, one only checkpoints, readers are read-only.

The roles are no preference: SQLite before 3.51.3 can corrupt a WAL that one connection resets while another begins a
second checkpoint of the same pages (https://sqlite.org/wal.html, the WAL-reset bug). So `GroupWriter` checkpoints
beside its writes only after a commit. A lock beside the file keeps a second server out.
"""

import asyncio
import fcntl
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TextIO, TypeVar, get_args
from urllib.parse import unquote, urlsplit

from askstream.server.events.errors import JournalError
from askstream.server.journal.base import (
    READ_BYTES,
    RECORD_SECONDS,
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
from askstream.server.journal.sqlite.group_writer import GroupWriter
from askstream.server.journal.sqlite.tables import (
    NUMBER,
    Synchronous,
    connect_reader,
    connect_writer,
    decode_text,
    insert_record,
    records,
)

T = TypeVar("T")

# Readers share the disk with the writer; with two, a late viewer's replay doesn't wait for a listing.
_READERS = 2
# Logs that one call of `expire` drops: its transaction holds the writer up, and the next call goes on.
_EXPIRED_AT_ONCE = 50
_DROP_WHOLE_CHUNKS = f"""
DELETE FROM events WHERE place IN (
    SELECT chunk.place FROM events AS chunk JOIN (
        SELECT agent_name, max(id) AS last FROM events WHERE number = {NUMBER} AND event_type = 'agent_response'
        GROUP BY agent_name
    ) AS whole ON whole.agent_name = chunk.agent_name AND whole.last > chunk.id
    WHERE chunk.number = {NUMBER} AND chunk.event_type = 'agent_chunk'
)
"""
# Logs, and the checkpoints beside them.
_HELD = """
SELECT (SELECT coalesce(sum(log_bytes), 0) FROM heads) + (SELECT coalesce(sum(length(state)), 0) FROM checkpoints)
"""


class SqliteJournal(ImmediateJournal):
    """`synchronous` is SQLite's: `normal` survives the death of the process, `full` that of the machine as well."""

    survives = True

    def __init__(self, path: Path, *, synchronous: Synchronous = "normal") -> None:
        self._lock = _lock_file(path)
        self._path = path
        self._notifier = AppendNotifier()
        try:
            connection = connect_writer(path, synchronous)
        except sqlite3.Error as problem:
            self._lock.close()
            raise JournalError(f"{path.name!r} can't be opened as a journal: {problem}") from problem
        except JournalError:
            self._lock.close()
            raise
        self._writer = GroupWriter(connection, self._notifier, waits_for_disk=synchronous in ("full", "extra"))
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

    async def runs(self, principal: str, *, before: ListPosition | None = None, limit: int = 50) -> list[RunRecord]:
        created, last = (before.created_at, before.run_id) if before else (float("inf"), "")
        return await self._records(
            "WHERE principal = ? AND (created_at, run_id) < (?, ?) ORDER BY created_at DESC, run_id DESC LIMIT ?",
            (principal, created, last, limit),
        )

    async def session(self, principal: str, session_id: str) -> list[RunRecord]:
        rest = "WHERE principal = ? AND session_id = ? ORDER BY created_at, run_id"
        return await self._records(rest, (principal, session_id))

    async def unfinished(self) -> list[RunRecord]:
        return await self._records("WHERE ended_at IS NULL ORDER BY created_at", ())

    async def forget(self, run_id: str) -> bool:
        forgotten: bool = await self._writer.submit(lambda db: _forget(db, run_id), long=True)
        return forgotten

    async def compact(self, run_id: str) -> Size:
        left: Size = await self._writer.submit(lambda db: _compact(db, run_id), long=True)
        return left

    async def expire(self, *, now: float, ended_before: float, most_bytes: int) -> int:
        dropped: int = await self._writer.submit(lambda db: _expire(db, now, ended_before, most_bytes), long=True)
        return dropped

    async def close(self) -> None:
        await self._writer.close()
        await asyncio.to_thread(self._readers.shutdown)
        for connection in self._connections:
            connection.close()
        self._lock.close()

    async def _records(self, rest: str, values: Sequence[Any]) -> list[RunRecord]:
        return await self._query(lambda db: records(db, rest, values))

    async def _query(self, query: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, self._read_with, query)
        except sqlite3.Error as problem:
            raise JournalError(f"the journal could not be read: {problem}") from problem

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
    """Open `sqlite:///relative.db` or `sqlite:////absolute.db`."""
    path = unquote(urlsplit(url).path).removeprefix("/")
    if not path:
        raise ValueError(f"expected a path in the journal URL, as in sqlite:///askstream.db, got {url!r}")
    levels: dict[str, Synchronous] = {level: level for level in get_args(Synchronous)}
    if synchronous not in levels:
        raise ValueError(f"expected synchronous to be one of {list(levels)}, got {synchronous!r}")
    return SqliteJournal(Path(path), synchronous=levels[synchronous])


def _lock_file(path: Path) -> TextIO:
    """Hold the lock beside the file until it is closed; the system releases it when the process dies."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(path.name + ".lock").open("w")
    except OSError as problem:
        where = f"{str(path.parent)!r}: {problem.strerror}"
        raise JournalError(f"can't write to the data folder {where}; choose another with ASKSTREAM_DATA") from problem
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        lock.close()
        raise JournalError(f"another server writes to {path.name!r}; give this one its own data folder") from problem
    return lock


def _create(db: sqlite3.Connection, record: RunRecord, entries: Sequence[Entry]) -> RunRecord:
    """Insert a run unless its idempotency key is taken. Return the run that holds the key."""
    assert record.idempotency_key is not None
    holder = _by_key(db, record.principal, record.idempotency_key, record.created_at)
    return holder or insert_record(db, record, entries)


def _by_key(db: sqlite3.Connection, principal: str, key: str, now: float) -> RunRecord | None:
    rest = "WHERE principal = ? AND idempotency_key = ? ORDER BY created_at DESC LIMIT 1"
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


def _expire(db: sqlite3.Connection, now: float, ended_before: float, most_bytes: int) -> int:
    _drop_records(db, now - RECORD_SECONDS)
    held: int = db.execute(_HELD).fetchone()[0]
    ended = db.execute(
        """SELECT number, ended_at, log_bytes + coalesce(length(checkpoints.state), 0)
           FROM runs JOIN heads USING (number) LEFT JOIN checkpoints USING (number)
           WHERE expired_at IS NULL AND ended_at IS NOT NULL ORDER BY ended_at LIMIT ?""",
        (_EXPIRED_AT_ONCE,),
    ).fetchall()
    dropped = 0
    for number, ended_at, size in ended:
        if ended_at >= ended_before and held <= most_bytes:
            break
        held -= size
        db.execute("DELETE FROM events WHERE number = ?", (number,))
        db.execute("DELETE FROM checkpoints WHERE number = ?", (number,))
        db.execute("UPDATE heads SET log_events = 0, log_bytes = 0 WHERE number = ?", (number,))
        db.execute("UPDATE runs SET expired_at = ? WHERE number = ?", (now, number))
        dropped += 1
    return dropped


def _drop_records(db: sqlite3.Connection, expired_before: float) -> None:
    """Drop the records of runs whose logs expired before then."""
    db.execute("DELETE FROM heads WHERE number IN (SELECT number FROM runs WHERE expired_at < ?)", (expired_before,))
    db.execute("DELETE FROM runs WHERE expired_at < ?", (expired_before,))
