"""The lanes of `dev.py test`: calls of pytest, one after the other."""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import TYPE_CHECKING, NamedTuple

from tools.environment import PYTHON, say

if TYPE_CHECKING:
    from collections.abc import Mapping


class Lane(NamedTuple):
    """One call of pytest. `shared`: by several processes at once."""

    options: tuple[str, ...]
    shared: bool = False


# The lanes of `test`, one after the other.
DEFAULT_LANES = (
    Lane(("-m", "not serial and not long and not model", "--ignore=tests/bench"), shared=True),
    Lane(("-m", "serial and not long and not model", "--ignore=tests/bench")),
)
# The lanes of `--rest`, not shared: storms use both cores by themselves, and the benchmark measures.
REST_LANES = (Lane(("-m", "long and not model", "--ignore=tests/bench")), Lane(("tests/bench",)))
# The lane of `--model`, not shared: a model's server needs a core for itself.
MODEL_LANES = (Lane(("-m", "model", "--ignore=tests/bench")),)

LANES: Mapping[tuple[str, ...], tuple[Lane, ...]] = {
    (): DEFAULT_LANES,
    ("--rest",): REST_LANES,
    ("--all",): (*DEFAULT_LANES, *REST_LANES),
    ("--model",): MODEL_LANES,
}
"""By the options of `test`."""

# Processes that share the tests. One file's tests stay together, for the servers and browsers that they share; more
# processes than this would wait for the same few files.
MOST_AT_ONCE = 8


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
