#!/usr/bin/env python3
"""The one task runner, for people and CI alike. It needs Python 3.11 or newer and pip, and nothing else.

    python3 dev.py run   [options of `askstream serve`]   sets up what serving needs, then serves
    python3 dev.py run   --with PACKAGE …                 the same, with a package that your team imports
    python3 dev.py test                                   sets up everything, a browser included, then tests
    python3 dev.py test  [options of pytest]              the same, of the tests that you name
    python3 dev.py test  --all | --rest                   both, with coverage; or what `test` leaves out
    python3 dev.py test  --model                          real runs of a small model, which this installs (230 MB)
    python3 dev.py check [--fix]                          formatting, lint, types, import rules
    python3 dev.py bench [options of the benchmark]       measures a real server on this machine
    python3 dev.py chaos [--seed N] [--minutes M]         storms over a real server; every run must come through
    python3 dev.py setup                                  sets up everything and runs nothing
    python3 dev.py lock  [options of `uv pip compile`]    writes the lock files anew (--upgrade, -P package)

`test` runs two lanes: one in a process for each core and one more, then the tests marked `serial`, whose outcome
depends on real time, one by one. `--rest` runs the tests that need minutes: those marked `long` (storms over real
servers in full) and the benchmark's own. `--all` runs both, and measures coverage. `--model` runs the tests marked
`model`, which no other lane has. With options of pytest there are no lanes: pytest gets them unchanged.

Set-up puts the locked packages into .venv beside this file. A stamp, written last, records what .venv holds:
while it matches, set-up costs a few milliseconds; an unfinished .venv, or one made for other locks or another
Python, is built anew. Packages come from wherever this machine's pip (or uv, where there is one) looks.
"""

from __future__ import annotations  # so that older Pythons read on to the error about their version

import os
import shlex
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from tools.browser import set_up_browser
from tools.environment import PYTHON, ROOT, VENV, TaskError, add, add_model, say, set_up
from tools.lanes import LANES, run_lanes
from tools.locks import lock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType
    from typing import NoReturn


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


def test(arguments: list[str]) -> int:
    set_up("dev")
    add_model() if arguments == ["--model"] else choose_browser()
    os.chdir(ROOT)
    lanes = LANES.get(tuple(arguments))
    if lanes is None:
        become("-m", "pytest", *arguments)
    return run_lanes(lanes, coverage=arguments == ["--all"])


def choose_browser() -> None:
    """Name the browser for the tests, so that they needn't look for one again."""
    browser = set_up_browser()
    if browser:
        os.environ["TEST_BROWSER"] = browser
    elif os.environ.get("TEST_REQUIRE_BROWSER"):
        raise TaskError("TEST_REQUIRE_BROWSER is set, and there is no browser")


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
    sys.exit(main(sys.argv[1:]))
