"""A journal's files: their lock and modes, and whether they are still the ones that were opened.

A server goes on writing to a file that was deleted, and would acknowledge runs that no later server knows.
"""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import TextIO

from askstream.server import private
from askstream.server.events.errors import JournalError

# Bytes to which SQLite shortens the WAL when it begins anew. It is never shorter than that once it was longer.
WAL_KEPT_BYTES = 16 * 2**20
_PARTS = ("", "-wal", "-shm", ".lock")


class JournalFiles:
    """The files of the journal at `path`, locked until `close`. Raises JournalError where that isn't possible.

    The system releases the lock when the process dies.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = _locked(path)
        self._opened: dict[str, tuple[int, int]] = {}
        self._least = self._least_wal = 0
        for part in _PARTS[:3]:
            private.close_to_others(self._part(part), private.FILE_MODE)

    def _part(self, part: str) -> Path:
        return self.path.with_name(self.path.name + part)

    def remember(self) -> None:
        """Remember which files they are. Call it once SQLite has opened them."""
        self._opened = {part: _identity(self._part(part)) for part in _PARTS}
        self.remember_size()

    def remember_size(self) -> None:
        """Remember the file's size. Call it wherever the file may have shrunk, in the thread that checks."""
        with contextlib.suppress(OSError):  # it is gone: the next check says so
            self._least = self._part("").stat().st_size

    def check(self) -> None:
        """Raise JournalError if a file was deleted, replaced or truncated. Not while the WAL is being carried over."""
        for part, identity in self._opened.items():
            if _identity(self._part(part)) != identity:
                raise JournalError(_gone(self._part(part), "deleted or replaced"))
        size, wal = self._part("").stat().st_size, self._part("-wal").stat().st_size
        if size < self._least:
            raise JournalError(_gone(self.path, "truncated"))
        if wal < self._least_wal:
            raise JournalError(_gone(self._part("-wal"), "truncated"))
        self._least, self._least_wal = size, min(wal, WAL_KEPT_BYTES)

    def close(self) -> None:
        self._lock.close()


def _identity(path: Path) -> tuple[int, int]:
    """Return what makes it this file and no other; zeros if there is none."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino


def _gone(path: Path, what: str) -> str:
    return f"{path.name!r} was {what} while the server runs; put it back if you can, then restart the server"


def _locked(path: Path) -> TextIO:
    """Make the folder and the file if there are none, and hold the lock beside the file."""
    try:
        if path.is_dir():
            raise JournalError(f"expected a file for the journal, got the folder {str(path)!r}; name a file in it")
        private.make_folder(path.parent)
        lock = open(path.with_name(path.name + ".lock"), "w", opener=_private)  # noqa: SIM115 - held until `close`
    except (OSError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else problem
        where = f"{str(path.parent)!r}: {reason}"
        raise JournalError(f"can't write to the data folder {where}; choose another with ASKSTREAM_DATA") from problem
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        private.close_to_others(path.with_name(path.name + ".lock"), private.FILE_MODE)
        private.make_file(path)  # SQLite gives the mode to the files beside it
    except BlockingIOError as problem:
        lock.close()
        raise JournalError(f"another server writes to {path.name!r}; give this one its own data folder") from problem
    except OSError as problem:
        lock.close()
        raise JournalError(f"{str(path)!r} can't be made: {problem.strerror}; choose another place") from problem
    return lock


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, private.FILE_MODE)
