#!/usr/bin/env python3
"""The one task runner, for people and CI alike. It needs Python 3.11 or newer and pip, and nothing else.

    python3 dev.py run   [options of `askstream serve`]   sets up what serving needs, then serves
    python3 dev.py run   --with PACKAGE …                 the same, with a package that your team imports
    python3 dev.py test                                   sets up everything, a browser included, then tests
    python3 dev.py test  [options of pytest]              the same, of the tests that you name
    python3 dev.py test  --all | --rest                   everything, with coverage; or what `test` leaves out
    python3 dev.py check [--fix]                          formatting, lint, types, import rules
    python3 dev.py bench [options of the benchmark]       measures a real server on this machine
    python3 dev.py chaos [--seed N] [--minutes M]         storms over a real server; every run must come through
    python3 dev.py setup                                  sets up everything and runs nothing
    python3 dev.py lock  [options of `uv pip compile`]    writes the lock files anew (--upgrade, -P package)

`test` runs two lanes: one in a process for each core and one more, then the tests marked `serial`, whose outcome
depends on real time, one by one. `--rest` runs the tests that need minutes: those marked `long` (storms over real
servers in full) and the benchmark's own. `--all` runs everything and measures coverage. With options of pytest there
are no lanes: pytest gets them unchanged.

Set-up puts the locked packages into .venv beside this file. A stamp, written last, records what .venv holds:
while it matches, set-up costs a few milliseconds; an unfinished .venv, or one made for other locks or another
Python, is built anew. Packages come from wherever this machine's pip (or uv, where there is one) looks.
"""

from __future__ import annotations  # so that older Pythons read on to the error about their version

import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping
    from types import FrameType
    from typing import NoReturn

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "askstream.stamp"
ADDED = VENV / "askstream.added"

Profile = Literal["run", "dev"]
"""What .venv is made for: serving only, or developing as well, which includes serving."""

LOCKS: Mapping[Profile, Path] = {"run": ROOT / "requirements.lock", "dev": ROOT / "requirements-dev.lock"}

BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)

# Playwright's downloads, below the home folder: one folder a version.
PLAYWRIGHT_BROWSERS = (
    ".cache/ms-playwright/chromium-*/chrome-linux*/chrome",
    "Library/Caches/ms-playwright/chromium-*/chrome-mac*/*.app/Contents/MacOS/*",
)


class Lane(NamedTuple):
    """One call of pytest. `shared`: by several processes at once."""

    options: tuple[str, ...]
    shared: bool = False


# The lanes of `test`, one after the other.
DEFAULT_LANES = (
    Lane(("-m", "not serial and not long", "--ignore=tests/bench"), shared=True),
    Lane(("-m", "serial and not long", "--ignore=tests/bench")),
)
# The lanes of `--rest`, not shared: storms use both cores by themselves, and the benchmark measures.
REST_LANES = (Lane(("-m", "long", "--ignore=tests/bench")), Lane(("tests/bench",)))
# Processes that share the tests. One file's tests stay together, for the servers and browsers that they share; more
# processes than this would wait for the same few files.
MOST_AT_ONCE = 8

# Variables that would make pip install elsewhere than into .venv, or count packages elsewhere as installed.
MISLEADING = ("PYTHONHOME", "PYTHONPATH", "PIP_PREFIX", "PIP_TARGET", "PIP_USER", "PIP_PYTHON", "VIRTUAL_ENV")

# Errors only. Compiling would cost a third of pip's time, for files of which most are never imported.
PIP_INSTALL = ("install", "-qq", "--no-compile")


class TaskError(Exception):
    """A task can't be done; the message has what was tried and what to do."""


def say(text: str) -> None:
    print(f"dev.py: {text}", file=sys.stderr, flush=True)


# ---- set-up ------------------------------------------------------------------------------------------------


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


# ---- browser -----------------------------------------------------------------------------------------------


def find_browser() -> str | None:
    """Return the path of a Chromium or Chrome that starts. ASKSTREAM_BROWSER names the only one to consider."""
    named = os.environ.get("ASKSTREAM_BROWSER")
    for name in (named,) if named else browser_names():
        path = shutil.which(name)
        if path and starts(path):
            return path
    return None


