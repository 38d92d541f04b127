"""The guarded SELECT: one statement, read-only, with limits of time, size and rows."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import orjson

DEADLINE: Final = 5.0  # seconds for one query; people won't wait longer
MAX_ROWS: Final = 200  # more than a person or a model should read
MAX_RESULT: Final = 64 * 1024  # bytes of JSON: a quarter of the largest event
# One SQL function over one cell can't be interrupted. Searching 128 KiB in 256 KiB takes 0.2 s; in a megabyte, seconds.
MAX_CELL: Final = 256 * 1024
_MAX_SQL: Final = 20_000  # characters
# VM instructions between two checks of the clock: about a millisecond.
_TICK: Final = 10_000

Value = str | int | float | None
T = TypeVar("T")

_ALLOWED: Final = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE})
_FORBIDDEN_FUNCTIONS: Final = frozenset({"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"})
_DENIED_WORDS: Final = {
    sqlite3.SQLITE_ATTACH: "attach a file",
    sqlite3.SQLITE_DETACH: "detach a file",
    sqlite3.SQLITE_PRAGMA: "use a PRAGMA",
    sqlite3.SQLITE_INSERT: "insert rows",
    sqlite3.SQLITE_UPDATE: "change rows",
    sqlite3.SQLITE_DELETE: "delete rows",
    sqlite3.SQLITE_TRANSACTION: "begin or end a transaction",
    sqlite3.SQLITE_SAVEPOINT: "set a savepoint",
}


class ToolError(Exception):
    """A tool call that failed. Its text is JSON, `{"error": {"code", "message"}}`: the team reads it as the tool's
    result, marked as an error, and continues.

    Codes: `sql_not_allowed`, `sql_invalid`, `sql_timeout`, `sql_too_long`, `result_too_large`, `cell_too_large`,
    `warehouse_unavailable`, `unknown_measure`, `unknown_dimension`, `unknown_value`, `bad_period`, `bad_chart`,
    `not_this_schema`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return orjson.dumps({"error": {"code": self.code, "message": self.message}}).decode()


@dataclass(frozen=True, slots=True)
class Rows:
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    truncated: bool  # there are more rows than `limit`


async def select(path: Path, query: str, *, limit: int = MAX_ROWS, deadline: float = DEADLINE) -> Rows:
    """Run one SELECT in a thread. Raises ToolError. Cancelling interrupts the query, and its thread ends."""
    return await interruptible(lambda stop: select_now(path, query, limit=limit, deadline=deadline, stop=stop))


async def interruptible(work: Callable[[threading.Event], T]) -> T:
    """Do blocking work in a thread. A cancel of this call sets the event that `work` gets."""
    stop = threading.Event()
    try:
        return await asyncio.to_thread(work, stop)
    finally:
        stop.set()


def select_now(
    path: Path,
    query: str,
    *,
    limit: int = MAX_ROWS,
    deadline: float = DEADLINE,
    stop: threading.Event | None = None,
) -> Rows:
    """Like `select`, in the caller's thread; `stop` interrupts it."""
    if len(query) > _MAX_SQL:
        raise ToolError("sql_too_long", f"A query may have {_MAX_SQL:,} characters, this one has {len(query):,}.")
    connection = open_read_only(path)
    denied: list[str] = []
    try:
        watch(connection, deadline, stop)
        connection.set_authorizer(_authorizer(denied))
        return _fetch(connection, query, limit)
    except sqlite3.Error as error:
        raise _tool_error(error, denied, deadline) from None
    except (UnicodeEncodeError, ValueError):  # a lone surrogate, or a NUL
        raise ToolError("sql_invalid", "The query holds characters that SQL text can't have.") from None
    finally:
        connection.close()


def open_read_only(path: Path) -> sqlite3.Connection:
    """A connection that can't write and reads text in any encoding. Raises ToolError."""
    with ExitStack() as undo:
        try:
            connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=1.0)
            undo.callback(connection.close)
            connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
        except sqlite3.Error:
            raise ToolError("warehouse_unavailable", "The database can't be opened, or it isn't SQLite.") from None
        connection.text_factory = _text
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_CELL)
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        undo.pop_all()
    return connection


def watch(connection: sqlite3.Connection, deadline: float, stop: threading.Event | None = None) -> None:
    """Interrupt the connection's queries `deadline` seconds from now, or when `stop` is set."""
    end = time.monotonic() + deadline
    connection.set_progress_handler(lambda: time.monotonic() > end or (stop is not None and stop.is_set()), _TICK)


def json_value(value: object) -> Value:
    """A cell as a JSON value; a blob becomes its size."""
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    return value if isinstance(value, str | int | float) else None


def literal(value: str) -> str:
    """The text as an SQL literal. No query has parameters, so that the SQL shown is the SQL that ran."""
    return "'" + value.replace("'", "''") + "'"


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _fetch(connection: sqlite3.Connection, query: str, limit: int) -> Rows:
    cursor = connection.execute(query)
    if not cursor.description:
        raise ToolError("sql_not_allowed", "One SELECT is expected, and this gives no rows.")
    found = cursor.fetchmany(limit + 1)
    rows = tuple(tuple(json_value(cell) for cell in row) for row in found[:limit])
    size = len(orjson.dumps(rows))
    if size > MAX_RESULT:
        raise ToolError(
            "result_too_large",
            f"The result has {size:,} bytes, {MAX_RESULT:,} are allowed: select fewer columns or rows, or aggregate.",
        )
    return Rows(tuple(str(column[0]) for column in cursor.description), rows, len(found) > limit)


def _authorizer(denied: list[str]) -> Callable[[int, str | None, str | None, str | None, str | None], int]:
    def allow(action: int, first: str | None, second: str | None, _db: str | None, _trigger: str | None) -> int:
        if action in _ALLOWED:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() not in _FORBIDDEN_FUNCTIONS:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_PRAGMA and first == "data_version":  # reading a full-text table needs it
            return sqlite3.SQLITE_OK
        is_function = action == sqlite3.SQLITE_FUNCTION
        denied.append(f"call {second}" if is_function else _DENIED_WORDS.get(action, "change the database"))
        return sqlite3.SQLITE_DENY

    return allow


def _tool_error(error: sqlite3.Error, denied: list[str], deadline: float) -> ToolError:
    text = str(error)
    if denied:
        return ToolError("sql_not_allowed", f"Only reading is allowed; this query would {denied[0]}.")
    if "interrupted" in text:
        return ToolError("sql_timeout", f"The query was stopped after {deadline:g} s: ask for less at once.")
    if "one statement" in text:
        return ToolError("sql_not_allowed", "One statement at a time, please.")
    if isinstance(error, sqlite3.DataError) or "too big" in text:
        return ToolError("cell_too_large", f"A value has more than {MAX_CELL:,} bytes: select other columns.")
    if "readonly" in text or "read-only" in text:
        return ToolError("sql_not_allowed", "Only reading is allowed; this query would write.")
    # SQLite's own words name the wrong table or token, which helps the model to correct it.
    return ToolError("sql_invalid", f"SQLite says: {text}")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
