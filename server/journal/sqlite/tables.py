"""The tables of a SQLite journal, and connections to it.

Columns that every append updates are a table of their own, `heads`: a thousand active runs need about ten of its
pages, and an update touches no index. Events lie in the order in which they were written, so a commit of 500 runs
appends 40 pages instead of changing one for each run; `events_of_run` finds the events of one run.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import quote

from askstream.server.events.errors import JournalError
from askstream.server.journal.base import Entry, RunRecord

Synchronous: TypeAlias = Literal["off", "normal", "full", "extra"]

# Raised with every change of the tables. A file of another version is refused.
VERSION = 3
# Runs have numbers for use in this file only. AUTOINCREMENT: a forgotten run's number is not given again.
_SCHEMA = """
CREATE TABLE runs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL UNIQUE, principal TEXT NOT NULL,
    session_id TEXT NOT NULL, question TEXT NOT NULL, model TEXT NOT NULL, created_at REAL NOT NULL,
    options BLOB NOT NULL, idempotency_key TEXT, fingerprint TEXT NOT NULL, ended_at REAL, expired_at REAL, digest TEXT
) STRICT;
CREATE INDEX runs_by_age ON runs (principal, created_at DESC, run_id DESC);
CREATE INDEX runs_by_session ON runs (principal, session_id, created_at);
CREATE INDEX runs_by_end ON runs (ended_at) WHERE expired_at IS NULL AND ended_at IS NOT NULL;
CREATE INDEX runs_by_expiry ON runs (expired_at) WHERE expired_at IS NOT NULL;
CREATE INDEX runs_by_key ON runs (principal, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX runs_active ON runs (created_at) WHERE ended_at IS NULL;
CREATE TABLE heads (
    number INTEGER PRIMARY KEY, attempt INTEGER NOT NULL, state TEXT NOT NULL, progress INTEGER NOT NULL,
    last_id INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
    log_events INTEGER NOT NULL, log_bytes INTEGER NOT NULL
) STRICT;
CREATE TABLE checkpoints (number INTEGER PRIMARY KEY, last_id INTEGER NOT NULL, state BLOB NOT NULL) STRICT;
CREATE TABLE events (
    place INTEGER PRIMARY KEY, number INTEGER NOT NULL, id INTEGER NOT NULL, event_type TEXT NOT NULL,
    agent_name TEXT NOT NULL, line BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX events_of_run ON events (number, id);
"""
_UPDATED = ("attempt", "state", "progress", "last_id", "prompt_tokens", "completion_tokens", "log_events", "log_bytes")
_RUN = tuple(f.name for f in fields(RunRecord) if f.name not in _UPDATED)
NUMBER = "(SELECT number FROM runs WHERE run_id = ?)"
_RECORDS = f"SELECT {', '.join(f.name for f in fields(RunRecord))} FROM runs JOIN heads USING (number)"
_INSERT_RUN = f"INSERT INTO runs ({', '.join(_RUN)}) VALUES ({', '.join('?' * len(_RUN))})"
_INSERT_UPDATE = f"INSERT INTO heads (number, {', '.join(_UPDATED)}) VALUES ({', '.join('?' * (len(_UPDATED) + 1))})"
INSERT_EVENT = f"INSERT INTO events (number, id, event_type, agent_name, line) VALUES ({NUMBER}, ?, ?, ?, ?)"

# KiB of the writer's page cache: it holds the pages that 1,000 active runs append to. SQLite's default, 2 MiB, is too
# small for them, and spills.
_CACHE_KIB = 16 * 1024


def connect_writer(path: Path, synchronous: Synchronous) -> sqlite3.Connection:
    """Connect, for one thread at a time. Make the tables if there are none; raise JournalError for other versions."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    with ExitStack() as undo:
        undo.callback(db.close)
        db.text_factory = decode_text
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {synchronous}")
        db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, VERSION):
            age = "a later" if version > VERSION else "an earlier"
            raise JournalError(f"{path.name!r} was written by {age} askstream; give this one its own data folder")
        if version == 0:
            db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
        undo.pop_all()
    return db


def decode_text(data: bytes) -> str:
    """Decode a text of the file. One damaged text must not make all records unreadable."""
    return data.decode("utf-8", "replace")


def connect_beside(db: sqlite3.Connection) -> sqlite3.Connection:
    """Open another connection to the same file, which waits for the disk if `db` does."""
    path, level = db.execute("PRAGMA database_list").fetchone()[2], db.execute("PRAGMA synchronous").fetchone()[0]
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute(f"PRAGMA synchronous = {level}")
    return other


def connect_reader(path: Path) -> sqlite3.Connection:
    """Connect read-only, for one thread at a time."""
    where = f"file:{quote(str(path))}?mode=ro"
    return sqlite3.connect(where, uri=True, isolation_level=None, check_same_thread=False)


def records(db: sqlite3.Connection, rest: str, values: Sequence[Any]) -> list[RunRecord]:
    """Return the records for the `rest` of the query, from WHERE on."""
    names = [f.name for f in fields(RunRecord)]
    return [RunRecord(**dict(zip(names, row, strict=True))) for row in db.execute(f"{_RECORDS} {rest}", values)]


def insert_record(db: sqlite3.Connection, record: RunRecord, entries: Sequence[Entry] = ()) -> RunRecord:
    """Insert a new run with its first events. Return the record."""
    number = db.execute(_INSERT_RUN, attrgetter(*_RUN)(record)).lastrowid
    db.execute(_INSERT_UPDATE, (number, *attrgetter(*_UPDATED)(record)))
    for entry in entries:
        db.execute(INSERT_EVENT, (record.run_id, *entry))
    return record
