"""Writes the appends of many runs at once: two statements, however many there are.

The fence and the order of ids are conditions of the statement that moves a run's head. If it moved fewer heads than
there are appends, one of them is refused; which one, shows when each is written alone.
"""

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from askstream.server.events.errors import AskstreamError, Fenced, OutOfOrder
from askstream.server.journal.base import Entry, Head
from askstream.server.journal.sqlite.tables import INSERT_EVENT, NUMBER

# What moves within a run's attempt, as a part of its head.
_MOVED = slice(Head._fields.index("state"), Head._fields.index("log_bytes") + 1)
_MOVE_HEAD = f"""
UPDATE heads SET {", ".join(f"{name} = ?" for name in Head._fields[_MOVED])}
WHERE number = {NUMBER} AND attempt = ? AND last_id = coalesce(?, last_id)
"""
_SAVE = f"""
INSERT INTO checkpoints (number, last_id, state) VALUES ({NUMBER}, ?, ?)
ON CONFLICT DO UPDATE SET last_id = excluded.last_id, state = excluded.state
"""
_END = "UPDATE runs SET ended_at = ?, digest = ? WHERE run_id = ?"


class Append(NamedTuple):
    """The arguments of `Journal.append`."""

    head: Head
    entries: Sequence[Entry]
    checkpoint: bytes | None


class Unsettled(Exception):
    """One append of several is refused. All have to be rolled back and written one by one."""


def write_appends(db: sqlite3.Connection, appends: Sequence[Append]) -> None:
    """In order. Raises the AskstreamError with which a single one is refused, with nothing written, or Unsettled."""
    moves: list[tuple[object, ...]] = []
    events: list[tuple[object, ...]] = []
    for head, entries, _ in appends:
        moves.append((*head[_MOVED], head.run_id, head.attempt, entries[0].id - 1 if entries else None))
        for entry in entries:
            events.append((head.run_id, *entry))  # noqa: PERF401 - a comprehension is one more call for each event
    if db.executemany(_MOVE_HEAD, moves).rowcount != len(appends):
        raise _refusal(db, appends[0]) if len(appends) == 1 else Unsettled
    if events:
        db.executemany(INSERT_EVENT, events)
    for head, _, checkpoint in appends:
        if checkpoint is not None:
            db.execute(_SAVE, (head.run_id, head.last_id, checkpoint))
        if head.ended_at is not None:
            _end(db, head)


def _refusal(db: sqlite3.Connection, append: Append) -> AskstreamError:
    sql = f"SELECT attempt, last_id FROM heads WHERE number = {NUMBER}"
    head = db.execute(sql, (append.head.run_id,)).fetchone()
    if head is None or head[0] != append.head.attempt:
        return Fenced(f"attempt {append.head.attempt} of this run has been succeeded")
    return OutOfOrder(f"expected id {head[1] + 1}, got {append.entries[0].id}")


def _end(db: sqlite3.Connection, head: Head) -> None:
    """A run that has ended needs its checkpoint no more."""
    db.execute(_END, (head.ended_at, head.digest, head.run_id))
    db.execute(f"DELETE FROM checkpoints WHERE number = {NUMBER}", (head.run_id,))