def browser_names() -> Iterator[str]:
    yield from BROWSERS
    for pattern in PLAYWRIGHT_BROWSERS:
        yield from map(str, sorted(Path.home().glob(pattern), reverse=True))


def starts(program: str) -> bool:
    """Whether it runs at all: it may lack its libraries, or be a stub that asks to be installed."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def set_up_browser() -> str | None:
    """Find a browser, or install one if possible. Report what was tried if there is none."""
    if path := find_browser():
        return path
    for command in browser_installers():
        say(f"no browser found; trying: {shlex.join(command)}")
        done = subprocess.run(
            command,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode == 0 and (path := find_browser()):
            return path
        say(f"that failed: {complaint(done.stdout)}")
    say("no Chromium or Chrome starts here. Install one, or name it: ASKSTREAM_BROWSER=/path")
    return None


def browser_installers() -> Iterator[list[str]]:
    """Yield commands that install one: as root on Debian its package, which brings its libraries; then a download."""
    if os.environ.get("ASKSTREAM_BROWSER"):
        return  # no other is wanted
    if shutil.which("apt-get") and os.geteuid() == 0:
        install = "apt-get -qq install -y --no-install-recommends chromium fonts-liberation"
        yield ["sh", "-c", f"apt-get -qq update && {install}"]
    yield [str(PYTHON), "-m", "playwright", "install", "chromium"]


def complaint(output: str) -> str:
    """Return the first line that looks like the reason, of the many that installers print."""
    lines = output.splitlines() or ["no output"]
    return next((line for line in lines if line.startswith(("E:", "Error"))), lines[-1])


# ---- tasks -------------------------------------------------------------------------------------------------


def run(arguments: list[str]) -> NoReturn:
    packages, arguments = split_packages(arguments)
    set_up("run")
    add(packages)
    # The folder stays the caller's, since options may name files in it.
    become(str(VENV / "bin" / "askstream"), "serve", *arguments)


def split_packages(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return the packages of all `--with PACKAGE` and `--with=PACKAGE`, and the other arguments."""
    packages: list[str] = []
    others: list[str] = []
    left = iter(arguments)
    for argument in left:
        name, equals, value = argument.partition("=")
        if name != "--with":
            others.append(argument)
            continue
        packages.append(value if equals else next(left, ""))
        if not packages[-1]:
            raise TaskError("--with needs the name of a package, such as --with pandas")
    return packages, others


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


def test(arguments: list[str]) -> int:
    set_up("dev")
    choose_browser()
    os.chdir(ROOT)
    chosen: dict[tuple[str, ...], tuple[Lane, ...]]
    chosen = {(): DEFAULT_LANES, ("--rest",): REST_LANES, ("--all",): (*DEFAULT_LANES, *REST_LANES)}
    lanes = chosen.get(tuple(arguments))
    if lanes is None:
        become("-m", "pytest", *arguments)
    return run_lanes(lanes, coverage=arguments == ["--all"])


def choose_browser() -> None:
    """Name the browser for the tests, so that they needn't look for one again."""
    browser = set_up_browser()
    if browser:
        os.environ["ASKSTREAM_BROWSER"] = browser
    elif os.environ.get("ASKSTREAM_REQUIRE_BROWSER"):
        raise TaskError("ASKSTREAM_REQUIRE_BROWSER is set, and there is no browser")


def run_lanes(lanes: tuple[Lane, ...], *, coverage: bool = False) -> int:
    """Run every lane, also after one has failed; non-zero when any has."""
    failed: list[str] = []
    for number, lane in enumerate(lanes):
        command = ["-m", "pytest", *lane.options, *shared_options(lane)]
        command += coverage_options(number, len(lanes)) if coverage else []
        if subprocess.run([PYTHON, *command], check=False).returncode:
            failed.append(shlex.join(command))
    for command in failed:
        say(f"failed: {command}")
    return 1 if failed else 0


def shared_options(lane: Lane) -> list[str]:
    """Start one process more than there are cores for a shared lane: tests of servers wait for a part of their time.
    On two cores three processes need four fifths of the time of two."""
    processes = min(cores() + 1, MOST_AT_ONCE)
    return ["-n", str(processes), "--dist", "loadfile"] if lane.shared and cores() > 1 else []


