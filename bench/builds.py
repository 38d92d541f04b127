"""What the benchmark needs beside the project's own packages: made on first use, inside the virtual environment."""

import hashlib
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
# Goes with the environment: a new one begins without it.
FOLDER = Path(sys.prefix) / "bench"
PACKAGES = FOLDER / "packages"
REQUIREMENTS = HERE / "requirements.txt"


class Unmeasurable(Exception):
    """A figure can't be had; the message says why. What else there is to measure goes on."""


class Missing(Unmeasurable):
    """Something can't be made or fetched on this machine."""


@cache
def program(name: str) -> Path:
    """The C program of that name, compiled. Raises Missing."""
    source = HERE / f"{name}.c"
    made = FOLDER / f"{name}-{_digest(source)}"
    if made.exists():
        return made
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise Missing(f"no C compiler, and {name}.c needs one (Debian: apt-get install gcc libc6-dev)")
    FOLDER.mkdir(exist_ok=True)
    done = subprocess.run([compiler, "-O2", "-o", made, source], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Missing(f"{name}.c can't be compiled: {done.stderr.strip()[-300:]}")
    return made


def install() -> None:
    """Has the peers that the project itself doesn't need put into PACKAGES, each of a known hash. Raises Missing."""
    if has_packages():
        return
    shutil.rmtree(PACKAGES, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--require-hashes", "--target", str(PACKAGES), "--requirement", str(REQUIREMENTS)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        raise Missing(f"what bench/{REQUIREMENTS.name} names can't be installed, so it is left out")
    _stamp().touch()


def has_packages() -> bool:
    return _stamp().exists()


def _stamp() -> Path:
    """Tells that what stands beside it is complete, and is what is wanted now."""
    return PACKAGES / f"{_digest(REQUIREMENTS)}.installed"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
