"""Make the benchmark's programs and packages on first use, inside the virtual environment."""

import hashlib
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements.txt"
# A new virtual environment doesn't have it yet.
FOLDER = Path(sys.prefix) / "bench"

log = logging.getLogger(__name__)


class Unmeasurable(Exception):
    """There is no figure; the message says why. The other measurements go on."""


def attempt(do: Callable[[], object]) -> str:
    """Do it. Return the reason of a failure, else ''. Log an unexpected one."""
    try:
        do()
    except Unmeasurable as problem:
        return str(problem)
    except Exception as problem:
        log.exception("unexpected")
        return f"{type(problem).__name__}: {problem}"
    return ""


def program(name: str) -> Path:
    """Return the C program of that name, compiled. Raises Unmeasurable."""
    source = HERE / f"{name}.c"
    made = _made_from(source)
    if made.exists():
        return made
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise Unmeasurable(f"there is no C compiler, and {name}.c needs one (Debian: apt-get install gcc libc6-dev)")
    FOLDER.mkdir(exist_ok=True)
    done = subprocess.run([compiler, "-O2", "-o", made, source], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unmeasurable(f"{name}.c can't be compiled: {done.stderr.strip()[-300:]}")
    return made


def install() -> None:
    """Install the peers that aren't packages of the project, by their hashes. Raises Unmeasurable."""
    if packages().exists():
        return
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--require-hashes", "--target", str(packages()), "--requirement", str(REQUIREMENTS)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        shutil.rmtree(packages(), ignore_errors=True)
        raise Unmeasurable(f"the packages of bench/{REQUIREMENTS.name} can't be installed, so they are left out")


def packages() -> Path:
    """Return the folder of the installed peers. It exists once they are installed."""
    return _made_from(REQUIREMENTS)


def _made_from(source: Path) -> Path:
    """Each version of the source has its own."""
    return FOLDER / f"{source.stem}-{hashlib.sha256(source.read_bytes()).hexdigest()[:12]}"
