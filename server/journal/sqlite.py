"""The default journal: a SQLite file in WAL mode. One thread writes and checkpoints; readers open it read-only.

One writing connection is not a preference: SQLite before 3.51.3 can corrupt a WAL that two connections reset at the
same time (https://sqlite.org/wal.html, the WAL-reset bug). A lock beside the file keeps a second server out.
"""

import asyncio
import contextlib
import fcntl
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, astuple, fields
from pathlib import Path
from typing import Any, Literal, TextIO, TypeAlias, TypeVar, get_args
from urllib.parse import quote, unquote, urlsplit

from server.events.errors import Fenced, JournalError, OutOfOrder
from server.journal.base import READ_BYTES, RECORD_SECONDS, Checkpoint, Entry, Page, RunRecord, Size
from server.journal.doorbell import Doorbell, follow
from server.journal.keys import binds
from server.journal.writer import GroupWriter

Synchronous: TypeAlias = Literal["off", "normal", "full", "extra"]
T = TypeVar("T")

# Counted up with every change of the tables: a file of another version is refused, not guessed at.
VERSION = 2
_COLUMNS = ", ".join(f.name for f in fields(RunRecord))
_MARKS = ", ".join("?" for _ in fields(RunRecord))
_SCHEMA = """
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY, principal TEXT NOT NULL, session_id TEXT NOT NULL, question TEXT NOT NULL,
    model TEXT NOT NULL, created_at REAL NOT NULL, options BLOB NOT NULL, idempotency_key TEXT,
    fingerprint TEXT NOT NULL, attempt INTEGER NOT NULL, state TEXT NOT NULL, progress INTEGER NOT NULL,
    last_id INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
    log_events INTEGER NOT NULL, log_bytes INTEGER NOT NULL, ended_at REAL, expired_at REAL, digest TEXT,
    checkpoint BLOB, checkpoint_id INTEGER
) STRICT;
CREATE INDEX runs_by_age ON runs (principal, created_at DESC, run_id DESC);
CREATE INDEX runs_by_session ON runs (principal, session_id, created_at);
CREATE INDEX runs_by_end ON runs (ended_at, log_bytes) WHERE expired_at IS NULL;
CREATE INDEX runs_by_key ON runs (principal, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX runs_active ON runs (created_at) WHERE ended_at IS NULL;
CREATE TABLE events (
    run_id TEXT NOT NULL, id INTEGER NOT NULL, event_type TEXT NOT NULL, agent_name TEXT NOT NULL,
    line BLOB NOT NULL, PRIMARY KEY (run_id, id)
) STRICT, WITHOUT ROWID;
"""
# A run that has ended needs its checkpoint no more.
_UPDATE = """
UPDATE runs SET state = :state, progress = :progress, last_id = :last_id, prompt_tokens = :prompt_tokens,
    completion_tokens = :completion_tokens, ended_at = :ended_at, digest = :digest,
    log_events = :log_events, log_bytes = :log_bytes,
    checkpoint_id = CASE WHEN :checkpoint IS NULL THEN checkpoint_id ELSE :last_id END,
    checkpoint = CASE WHEN :ended_at IS NULL THEN coalesce(:checkpoint, checkpoint) END
WHERE run_id = :run_id
"""
# Readers share the disk with the writer; two of them keep a late viewer's replay from waiting for a listing.
_READERS = 2
# Logs that one call of `expire` drops: its transaction holds the writer up, and the next call goes on.
_EXPIRED_AT_ONCE = 50
# Rows fetched at a time: some 64 KiB of ordinary events.
_ROWS = 256


