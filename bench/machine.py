"""What processes and cores did, as Linux tells it; and a network of our own for the packets between them."""

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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_TICK = os.sysconf("SC_CLK_TCK")
_INSIDE = "ASKSTREAM_BENCH_NETWORK"
DESCRIPTORS = 65536
# A run counts as disturbed when others took more than this share of the two cores.
QUIET = 0.06
ENOUGH, MOST_RUNS = 2, 5
_CONGESTION_CONTROL = Path("/proc/sys/net/ipv4/tcp_congestion_control")


def cores() -> tuple[int, int]:
    """One core for the server and one for the generator: the same where there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, dead threads included, in ns resolution: the clock that clock_getcpuclockid(3) names."""
    return time.clock_gettime((~pid << 3) | 2)


def system_seconds(pid: int) -> float:
    """The part of it that the kernel took for the process's system calls, in steps of a tick."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(after_name[12]) / _TICK


def threads(pid: int) -> dict[int, float]:
    """CPU seconds of each thread, in steps of a tick."""
    found: dict[int, float] = {}
    for path in Path(f"/proc/{pid}/task").iterdir():
        after_name = (path / "stat").read_text().rpartition(")")[2].split()
        found[int(path.name)] = (int(after_name[11]) + int(after_name[12])) / _TICK
    return found


def memory_kb(pid: int) -> int:
    """Anonymous memory: heaps and stacks. Files that are mapped belong to everybody who maps them."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(rollup.split("Pss_Anon:", 1)[1].split()[0])


def writes(pid: int) -> int:
    """write and writev calls so far; send is not among them."""
    return int(Path(f"/proc/{pid}/io").read_text().split("syscw:", 1)[1].split()[0])


def settle(pid: int, *, longest: float = 30.0) -> None:
    """Waits until a process does next to nothing for a moment, nor wants to: it has imported, accepted, collected."""
    deadline = time.monotonic() + longest
    while time.monotonic() < deadline:
        before = cpu_seconds(pid)
        time.sleep(0.3)
        if cpu_seconds(pid) - before < 0.006 and not _wants_more(pid):
            return


def _wants_more(pid: int) -> bool:
    """Whether a thread could go on at once, or waits for a disk: what others keep from working isn't at rest."""
    stats = ((path / "stat").read_text() for path in Path(f"/proc/{pid}/task").iterdir())
    return any(stat.rpartition(")")[2].split()[0] in "RD" for stat in stats)


@dataclass(frozen=True, slots=True)
class Load:
    """Busy seconds of the two cores, and those of the two processes that are to have them for themselves."""

    at: float
    busy: float
    own: float

    def others_since(self, before: "Load") -> float:
        """The share of the cores' time that anything else took."""
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


def least_disturbed(run: Callable[[], T], pids: Sequence[int]) -> T:
    """What `run` gave when programs other than these took least of the cores: of ENOUGH runs that were hardly
    disturbed, or of MOST_RUNS. For what takes milliseconds, and shows if anything else wants the core for as many."""
    done: list[tuple[float, T]] = []
    while len(done) < MOST_RUNS and sum(noise <= QUIET for noise, _ in done) < ENOUGH:
        before = load(*pids)
        given = run()
        done.append((load(*pids).others_since(before), given))
    return min(done, key=itemgetter(0))[1]


def description() -> str:
    """The machine in words that tell nothing of whose it is."""
    kernel = ".".join(platform.release().split(".")[:2])
    return (
        f"{os.cpu_count()} cores ({_processor()}), Linux {kernel}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}"
    )


def _processor() -> str:
    """What it calls itself, where it does."""
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return f"{platform.machine()}, {found[1].strip()}" if found else platform.machine()


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
    """Starts this program anew in a network namespace of its own; what can't be had there, or None.

    In it nobody else's packets are counted, all ports are free, and congestion control is `reno`: one that paces
    (`bbr`, a common default) makes small writes on loopback wait for its timer.
    """
    if in_own_network():
        return _furnish()
    for flags in (["-n"], ["-r", "-n"]):
        command = ["unshare", *flags, "--"]
        if (
            shutil.which("unshare")
            and subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
        ):
            sys.stdout.flush()
            os.environ[_INSIDE] = "1"
            os.execvp("unshare", [*command, sys.executable, "-m", "bench", *sys.argv[1:]])
    return f"no network of its own can be had here: loopback is shared, congestion control is {_control()}"


def _furnish() -> str | None:
    _loopback_up()
    try:
        _CONGESTION_CONTROL.write_text("reno")
    except OSError:
        return f"congestion control can't be set here: it is {_control()}"
    return None


def _control() -> str:
    return _CONGESTION_CONTROL.read_text().strip()


def _loopback_up() -> None:
    """`ip link set lo up`, which not every machine has."""
    up, get_flags, set_flags = 0x1, 0x8913, 0x8914  # IFF_UP, SIOCGIFFLAGS, SIOCSIFFLAGS
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(any_socket, get_flags, request))[1]
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sH14x", b"lo", flags | up))