def cores() -> int:
    """Count those that this process may use, if the system reports that."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def coverage_options(number: int, lanes: int) -> list[str]:
    """Let each lane add to the coverage of those before it, and the last one report."""
    report = "term-missing:skip-covered" if number == lanes - 1 else ""
    return ["--cov", f"--cov-report={report}", *(["--cov-append"] if number else [])]


def bench(arguments: list[str]) -> NoReturn:
    set_up("dev")
    os.chdir(ROOT)
    become("-m", "bench", *arguments)


def chaos(arguments: list[str]) -> NoReturn:
    set_up("dev")
    os.chdir(ROOT)
    become("-m", "tests.chaos", *arguments)


def become(*arguments: str) -> NoReturn:
    """Replace this process: signals reach the program, and its exit code the caller, with nothing between."""
    sys.stdout.flush()
    os.execv(PYTHON, [str(PYTHON), *arguments])


def setup(arguments: list[str]) -> int:
    expect_none(arguments)
    set_up("dev")
    set_up_browser()
    return 0


def check(arguments: list[str]) -> int:
    """Run every checker, also after one has failed; non-zero when any has."""
    fix = arguments == ["--fix"]
    expect_none([] if fix else arguments)
    set_up("dev")
    checkers = (
        ("-m", "ruff", "check", *(["--fix"] if fix else [])),
        ("-m", "ruff", "format", *([] if fix else ["--check"])),
        ("-m", "pyright"),
        (str(VENV / "bin" / "lint-imports"), "--no-cache", "--no-logo"),
    )
    # pyright's wrapper would otherwise ask the network for its newest version.
    environment = {**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    failed = [
        checker
        for checker in checkers
        if subprocess.run([PYTHON, *checker], cwd=ROOT, env=environment, check=False).returncode
    ]
    for checker in failed:
        say(f"failed: {shlex.join(checker)}")
    return 1 if failed else 0


def lock(arguments: list[str]) -> int:
    """Resolve for every supported Python and system at once; the files name no index, address or path."""
    if not PYTHON.exists():
        create_venv()  # an installer needs one to work on
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        uv = shutil.which("uv")
        if not uv:
            install("--target", folder, "uv")
            uv = str(Path(folder, "bin", "uv"))
        write_lock(uv, LOCKS["run"], "--group", "build", *arguments)
        write_lock(uv, LOCKS["dev"], "--group", "dev", "--constraints", LOCKS["run"].name, *arguments)
    return 0


def write_lock(uv: str, path: Path, *arguments: str) -> None:
    options = ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-header", "--no-annotate"]
    command = [uv, "pip", "compile", "--no-config", "--quiet", *options, *arguments]
    done = subprocess.run([*command, "--output-file", path.name, "pyproject.toml"], cwd=ROOT, check=False)
    if done.returncode:
        raise TaskError(f"could not write {path.name}; the reason is above")


def expect_none(arguments: list[str]) -> None:
    if arguments:
        raise TaskError(f"unexpected: {shlex.join(arguments)}\n\n{__doc__}")


TASKS: Mapping[str, Callable[[list[str]], int]] = {
    "run": run,
    "test": test,
    "check": check,
    "bench": bench,
    "chaos": chaos,
    "setup": setup,
    "lock": lock,
}


def end(_signal: int, _frame: FrameType | None) -> NoReturn:
    """End by an exception, so that a program which was started here ends as well."""
    sys.exit(143)


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(__doc__)
        return 0
    name, *rest = arguments
    if name not in TASKS:
        say(f"no task {name!r}; there are: {', '.join(TASKS)}")
        return 2
    signal.signal(signal.SIGTERM, end)
    try:
        return TASKS[name](rest)
    except (TaskError, OSError) as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    if sys.version_info < (3, 11):  # noqa: UP036  it's this check that refuses them
        sys.exit("dev.py: askstream needs Python 3.11 or newer; this is " + sys.version.split()[0])
    sys.exit(main(sys.argv[1:]))