class SqliteJournal:
    """`synchronous` is SQLite's: `normal` survives the death of the process, `full` that of the machine as well."""

    survives = True

    def __init__(self, path: Path, *, synchronous: Synchronous = "normal") -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _only_server(path)
        self._path, self._synchronous = path, synchronous
        self._doorbell = Doorbell()
        try:
            _connect_writer(path, synchronous).close()  # a broken file is told now, not at the first question
        except sqlite3.Error as problem:
            self._lock.close()
            raise JournalError(f"{path.name!r} can't be opened as a journal: {problem}") from problem
        except JournalError:
            self._lock.close()
            raise
        self._writer = GroupWriter(lambda: _connect_writer(path, synchronous))
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="journal-reader")
        self._local = threading.local()

    async def create(self, record: RunRecord, entries: Sequence[Entry]) -> RunRecord:
        made: RunRecord = await self._writer.submit(lambda db: _create(db, record, entries))
        return made

    async def keyed(self, principal: str, idempotency_key: str, *, now: float) -> RunRecord | None:
        return await self._query(lambda db: _keyed(db, principal, idempotency_key, now))

    async def append(self, record: RunRecord, entries: Sequence[Entry], *, checkpoint: bytes | None = None) -> None:
        await self._writer.submit(lambda db: _append(db, record, entries, checkpoint))
        self._doorbell.ring(record.run_id)

    async def claim(self, run_id: str) -> RunRecord | None:
        claimed: RunRecord | None = await self._writer.submit(lambda db: _claim(db, run_id))
        return claimed

    async def read(self, run_id: str, after: int, *, limit: int = READ_BYTES) -> list[Entry]:
        return await self._query(lambda db: _read(db, run_id, after, limit))

    def watch(self, run_id: str, after: int) -> AsyncIterator[Sequence[Entry]]:
        return follow(self, self._doorbell, run_id, after)

    async def record(self, run_id: str) -> RunRecord | None:
        return await self._query(lambda db: _record(db, run_id))

    async def checkpoint(self, run_id: str) -> Checkpoint | None:
        sql = "SELECT checkpoint_id, checkpoint FROM runs WHERE run_id = ? AND checkpoint IS NOT NULL"
        row = await self._query(lambda db: db.execute(sql, (run_id,)).fetchone())
        return Checkpoint(*row) if row else None

    async def runs(self, principal: str, *, before: Page | None = None, limit: int = 50) -> list[RunRecord]:
        created, last = (before.created_at, before.run_id) if before else (float("inf"), "")
        sql = f"""SELECT {_COLUMNS} FROM runs WHERE principal = ? AND (created_at, run_id) < (?, ?)
                  ORDER BY created_at DESC, run_id DESC LIMIT ?"""
        return await self._query(
            lambda db: [RunRecord(**_named(r)) for r in db.execute(sql, (principal, created, last, limit))]
        )

    async def session(self, principal: str, session_id: str) -> list[RunRecord]:
        sql = f"""SELECT {_COLUMNS} FROM runs WHERE principal = ? AND session_id = ?
                  ORDER BY created_at, run_id"""
        return await self._query(lambda db: [RunRecord(**_named(r)) for r in db.execute(sql, (principal, session_id))])

    async def unfinished(self) -> list[RunRecord]:
        sql = f"SELECT {_COLUMNS} FROM runs WHERE ended_at IS NULL ORDER BY created_at"
        return await self._query(lambda db: [RunRecord(**_named(row)) for row in db.execute(sql)])

    async def forget(self, run_id: str) -> bool:
        forgotten: bool = await self._writer.submit(lambda db: _forget(db, run_id))
        return forgotten

    async def compact(self, run_id: str) -> Size:
        left: Size = await self._writer.submit(lambda db: _compact(db, run_id))
        return left

    async def expire(self, *, now: float, ended_before: float, most_bytes: int) -> int:
        dropped: int = await self._writer.submit(lambda db: _expire(db, now, ended_before, most_bytes))
        return dropped

    async def close(self) -> None:
        await self._writer.close()
        await asyncio.to_thread(self._readers.shutdown)
        self._lock.close()

    async def _query(self, query: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, self._read_with, query)
        except sqlite3.Error as problem:
            raise JournalError(f"the journal could not be read: {problem}") from problem

    def _read_with(self, query: Callable[[sqlite3.Connection], T]) -> T:
        if not hasattr(self._local, "connection"):
            self._local.connection = connect_reader(self._path)
        return query(self._local.connection)


def open_url(url: str, *, synchronous: str) -> SqliteJournal:
    """`sqlite:///relative.db` or `sqlite:////absolute.db`."""
    path = unquote(urlsplit(url).path).removeprefix("/")
    if not path:
        raise ValueError(f"expected a path in the journal URL, as in sqlite:///askstream.db, got {url!r}")
    levels: dict[str, Synchronous] = {level: level for level in get_args(Synchronous)}
    if synchronous not in levels:
        raise ValueError(f"expected synchronous to be one of {list(levels)}, got {synchronous!r}")
    return SqliteJournal(Path(path), synchronous=levels[synchronous])


