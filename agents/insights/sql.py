"""The guarded SELECT: one statement, read-only, with limits of time, size and rows.

A query of the model runs in a child process, which is killed when its time is over: a thread in the middle of one of
SQLite's functions can't be stopped. Queries of our own, over the bundled schema, run in a thread.
"""

import asyncio
import json
import math
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson

from askstream.agents.insights import select_child
from askstream.agents.insights.select_child import MAX_CELL, Denied, Value, json_value

__all__ = ["MAX_CELL", "Value", "json_value"]

DEADLINE: Final = 5.0  # seconds for one query; people won't wait longer
MAX_ROWS: Final = 200  # more than a person or a model should read
MAX_RESULT: Final = 64 * 1024  # bytes of JSON: a quarter of the largest event
_MAX_SQL: Final = 20_000  # characters
# VM instructions between two checks of the clock: about a millisecond.
_TICK: Final = 10_000

T = TypeVar("T")


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
    """Run anybody's SELECT. Raises ToolError. Its process is killed at the deadline, or on a cancel."""
    child = _Child(path, query, limit)
    try:
        return await asyncio.to_thread(child.rows, deadline)
    finally:
        child.kill()


async def select_here(path: Path, query: str, *, limit: int = MAX_ROWS, deadline: float = DEADLINE) -> Rows:
    """Run a SELECT of our own, in a thread: that costs a hundredth of a process. Raises ToolError."""
    return await interruptible(lambda stop: _select_here(path, query, limit, deadline, stop))


async def interruptible(work: Callable[[threading.Event], T]) -> T:
    """Do blocking work in a thread. A cancel of this call sets the event that `work` gets."""
    stop = threading.Event()
    try:
        return await asyncio.to_thread(work, stop)
    finally:
        stop.set()


class _Child:
    """A process for one query."""

    def __init__(self, path: Path, query: str, limit: int) -> None:
        _check_length(query)
        self._request = {"uri": path.resolve().as_uri(), "query": query, "limit": limit}
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._killed = False

    def rows(self, deadline: float) -> Rows:
        """Start it, and wait for its answer. Blocks."""
        request = json.dumps(self._request | {"seconds": math.ceil(deadline) + 1})
        with self._start() as process:
            try:
                answer, _ = process.communicate(request, timeout=deadline)
            except subprocess.TimeoutExpired:
                raise _late(deadline) from None
            finally:
                process.kill()
        try:
            return _rows(json.loads(answer))
        except ValueError:  # none, or a part of one
            raise ToolError("warehouse_unavailable", "The query's process ended without an answer.") from None

    def kill(self) -> None:
        with self._lock:
            self._killed = True
            if self._process is not None:
                self._process.kill()

    def _start(self) -> "subprocess.Popen[str]":
        command = [sys.executable, "-I", "-S", select_child.__file__]
        pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
        with self._lock:
            if self._killed:
                raise _late(0)
            try:
                self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nowhere, text=True)  # noqa: S603 - this package's own module, in this interpreter
            except OSError:
                raise ToolError("warehouse_unavailable", "No process can be started for the query.") from None
            return self._process


def _select_here(path: Path, query: str, limit: int, deadline: float, stop: threading.Event) -> Rows:
    _check_length(query)
    connection = open_read_only(path)
    try:
        watch(connection, deadline, stop)
        return _rows(select_child.fetch(connection, query, limit))
    except Denied as problem:
        code, text = problem.args
        raise (_late(deadline) if "interrupted" in text else ToolError(code, text)) from None
    finally:
        connection.close()


def _check_length(query: str) -> None:
    if len(query) > _MAX_SQL:
        raise ToolError("sql_too_long", f"A query may have {_MAX_SQL:,} characters, this one has {len(query):,}.")


def _late(deadline: float) -> ToolError:
    return ToolError("sql_timeout", f"The query was stopped after {deadline:g} s: ask for less at once.")


def _rows(answer: dict[str, Any]) -> Rows:
    if "error" in answer:
        raise ToolError(*answer["error"])
    size = len(orjson.dumps(answer["rows"]))
    if size > MAX_RESULT:
        raise ToolError(
            "result_too_large",
            f"The result has {size:,} bytes, {MAX_RESULT:,} are allowed: select fewer columns or rows, or aggregate.",
        )
    return Rows(tuple(answer["columns"]), tuple(map(tuple, answer["rows"])), answer["truncated"])


def open_read_only(path: Path) -> sqlite3.Connection:
    """A connection that can't write and reads text in any encoding. Raises ToolError."""
    try:
        return select_child.open_read_only(path.resolve().as_uri())
    except sqlite3.Error:
        raise ToolError("warehouse_unavailable", "The database can't be opened, or it isn't SQLite.") from None


def watch(connection: sqlite3.Connection, deadline: float, stop: threading.Event | None = None) -> None:
    """Interrupt the connection's queries `deadline` seconds from now, or when `stop` is set."""
    end = time.monotonic() + deadline
    connection.set_progress_handler(lambda: time.monotonic() > end or (stop is not None and stop.is_set()), _TICK)


def literal(value: str) -> str:
    """The text as an SQL literal. No query has parameters, so that the SQL shown is the SQL that ran."""
    return "'" + value.replace("'", "''") + "'"


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
