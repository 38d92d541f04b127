"""Where the server's time goes: py-spy looks at the running process many times a second, from outside."""

import re
import subprocess
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from bench import builds, machine

LOOKS_A_SECOND = 250
# Part of a source file's path, and whose time it is. The first that fits.
ROOMS: Mapping[str, str] = {
    "/bench/": "the benchmark's own part: publishing on command",
    "/server/bus/": "bus: who is due, and when",
    "/transports/": "transports: frames, and handing them to the connections",
    "/server/protocols": "connections: our part of uvicorn's protocols",
    "/server/journal/": "journal: groups of appends, SQLite",
    "/server/runs/": "the run's writer",
    "/server/events/": "events: encoding",
    "/server/": "server: the rest of it",
    "/agents/": "agents",
    "/autogen_": "AutoGen",
    "/uvicorn/": "uvicorn",
    "/websockets/": "websockets",
    "/starlette/": "Starlette",
    "/logging/": "the log",
    "/asyncio/": "event loop and asyncio",
}
OTHER = "other"
_FRAME = re.compile(r"\((/[^()]*?):\d+\)")
_THREAD = re.compile(r"thread \((\d+)\)")


def sampled(pid: int, seconds: float, work: Callable[[], object]) -> dict[str, float]:
    """The share of each room, in percent, while `work` is done again and again. Raises Unmeasurable."""
    program = builds.PACKAGES / "bin" / "py-spy"
    if not program.exists():
        raise builds.Missing("py-spy, which bench/requirements.txt names, is not there")
    with tempfile.TemporaryDirectory(prefix="askstream-bench-") as folder:
        path = Path(folder, "stacks")
        command = [program, "record", "--pid", str(pid), "--duration", str(round(seconds + 0.5))]
        command += ["--rate", str(LOOKS_A_SECOND), "--format", "raw", "--threads", "--full-filenames", "--output", path]
        before = machine.threads(pid)
        looking = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            while looking.poll() is None:
                work()
        finally:
            looking.kill()
            _, complaint = looking.communicate()
        if looking.returncode or not path.exists():
            raise builds.Unmeasurable(f"py-spy can't look at the server: {complaint.strip()[-200:]}")
        spent = {thread: seconds - before.get(thread, 0.0) for thread, seconds in machine.threads(pid).items()}
        return shares(path.read_text().splitlines(), spent)


def shares(stacks: Iterable[str], spent: Mapping[int, float]) -> dict[str, float]:
    """In percent, of lines "thread (id): name;outermost;...;innermost count" and the CPU seconds of each thread.

    A thread that waits for a lock looks busy to py-spy, so that its samples count as much as the time that it took.
    """
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    for stack in stacks:
        frames, _, count = stack.rpartition(" ")
        if found := _THREAD.match(frames):
            counts[int(found[1])][room(frames)] += int(count)
    seconds: dict[str, float] = defaultdict(float)
    for thread, rooms in counts.items():
        for name, count in rooms.items():
            seconds[name] += spent.get(thread, 0.0) * count / rooms.total()
    total = sum(seconds.values()) or 1.0
    return {name: 100 * share / total for name, share in seconds.items()}


def room(stack: str) -> str:
    """Of the innermost frame that is in a room: what the standard library does is done for who called it."""
    for path in reversed(_FRAME.findall(stack)):
        for part, name in ROOMS.items():
            if part in path:
                return name
    return OTHER
