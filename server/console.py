"""Standard input, output and error of a server. They may be closed, and their reader may be gone."""

import os
import sys


def open_standard_files() -> None:
    """Open the null device in place of standard files that are closed. Call it before any other file is opened: the
    next one, the journal perhaps, would get a closed one's number, and all that is printed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - for as long as the process
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def say(text: str, *, error: bool = False) -> None:
    """Print a line for the person who has started a server. Nobody may be there any more to read it."""
    stream, number = (sys.stderr, 2) if error else (sys.stdout, 1)
    try:
        stream.write(f"{text}\n")
        stream.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)  # else the interpreter's end would fail to write it, too


def ignore_input() -> None:
    """Give code that reads standard input its end: nobody sits at a server's console. Child processes inherit it."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
