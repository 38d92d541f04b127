"""Make what the benchmark needs beside the project's own packages, on first use, inside the virtual environment."""

import hashlib
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
# A new virtual environment begins without it.
FOLDER = Path(sys.prefix) / "bench"
PACKAGES = FOLDER / "packages"
REQUIREMENTS = HERE / "requirements.txt"


class Unmeasurable(Exception):
    """There is no figure; the message says why. The other measurements go on."""


@cache
def program(name: str) -> Path:
    """The C program of that name, compiled. Raises Unmeasurable."""
    source = HERE / f"{name}.c"
    made = FOLDER / f"{name}-{_digest(source)}"
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
    """Install the peers that aren't packages of the project into PACKAGES, by their hashes. Raises Unmeasurable."""
    if has_packages():
        return
    shutil.rmtree(PACKAGES, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--require-hashes", "--target", str(PACKAGES), "--requirement", str(REQUIREMENTS)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        raise Unmeasurable(f"the packages of bench/{REQUIREMENTS.name} can't be installed, so they are left out")
    _stamp().touch()


def has_packages() -> bool:
    return _stamp().exists()


def _stamp() -> Path:
    """This file exists when the folder is complete, and is what REQUIREMENTS names now."""
    return PACKAGES / f"{_digest(REQUIREMENTS)}.installed"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
