"""Read what Linux reports about processes and cores, and give the benchmark a network namespace of its own."""

import ctypes
import fcntl
import os
import platform
import re
import resource
import socket
import sqlite3
import struct
import time
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

# The places of idle time and of waits for a disk in a line of /proc/stat.
_IDLE = (3, 4)
_TICK = os.sysconf("SC_CLK_TCK")
_DESCRIPTORS = 65536
# A round counts as disturbed when other programs used more than this share of the two cores.
QUIET = 0.06
_CONGESTION_CONTROL = Path("/proc/sys/net/ipv4/tcp_congestion_control")
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000  # unshare(2)
_SET_FLAGS, _UP = 0x8914, 0x1  # netdevice(7)


def cores() -> tuple[int, int]:
    """One core for the server and one for the generator. They are the same where there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, dead threads included, in ns resolution: the clock that clock_getcpuclockid(3) names."""
    return time.clock_gettime((~pid << 3) | 2)


def memory_kb(pid: int) -> int:
    """Anonymous memory: heaps and stacks. Mapped files are shared with other processes."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(rollup.split("Pss_Anon:", 1)[1].split()[0])


def settle(pid: int, *, longest: float = 30.0) -> None:
    """Wait until a process does next to nothing: it has imported, accepted and collected."""
    deadline = time.monotonic() + longest
    while time.monotonic() < deadline:
        before = cpu_seconds(pid)
        time.sleep(0.3)
        if cpu_seconds(pid) - before < 0.006 and not _is_held_up(pid):
            return


def _is_held_up(pid: int) -> bool:
    """Whether a thread is ready to run, or waits for a disk: other programs may keep it from working."""
    stats = (folder / "stat" for folder in Path(f"/proc/{pid}/task").iterdir())
    return any(stat.read_text().rpartition(")")[2].split()[0] in "RD" for stat in stats)


def with_noise(measure: Callable[[], T], *pids: int) -> tuple[T, float]:
    """The result, and the share of the two cores' time that other programs than these used meanwhile."""
    began, before = time.monotonic(), _others_seconds(pids)
    result = measure()
    passed = (time.monotonic() - began) * len(set(cores()))
    return result, max(0.0, _others_seconds(pids) - before) / passed


def _others_seconds(pids: tuple[int, ...]) -> float:
    """Busy seconds of the two cores without those of the measured processes."""
    stat = Path("/proc/stat").read_text()
    lines = [re.findall(rf"^cpu{core} (.*)$", stat, re.MULTILINE)[0] for core in set(cores())]
    ticks = [int(figure) for line in lines for at, figure in enumerate(line.split()[:8]) if at not in _IDLE]
    return sum(ticks) / _TICK - sum(map(cpu_seconds, pids))


def least_disturbed(measure: Callable[[], T], *pids: int, enough: int = 2, most: int = 5) -> tuple[T, float]:
    """The result of the round in which other programs used the cores least, and the share that they used.

    Rounds are repeated until `enough` were quiet, or `most` are done.
    """
    done: list[tuple[T, float]] = []
    while len(done) < most and sum(noise <= QUIET for _, noise in done) < enough:
        done.append(with_noise(measure, *pids))
    return min(done, key=itemgetter(1))


def description() -> str:
    """The machine, without its name or its owner."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    processor = ", ".join([platform.machine(), *([model[1].strip()] if model else [])])
    kernel = ".".join(platform.release().split(".")[:2])
    python, sqlite = platform.python_version(), sqlite3.sqlite_version
    return f"{os.cpu_count()} cores ({processor}), Linux {kernel}, Python {python}, SQLite {sqlite}"


def raise_descriptor_limit() -> None:
    """As far as this user may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, max(hard, _DESCRIPTORS)))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def enter_own_network() -> str:
    """Move this process into a network namespace of its own. Returns what was not possible, if anything.

    In it nobody else's packets are counted, all ports are free, and congestion control is `reno`: one that paces
    (`bbr`, a common default) makes small writes on loopback wait for its timer.
    """
    system, user = ctypes.CDLL(None), os.getuid()
    if system.unshare(_NEW_NETWORK) != 0:
        if system.unshare(_NEW_USER | _NEW_NETWORK) != 0:  # where any user may have one
            return f"no network namespace can be made; TCP uses {_CONGESTION_CONTROL.read_text().strip()}"
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:  # as `ip link set lo up` does it
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sH14x", b"lo", _UP))
    try:
        _CONGESTION_CONTROL.write_text("reno")
    except OSError:
        return f"congestion control can't be set: TCP uses {_CONGESTION_CONTROL.read_text().strip()}"
    return ""
