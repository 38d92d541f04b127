"""Files and folders that only the server's own user may read: runs, checkpoints and logs hold what people asked.

Never opens a file that a database has: closing any handle of it ends the database's locks in this process.
"""

import logging
import os
import stat
from pathlib import Path

log = logging.getLogger("__main__")

FILE_MODE, FOLDER_MODE = 0o600, 0o700


def make_folder(path: Path) -> None:
    """Make a private folder if there is none. One that exists keeps its mode: it may hold other things. Raises OSError,
    also where something else is there."""
    path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)


def make_file(path: Path) -> None:
    """Make a private empty file if there is none, and close an existing one to other users. Raises OSError."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FILE_MODE))
    except FileExistsError:
        close_to_others(path, FILE_MODE)


def close_folder(path: Path) -> None:
    """Close the data folder to other users, unless it is obviously not the server's alone."""
    if _is_shared(path):
        if path.stat().st_mode & stat.S_IRWXO & ~FOLDER_MODE:
            log.warning("the folder %s isn't the server's alone, so other users can still list it", path)
    else:
        close_to_others(path, FOLDER_MODE)


def close_to_others(path: Path, mode: int) -> None:
    """Take away all rights beyond `mode`, and log that. Nothing happens where there is no such file."""
    try:
        present = stat.S_IMODE(path.stat().st_mode)
        if present & ~mode:
            path.chmod(present & mode)
            log.warning("%s was open to other users (mode %o); its mode is %o now", path, present, present & mode)
    except FileNotFoundError:
        pass
    except OSError as problem:
        log.warning("%s is open to other users, and its mode can't be changed: %s", path, problem.strerror)


def _is_shared(folder: Path) -> bool:
    """Whether it is a folder like /tmp, a home, or one around the current folder."""
    here, resolved = Path.cwd(), folder.resolve()
    is_sticky = bool(resolved.stat().st_mode & stat.S_ISVTX)
    return is_sticky or resolved in (here, *here.parents, Path.home().resolve())