def _only_server(path: Path) -> TextIO:
    """Holds the lock beside the file until it is closed; the system drops it when the process dies."""
    lock = path.with_name(path.name + ".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        lock.close()
        raise JournalError(f"another server writes to {path.name!r}; give this one its own data folder") from problem
    return lock


def _connect_writer(path: Path, synchronous: Synchronous) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    with contextlib.ExitStack() as undo:
        undo.callback(db.close)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {synchronous}")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, VERSION):
            age = "a later" if version > VERSION else "an earlier"
            raise JournalError(f"{path.name!r} was written by {age} askstream; give this one its own data folder")
        if version == 0:
            db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
        undo.pop_all()
    return db


def connect_reader(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)


def _named(row: Sequence[Any]) -> dict[str, Any]:
    return {f.name: value for f, value in zip(fields(RunRecord), row, strict=True)}


def _record(db: sqlite3.Connection, run_id: str) -> RunRecord | None:
    row = db.execute(f"SELECT {_COLUMNS} FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    return RunRecord(**_named(row)) if row else None


def _create(db: sqlite3.Connection, record: RunRecord, entries: Sequence[Entry]) -> RunRecord:
    if record.idempotency_key is not None:
        holder = _keyed(db, record.principal, record.idempotency_key, record.created_at)
        if holder is not None:
            return holder
    db.execute(f"INSERT INTO runs ({_COLUMNS}) VALUES ({_MARKS})", astuple(record))
    _insert(db, record.run_id, entries)
    return record


def _keyed(db: sqlite3.Connection, principal: str, key: str, now: float) -> RunRecord | None:
    sql = f"SELECT {_COLUMNS} FROM runs WHERE principal = ? AND idempotency_key = ? ORDER BY created_at DESC"
    row = db.execute(sql, (principal, key)).fetchone()
    holder = RunRecord(**_named(row)) if row else None
    return holder if holder is not None and binds(holder, now) else None


def _append(db: sqlite3.Connection, record: RunRecord, entries: Sequence[Entry], checkpoint: bytes | None) -> None:
    head = db.execute("SELECT attempt, last_id FROM runs WHERE run_id = ?", (record.run_id,)).fetchone()
    if head is None or head[0] != record.attempt:
        raise Fenced(f"attempt {record.attempt} of this run has been succeeded")
    if entries and entries[0].id != head[1] + 1:
        raise OutOfOrder(f"expected id {head[1] + 1}, got {entries[0].id}")
    _insert(db, record.run_id, entries)
    db.execute(_UPDATE, {**asdict(record), "checkpoint": checkpoint})


def _insert(db: sqlite3.Connection, run_id: str, entries: Sequence[Entry]) -> None:
    db.executemany(
        "INSERT INTO events (run_id, id, event_type, agent_name, line) VALUES (?, ?, ?, ?, ?)",
        [(run_id, e.id, e.event_type, e.agent_name, e.line) for e in entries],
    )


def _claim(db: sqlite3.Connection, run_id: str) -> RunRecord | None:
    db.execute("UPDATE runs SET attempt = attempt + 1 WHERE run_id = ? AND ended_at IS NULL", (run_id,))
    record = _record(db, run_id)
    return record if record and not record.ended else None


def _read(db: sqlite3.Connection, run_id: str, after: int, limit: int) -> list[Entry]:
    rows = db.execute(
        "SELECT id, event_type, agent_name, line FROM events WHERE run_id = ? AND id > ? ORDER BY id", (run_id, after)
    )
    found: list[Entry] = []
    size = 0
    while batch := rows.fetchmany(_ROWS):
        for row in batch:
            size += len(row[3])
            if found and size > limit:
                rows.close()
                return found
            found.append(Entry(*row))
    return found


def _forget(db: sqlite3.Connection, run_id: str) -> bool:
    gone = db.execute("DELETE FROM runs WHERE run_id = ? AND ended_at IS NOT NULL", (run_id,)).rowcount == 1
    if gone:
        db.execute("DELETE FROM events WHERE run_id = ?", (run_id,))
    return gone


def _compact(db: sqlite3.Connection, run_id: str) -> Size:
    db.execute(
        """DELETE FROM events WHERE run_id = :run_id AND event_type = 'agent_chunk' AND id < (
               SELECT max(whole.id) FROM events AS whole WHERE whole.run_id = :run_id
               AND whole.agent_name = events.agent_name AND whole.event_type = 'agent_response')""",
        {"run_id": run_id},
    )
    left = db.execute("SELECT count(*), coalesce(sum(length(line)), 0) FROM events WHERE run_id = ?", (run_id,))
    return Size(*left.fetchone())


def _expire(db: sqlite3.Connection, now: float, ended_before: float, most_bytes: int) -> int:
    db.execute("DELETE FROM runs WHERE expired_at < ?", (now - RECORD_SECONDS,))
    held: int = db.execute("SELECT coalesce(sum(log_bytes), 0) FROM runs WHERE expired_at IS NULL").fetchone()[0]
    ended = db.execute(
        """SELECT run_id, ended_at, log_bytes FROM runs WHERE expired_at IS NULL AND ended_at IS NOT NULL
           ORDER BY ended_at LIMIT ?""",
        (_EXPIRED_AT_ONCE,),
    ).fetchall()
    dropped = 0
    for run_id, ended_at, size in ended:
        if ended_at >= ended_before and held <= most_bytes:
            break
        held -= size
        db.execute("DELETE FROM events WHERE run_id = ?", (run_id,))
        db.execute("UPDATE runs SET expired_at = ?, log_events = 0, log_bytes = 0 WHERE run_id = ?", (now, run_id))
        dropped += 1
    return dropped
