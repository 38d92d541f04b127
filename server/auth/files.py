"""Small secret files: only their owner may read them."""

import logging
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger("__main__")

PRIVATE = 0o600


def read_or_make(path: Path, make: Callable[[], str]) -> str:
    """Return the text of a private file. If it is missing or empty, write what `make` returns; the first of several
    processes wins.

    Raises OSError if that is impossible.
    """
    text = _text(path)
    if not text:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        _publish(path, make())
        text = _text(path)
    keep_private(path)
    return text


def write_private(path: Path, text: str) -> None:
    """Replace the file in one step: a reader finds the old text or the new one."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _written_beside(path, text).replace(path)


def keep_private(path: Path) -> None:
    """Take the rights of others away, and log that; or that it is impossible, as in a container's mounted secret."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if not mode & ~PRIVATE:
        return
    try:
        path.chmod(PRIVATE)
        log.warning("%s was readable for others (mode %o); its mode is %o now", path, mode, PRIVATE)
    except OSError as problem:
        log.warning("%s may be readable for others (mode %o), and stays so: %s", path, mode, problem.strerror)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return ""


def _publish(path: Path, text: str) -> None:
    written = _written_beside(path, text)
    try:
        os.link(written, path)
    except FileExistsError:
        pass  # another process was first
    finally:
        written.unlink()


def _written_beside(path: Path, text: str) -> Path:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE), "w", encoding="utf-8") as file:
        file.write(f"{text}\n")
    return temporary
