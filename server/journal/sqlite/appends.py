"""Writes the appends of many runs at once: two statements, however many there are.

The fence and the order of ids are conditions of the statement that updates a run's row in `heads`. If it updates fewer
rows than there are appends, one of them is refused; writing each alone finds out which.
"""

import sqlite3
from collections.abc import Sequence

from askstream.server.events.errors import AskstreamError, Fenced, OutOfOrder
from askstream.server.journal.base import Append, RunUpdate
from askstream.server.journal.sqlite.tables import INSERT_EVENT, NUMBER

# The columns that an append updates.
_COLUMNS = slice(RunUpdate._fields.index("state"), RunUpdate._fields.index("log_bytes") + 1)
_UPDATE_RUN = f"""
UPDATE heads SET {", ".join(f"{name} = ?" for name in RunUpdate._fields[_COLUMNS])}
WHERE number = {NUMBER} AND attempt = ? AND last_id = coalesce(?, last_id)
"""
_SAVE = f"""
INSERT INTO checkpoints (number, last_id, state) VALUES ({NUMBER}, ?, ?)
ON CONFLICT DO UPDATE SET last_id = excluded.last_id, state = excluded.state
"""
_DROP = f"DELETE FROM checkpoints WHERE number = {NUMBER}"
# At most one run of a session has left a checkpoint: a session with ten thousand runs ends its next one as quickly.
_LEFT = """
SELECT other.number FROM runs AS this JOIN runs AS other INDEXED BY runs_left USING (principal, session_id)
WHERE this.run_id = ? AND other.left_state
"""
_DROP_LEFT = f"DELETE FROM checkpoints WHERE number IN ({_LEFT})"
_FORGET_LEFT = f"UPDATE runs SET left_state = NULL WHERE number IN ({_LEFT})"
_END = "UPDATE runs SET ended_at = ?, digest = ?, left_state = ? WHERE run_id = ?"


class GroupRefused(Exception):
    """One append of several is refused. All have to be rolled back and written one by one."""


def write_appends(db: sqlite3.Connection, appends: Sequence[Append]) -> None:
    """Write in order. Raises AskstreamError if a single one is refused, with nothing written; or GroupRefused."""
    moves: list[tuple[object, ...]] = []
    events: list[tuple[object, ...]] = []
    for update, entries, _ in appends:
        moves.append((*update[_COLUMNS], update.run_id, update.attempt, entries[0].id - 1 if entries else None))
        for entry in entries:
            events.append((update.run_id, *entry))  # noqa: PERF401 - a comprehension is one more call for each event
    if db.executemany(_UPDATE_RUN, moves).rowcount != len(appends):
        raise _refusal(db, appends[0]) if len(appends) == 1 else GroupRefused
    if events:
        db.executemany(INSERT_EVENT, events)
    for update, _, checkpoint in appends:
        if update.ended_at is not None:
            _end(db, update, keeps=checkpoint is not None)
        if checkpoint is not None:
            db.execute(_SAVE, (update.run_id, update.last_id, checkpoint))


def _refusal(db: sqlite3.Connection, append: Append) -> AskstreamError:
    sql = f"SELECT attempt, last_id FROM heads WHERE number = {NUMBER}"
    found = db.execute(sql, (append.update.run_id,)).fetchone()
    if found is None or found[0] != append.update.attempt:
        return Fenced(f"attempt {append.update.attempt} of this run was replaced by a later one")
    return OutOfOrder(f"expected id {found[1] + 1}, got {append.entries[0].id}")


def _end(db: sqlite3.Connection, update: RunUpdate, *, keeps: bool) -> None:
    """End a run, and delete the checkpoint that it no longer needs; with `keeps` the one that an earlier run of its
    session has left, too: the append brings a newer one."""
    for sql in (_DROP, *((_DROP_LEFT, _FORGET_LEFT) if keeps else ())):
        db.execute(sql, (update.run_id,))
    db.execute(_END, (update.ended_at, update.digest, 1 if keeps else None, update.run_id))
