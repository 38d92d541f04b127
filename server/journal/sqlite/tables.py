"""The tables of a SQLite journal, and connections to it.

Columns that every append updates are a table of their own, `heads`: a thousand active runs need about ten of its
pages, and an update touches no index. Events lie in the order in which they were written, so a commit of 500 runs
appends 40 pages instead of changing one for each run; `events_of_run` finds the events of one run.

`clock` has the seconds for which servers have run on this file; `kept_since` is the clock's value when a run's end, or
its log's expiry, was first seen. So no jump of the machine's clock makes a log look old. `left_state` marks the one run
of a session whose checkpoint the next run begins with. The file keeps track of where its pages are used (auto_vacuum),
so that it can shrink in small steps.
"""

import logging
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
from askstream.server.journal.sqlite.files import WAL_KEPT_BYTES

log = logging.getLogger("__main__")

Synchronous: TypeAlias = Literal["off", "normal", "full", "extra"]

# Raised with every change of the tables. `_UPGRADES` has the way from earlier versions; others are refused.
VERSION = 4
_TABLES = ("runs", "heads", "checkpoints", "events")
# SQLite's number of `auto_vacuum = INCREMENTAL`.
_INCREMENTAL = 2
# Runs have numbers for use in this file only, in the order of their creation. AUTOINCREMENT: a forgotten run's number
# is not given again.
_INDEXES = """
CREATE INDEX runs_by_age ON runs (principal, number);
CREATE INDEX runs_by_session ON runs (principal, session_id, number);
CREATE INDEX runs_left ON runs (principal, session_id) WHERE left_state;
CREATE INDEX runs_by_end ON runs (kept_since) WHERE expired_at IS NULL AND ended_at IS NOT NULL;
CREATE INDEX runs_by_expiry ON runs (kept_since) WHERE expired_at IS NOT NULL;
CREATE INDEX runs_by_key ON runs (principal, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX runs_active ON runs (number) WHERE ended_at IS NULL;
CREATE TABLE clock (running REAL NOT NULL, touched INTEGER NOT NULL) STRICT;
INSERT INTO clock VALUES (0, 0);
"""
_SCHEMA = f"""
CREATE TABLE runs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL UNIQUE, principal TEXT NOT NULL,
    session_id TEXT NOT NULL, question TEXT NOT NULL, model TEXT NOT NULL, created_at REAL NOT NULL,
    options BLOB NOT NULL, idempotency_key TEXT, fingerprint TEXT NOT NULL, ended_at REAL, expired_at REAL, digest TEXT,
    kept_since REAL, left_state INTEGER
) STRICT;
{_INDEXES}
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
_UPGRADES = {
    3: f"""
DROP INDEX runs_by_age; DROP INDEX runs_by_session; DROP INDEX runs_by_end; DROP INDEX runs_by_expiry;
DROP INDEX runs_by_key; DROP INDEX runs_active;
ALTER TABLE runs ADD COLUMN kept_since REAL;
ALTER TABLE runs ADD COLUMN left_state INTEGER;
UPDATE runs SET kept_since = 0 WHERE ended_at IS NOT NULL;
UPDATE runs SET left_state = 1 WHERE ended_at IS NOT NULL AND number IN (SELECT number FROM checkpoints);
{_INDEXES}
""",
}
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
    """Connect, for one thread at a time. Make the tables if there are none, and upgrade those of earlier versions.

    Raises JournalError for a file that isn't a journal, or one of a later version.
    """
    db = sqlite3.connect(_uri(path, "rwc"), uri=True, isolation_level=None, check_same_thread=False)
    with ExitStack() as undo:
        undo.callback(db.close)
        db.text_factory = decode_text
        check_version(db, path)
        db.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")  # has effect on an empty file, and with VACUUM
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {synchronous}")
        db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        db.execute(f"PRAGMA journal_size_limit = {WAL_KEPT_BYTES}")
        _make_tables(db, path)
        undo.pop_all()
    return db


def check_version(db: sqlite3.Connection, path: Path) -> None:
    """Raise JournalError, with the file unchanged, unless it is empty or a journal that this version can read."""
    version, tables = _version(db), {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
    if tables and not tables.issuperset(_TABLES):
        raise JournalError(f"{path.name!r} is another program's database; name another file for the journal")
    if version not in _UPGRADES and version != (VERSION if tables else 0):
        age = "a later" if version > VERSION else "an earlier"
        raise JournalError(f"{path.name!r} was written by {age} askstream; give this one its own data folder")


def _version(db: sqlite3.Connection) -> int:
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    return version


def touch(db: sqlite3.Connection) -> None:
    """Change something. A PRAGMA doesn't count as a change, and the writer carries only changes over."""
    db.execute("UPDATE clock SET touched = touched + 1")


def _make_tables(db: sqlite3.Connection, path: Path) -> None:
    version = _version(db)
    if version != VERSION:
        script = _UPGRADES[version] if version else _SCHEMA
        db.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {VERSION}; COMMIT;")
    if db.execute("PRAGMA auto_vacuum").fetchone()[0] != _INCREMENTAL:
        log.warning("%s is of an earlier askstream: writing it anew, once, so that it can shrink", path)
        try:
            db.execute("VACUUM")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as problem:
            log.warning("%s can't be written anew, so it can't shrink: %s; the next start tries again", path, problem)


def decode_text(data: bytes) -> str:
    """Decode a text of the file. One damaged text must not make all records unreadable."""
    return data.decode("utf-8", "replace")


def connect_beside(db: sqlite3.Connection) -> sqlite3.Connection:
    """Open another connection to the same file, which waits for the disk if `db` does."""
    path, level = db.execute("PRAGMA database_list").fetchone()[2], db.execute("PRAGMA synchronous").fetchone()[0]
    other = sqlite3.connect(_uri(Path(path), "rw"), uri=True, isolation_level=None, check_same_thread=False)
    other.execute(f"PRAGMA synchronous = {level}")
    return other


def connect_reader(path: Path) -> sqlite3.Connection:
    """Connect read-only, for one thread at a time."""
    return sqlite3.connect(_uri(path, "ro"), uri=True, isolation_level=None, check_same_thread=False)


def _uri(path: Path, mode: str) -> str:
    """Return SQLite's name for this very file, whatever characters it has; none is made."""
    return f"file:{quote(str(path.absolute()))}?mode={mode}"


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
