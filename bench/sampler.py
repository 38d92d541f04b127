"""Where the server's time goes: py-spy looks at the running process many times a second, from outside."""

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from bench import builds

LOOKS_A_SECOND = 250
# Part of a source file's path, and whose time it is. The first that fits.
ROOMS: Mapping[str, str] = {
    "/bench/": "the benchmark's own part: publishing on command",
    "/server/bus/": "bus: who is due, and when",
    "/transports/": "transports: frames, and handing them to the connections",
    "/server/protocols": "connections: our part of uvicorn's protocols",
    "/server/journal/": "journal: hand-over to its thread, SQLite",
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


def sampled(pid: int, seconds: float, work: Callable[[], object]) -> dict[str, float]:
    """The share of each room, in percent, while `work` is done again and again. Raises Unmeasurable."""
    program = builds.PACKAGES / "bin" / "py-spy"
    if not program.exists():
        raise builds.Missing("py-spy, which bench/requirements.txt names, is not there")
    with tempfile.TemporaryDirectory(prefix="askstream-bench-") as folder:
        path = Path(folder, "stacks")
        command = [program, "record", "--pid", str(pid), "--duration", str(round(seconds + 0.5))]
        command += ["--rate", str(LOOKS_A_SECOND), "--format", "raw", "--full-filenames", "--output", path]
        looking = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            while looking.poll() is None:
                work()
        finally:
            looking.kill()
            _, complaint = looking.communicate()
        if looking.returncode or not path.exists():
            raise builds.Unmeasurable(f"py-spy can't look at the server: {complaint.strip()[-200:]}")
        return shares(path.read_text().splitlines())


def shares(stacks: Iterable[str]) -> dict[str, float]:
    """In percent, of lines "outermost;...;innermost count"."""
    counts: Counter[str] = Counter()
    for stack in stacks:
        frames, _, count = stack.rpartition(" ")
        counts[room(frames)] += int(count)
    total = counts.total()
    return {name: 100 * count / total for name, count in counts.most_common()}


def room(stack: str) -> str:
    """Of the innermost frame that is in a room: what the standard library does is done for who called it."""
    for path in reversed(_FRAME.findall(stack)):
        for part, name in ROOMS.items():
            if part in path:
                return name
    return OTHER
