"""What processes and cores did, as Linux reports it; and a network namespace for the packets between them."""

import fcntl
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
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_TICK = os.sysconf("SC_CLK_TCK")
_INSIDE = "ASKSTREAM_BENCH_NETWORK"
DESCRIPTORS = 65536
# A round counts as disturbed when other programs used more than this share of the two cores.
QUIET = 0.06
ENOUGH, MOST_ROUNDS = 2, 5
_CONGESTION_CONTROL = Path("/proc/sys/net/ipv4/tcp_congestion_control")


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
    return any(stat[0] in "RD" for stat in _stats(pid).values())


def threads(pid: int) -> dict[int, float]:
    """CPU seconds of each thread, in steps of a tick."""
    return {thread: sum(map(int, stat[11:13])) / _TICK for thread, stat in _stats(pid).items()}


def _stats(pid: int) -> dict[int, list[str]]:
    """For each thread what proc(5) says of it, from its state on."""
    folders = Path(f"/proc/{pid}/task").iterdir()
    return {int(folder.name): (folder / "stat").read_text().rpartition(")")[2].split() for folder in folders}


@dataclass(frozen=True, slots=True)
class Load:
    """Busy seconds of the two cores, and those of the measured processes."""

    at: float
    busy: float
    own: float

    def others_since(self, before: "Load") -> float:
        """The share of the cores' time that other programs used."""
        passed = (self.at - before.at) * len(set(cores()))
        return max(0.0, (self.busy - before.busy) - (self.own - before.own)) / passed


def load(*pids: int) -> Load:
    busy = 0.0
    names = {f"cpu{core}" for core in cores()}
    for line in Path("/proc/stat").read_text().splitlines():
        name, *figures = line.split()
        if name in names:
            user, nice, system, _, _, interrupts, soft, stolen = (int(figure) / _TICK for figure in figures[:8])
            busy += user + nice + system + interrupts + soft + stolen
    return Load(time.monotonic(), busy, sum(cpu_seconds(pid) for pid in pids))


def least_disturbed(measure: Callable[[], T], *pids: int) -> T:
    """The result of the round in which other programs used the cores least.

    Rounds are repeated until ENOUGH were quiet, or MOST_ROUNDS are done. For what lasts milliseconds.
    """
    done: list[tuple[float, T]] = []
    while len(done) < MOST_ROUNDS and sum(noise <= QUIET for noise, _ in done) < ENOUGH:
        before = load(*pids)
        result = measure()
        done.append((load(*pids).others_since(before), result))
    return min(done, key=itemgetter(0))[1]


def description() -> str:
    """The machine, without its name or its owner."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    processor = ", ".join([platform.machine(), *([model[1].strip()] if model else [])])
    kernel = ".".join(platform.release().split(".")[:2])
    python, sqlite = platform.python_version(), sqlite3.sqlite_version
    return f"{os.cpu_count()} cores ({processor}), Linux {kernel}, Python {python}, SQLite {sqlite}"


def raise_descriptor_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for most in (max(hard, DESCRIPTORS), hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, DESCRIPTORS), most))
        except (ValueError, OSError):
            continue
        return


def in_own_network() -> bool:
    return _INSIDE in os.environ


def enter_own_network() -> str | None:
    """Start this program again in a network namespace of its own. Returns what was not possible, or None.

    In it nobody else's packets are counted, all ports are free, and congestion control is `reno`: one that paces
    (`bbr`, a common default) makes small writes on loopback wait for its timer.
    """
    if in_own_network():
        return _set_up_network()
    if shutil.which("unshare"):
        for flags in (["-n"], ["-r", "-n"]):
            command = ["unshare", *flags, "--"]
            if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
                sys.stdout.flush()
                os.environ[_INSIDE] = "1"
                os.execvp("unshare", [*command, sys.executable, "-m", "bench", *sys.argv[1:]])
    return f"no network namespace can be made here: loopback is shared, congestion control is {_control()}"


def _set_up_network() -> str | None:
    _loopback_up()
    try:
        _CONGESTION_CONTROL.write_text("reno")
    except OSError:
        return f"congestion control can't be set here: it is {_control()}"
    return None


def _control() -> str:
    return _CONGESTION_CONTROL.read_text().strip()


def _loopback_up() -> None:
    """`ip link set lo up`, for machines without `ip`."""
    up, get_flags, set_flags = 0x1, 0x8913, 0x8914  # IFF_UP, SIOCGIFFLAGS, SIOCSIFFLAGS
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(any_socket, get_flags, request))[1]
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sH14x", b"lo", flags | up))
