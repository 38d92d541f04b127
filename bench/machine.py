"""The machine: the benchmark's programs and packages, made on first use; a network namespace of its own; and what Linux
reports about processes and cores."""

import ctypes
import fcntl
import hashlib
import logging
import os
import platform
import re
import resource
import shutil
import socket
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements.txt"
# A new virtual environment doesn't have it yet.
FOLDER = Path(sys.prefix) / "bench"

_TICK = os.sysconf("SC_CLK_TCK")
# A round counts as disturbed when other programs used more than this share of the two cores.
QUIET = 0.06
_CONGESTION_CONTROL = Path("/proc/sys/net/ipv4/tcp_congestion_control")
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000  # unshare(2)
_SET_FLAGS, _UP = 0x8914, 0x1  # netdevice(7)


def cores() -> tuple[int, int]:
    """Return a core for the server and one for the generator. They are the same if there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, dead threads included, in ns resolution: clock_getcpuclockid(3)'s clock."""
    return time.clock_gettime((~pid << 3) | 2)


def memory_kb(pid: int) -> int:
    """Return anonymous memory: heaps and stacks. Mapped files are shared with other processes."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(rollup.split("Pss_Anon:", 1)[1].split()[0])


def settle(pid: int, *, longest: float = 30.0) -> None:
    """Wait until a process is nearly idle: it has imported, accepted and collected garbage."""
    deadline = time.monotonic() + longest
    while time.monotonic() < deadline:
        before = cpu_seconds(pid)
        time.sleep(0.3)
        stats = [stat.read_text().rpartition(")")[2].split() for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
        # A thread that is ready to run, or waits for a disk, is only held up by other programs.
        if cpu_seconds(pid) - before < 0.006 and all(stat[0] not in "RD" for stat in stats):
            return


def with_noise(measure: Callable[[], T], *pids: int) -> tuple[T, float]:
    """Return the result, and the share of the two cores' time that other programs used meanwhile."""
    began, before = time.monotonic(), _others_seconds(pids)
    result = measure()
    passed = (time.monotonic() - began) * len(set(cores()))
    return result, max(0.0, _others_seconds(pids) - before) / passed


def _others_seconds(pids: tuple[int, ...]) -> float:
    """Return the busy seconds of the two cores without those of the measured processes."""
    ticks = 0
    for core in set(cores()):
        figures = re.findall(rf"^cpu{core} (.*)$", Path("/proc/stat").read_text(), re.MULTILINE)[0].split()[:8]
        user, nice, system, _idle, _disk, *interrupts = map(int, figures)
        ticks += user + nice + system + sum(interrupts)
    return ticks / _TICK - sum(map(cpu_seconds, pids))


def least_disturbed(measure: Callable[[], T], *pids: int, enough: int = 2, most: int = 5) -> tuple[T, float]:
    """Return the result of the round in which other programs used the cores least, and their share.

    Rounds are repeated until `enough` were quiet, or `most` are done.
    """
    done: list[tuple[T, float]] = []
    while len(done) < most and sum(noise <= QUIET for _, noise in done) < enough:
        done.append(with_noise(measure, *pids))
    return min(done, key=itemgetter(1))


def description() -> str:
    """Describe the machine, without its name or its owner."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    processor = f"{platform.machine()}, {model[1].strip()}" if model else platform.machine()
    kernel = ".".join(platform.release().split(".")[:2])
    python = platform.python_version()
    return f"{os.cpu_count()} cores ({processor}), Linux {kernel}, Python {python}, SQLite {sqlite3.sqlite_version}"


def prepare() -> str:
    """Allow as many descriptors as possible, and enter a network namespace. Return what failed, else ''.

    There all ports are free, no other program's packets count, and congestion control is `reno`: `bbr`, a common
    default, paces, so that small writes on loopback wait for its timer.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    system, user = ctypes.CDLL(None), os.getuid()
    if system.unshare(_NEW_NETWORK) != 0:
        if system.unshare(_NEW_USER | _NEW_NETWORK) != 0:  # if any user may have one
            return f"no network namespace can be made; TCP uses {_CONGESTION_CONTROL.read_text().strip()}"
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:  # as `ip link set lo up` does it
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sH14x", b"lo", _UP))
    try:
        _CONGESTION_CONTROL.write_text("reno")
    except OSError:
        return f"congestion control can't be set: TCP uses {_CONGESTION_CONTROL.read_text().strip()}"
    return ""


class Unmeasurable(Exception):
    """There is no figure; the message says why. The other measurements go on."""


def say(text: str) -> None:
    if text:
        print(f"bench: {text}", file=sys.stderr, flush=True)


def attempt(do: Callable[[], object]) -> str:
    """Do it. Return the reason of a failure, else ''. Log an unexpected one."""
    try:
        do()
    except Unmeasurable as problem:
        return str(problem)
    except Exception as problem:
        logging.getLogger(__name__).exception("unexpected")
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
