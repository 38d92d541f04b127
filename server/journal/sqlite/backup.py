"""Copies a journal into one file, whether its server runs or not."""

import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from askstream.server.events.errors import JournalError
from askstream.server.journal.sqlite.journal import path_of
from askstream.server.journal.sqlite.tables import check_version, connect_reader

# The first bytes of every SQLite file.
_MAGIC = b"SQLite format 3\0"


def back_up(url: str, target: Path) -> int:
    """Copy the journal of `url` to `target`, whole or not at all. Return the copy's size.

    The server's writes aren't held up: the copy has what was durable at its begin. An earlier copy is replaced. Raises
    ValueError or JournalError with one sentence.
    """
    if "://" in url and not url.startswith("sqlite://"):
        raise ValueError(f"expected a journal in a SQLite file, got {url!r}; back that one up with its own tools")
    source = path_of(url)
    try:
        _check_target(source, target)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        os.close(handle)
    except OSError as problem:
        raise JournalError(f"{str(target)!r} can't be written: {problem.strerror}") from problem
    try:
        _copy(source, Path(name))
        Path(name).replace(target)
    except (sqlite3.Error, OSError) as problem:
        raise JournalError(f"{source.name!r} can't be copied to {str(target)!r}: {problem}") from problem
    finally:
        Path(name).unlink(missing_ok=True)
    return target.stat().st_size


def _check_target(source: Path, target: Path) -> None:
    if not source.is_file():
        raise JournalError(f"there is no journal {str(source)!r}; name its folder with --data")
    if not target.exists():
        return
    if target.samefile(source):
        raise JournalError(f"{str(target)!r} is the journal itself; name another file for the copy")
    if not target.is_file() or (target.stat().st_size and target.open("rb").read(len(_MAGIC)) != _MAGIC):
        raise JournalError(f"{str(target)!r} is no earlier copy; name another file")


def _copy(source: Path, target: Path) -> None:
    with closing(connect_reader(source)) as db, closing(sqlite3.connect(target)) as copy:
        check_version(db, source)
        db.backup(copy)  # in one step: one in between would begin anew with each write of the server
        copy.execute("PRAGMA journal_mode = DELETE").fetchone()  # the file alone has everything
