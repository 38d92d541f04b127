"""Runs one SELECT in a process of its own, which can be killed: `python -I -S select_child.py`.

A request comes on its standard input, and the answer goes to its standard output, both as JSON.

SQLite can't be interrupted within a function, and there are functions that need minutes for one call. It imports
nothing but the standard library, so that it starts in a few milliseconds.
"""

import json
import math
import resource
import sqlite3
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final

Value = str | int | float | None

# One cell. Work over larger ones costs seconds.
MAX_CELL: Final = 256 * 1024

_ALLOWED: Final = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE})
_FORBIDDEN_FUNCTIONS: Final = frozenset({"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"})
# Those that describe the schema; reading a full-text table needs the last one.
_PRAGMAS: Final = (
    "table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "foreign_key_list",
    "data_version",
)  # fmt: skip
_SCHEMA_TABLES: Final = ("sqlite_master", "sqlite_temp_master")
_DENIED_WORDS: Final = {
    sqlite3.SQLITE_ATTACH: "attach another file",
    sqlite3.SQLITE_DETACH: "detach a file",
    sqlite3.SQLITE_INSERT: "insert rows",
    sqlite3.SQLITE_UPDATE: "change rows",
    sqlite3.SQLITE_DELETE: "delete rows",
    sqlite3.SQLITE_TRANSACTION: "begin or end a transaction",
    sqlite3.SQLITE_SAVEPOINT: "set a savepoint",
}


class Denied(Exception):
    """The query is refused. It has a code of `ToolError`, and a sentence that says why."""


def open_read_only(uri: str) -> sqlite3.Connection:
    """A connection that can't write and reads text in any encoding. Raises sqlite3.Error."""
    with ExitStack() as undo:
        connection = sqlite3.connect(f"{uri}?mode=ro", uri=True, timeout=1.0)
        undo.callback(connection.close)
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
        connection.text_factory = _text
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_CELL)
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        undo.pop_all()
    return connection


def fetch(connection: sqlite3.Connection, query: str, limit: int) -> dict[str, Any]:
    """Run the query under guard. Return `columns`, `rows` and `truncated`. Raises Denied, in words that are true."""
    reasons: list[str] = []
    connection.set_authorizer(_authorizer(reasons))
    try:
        cursor = connection.execute(query)
        if not cursor.description:
            raise Denied("sql_not_allowed", "One SELECT is expected, and this gives no rows.")
        found = cursor.fetchmany(limit + 1)
    except sqlite3.Error as error:
        if reasons:
            raise Denied("sql_not_allowed", reasons[0]) from None
        raise _denied(error) from None
    except (UnicodeEncodeError, ValueError):  # a lone surrogate, or a NUL
        raise Denied("sql_invalid", "The query holds characters that SQL text can't have.") from None
    rows = [[json_value(cell) for cell in row] for row in found[:limit]]
    return {"columns": [str(each[0]) for each in cursor.description], "rows": rows, "truncated": len(found) > limit}


def json_value(value: object) -> Value:
    """A cell as a JSON value; a blob becomes its size, and what JSON can't have None."""
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float) else None


def _authorizer(reasons: list[str]) -> Callable[[int, str | None, str | None, str | None, str | None], int]:
    def allow(action: int, first: str | None, second: str | None, _db: str | None, _trigger: str | None) -> int:
        reason = None if action in _ALLOWED else _reason(action, first or "", second or "")
        if reason is not None:
            reasons.append(reason)
        return sqlite3.SQLITE_OK if reason is None else sqlite3.SQLITE_DENY

    return allow


def _reason(action: int, first: str, second: str) -> str | None:
    """Return the reason for which an action isn't allowed; None if it is."""
    if action == sqlite3.SQLITE_FUNCTION:
        return f"The function {second} isn't allowed here." if second.lower() in _FORBIDDEN_FUNCTIONS else None
    if action == sqlite3.SQLITE_PRAGMA:
        return None if first in _PRAGMAS else f"PRAGMA {first} isn't allowed here; {', '.join(_PRAGMAS)} are."
    if first in _SCHEMA_TABLES:
        # SQLite reports an update of its own table where a query uses json_each, say: it declares that table's columns.
        # A real one is refused by SQLite itself.
        change = action in (sqlite3.SQLITE_INSERT, sqlite3.SQLITE_DELETE)
        return "Only reading is allowed; this query would change the schema." if change else None
    return f"Only reading is allowed; this query would {_DENIED_WORDS.get(action, 'change the database')}."


def _denied(error: sqlite3.Error) -> Denied:
    text = str(error)
    if "one statement" in text:
        return Denied("sql_not_allowed", "One statement at a time, please.")
    if isinstance(error, sqlite3.DataError) or "too big" in text:
        return Denied("cell_too_large", f"A value has more than {MAX_CELL:,} bytes: select other columns.")
    if "readonly" in text or "read-only" in text:
        return Denied("sql_not_allowed", "Only reading is allowed; this query would write.")
    # SQLite's own words name the wrong table or token, which helps the model to correct it.
    return Denied("sql_invalid", f"SQLite says: {text}")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _answer(uri: str, query: str, limit: int) -> dict[str, Any]:
    try:
        connection = open_read_only(uri)
    except sqlite3.Error:
        return {"error": ("warehouse_unavailable", "The database can't be opened, or it isn't SQLite.")}
    try:
        return fetch(connection, query, limit)
    except Denied as problem:
        return {"error": problem.args}
    finally:
        connection.close()


def main() -> None:
    request = json.load(sys.stdin)
    # Seconds of processor time: it ends itself if the server can't kill it any more, because that was killed.
    resource.setrlimit(resource.RLIMIT_CPU, (request.pop("seconds"),) * 2)
    json.dump(_answer(**request), sys.stdout)


if __name__ == "__main__":
    main()
