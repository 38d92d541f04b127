"""Where the server's time goes: py-spy samples the running process from outside."""

import re
import subprocess
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from bench import build, fanout, machine, servers
from bench.build import Unmeasurable
from bench.events import PARTS
from bench.generator import Viewers, watching
from bench.report import Row, Table
from bench.servers import Server
from bench.suite import Scope, say

# Parts of a source file's path. A sample belongs to the first that matches its innermost frame with a match.
LAYERS = (
    *("bench", "server/bus", "server/scheduling.py", "server/connections", "server/journal", "server/runs"),
    *("server/events", "server", "transports", "agents", "uvicorn", "websockets", "starlette", "logging", "asyncio"),
)
OTHER = "other"
_FRAME = re.compile(r"\((/[^()]*?):\d+\)")
_THREAD = re.compile(r"thread \((\d+)\)")


def where(scope: Scope) -> Iterator[Table]:
    """A row for each layer; a column for each case: server, viewers, runs, and what is done meanwhile."""
    rush = partial(Viewers.rush, events=256)
    turns = partial(Viewers.pace, events=10, rate=10, parts=PARTS)
    cases: Mapping[str, tuple[Server, int, int, Callable[[Viewers], object]]] = {
        "SSE, 1,000 runs": (servers.ours("sse"), 1000, 1000, turns),
        "SSE, 100 viewers": (servers.ours("sse"), 100, 1, rush),
        "SSE, 100, one in flight": (servers.ours("sse"), 100, 1, partial(rush, window=1)),
        "plain WebSocket, 100": (servers.ours("websocket", plain=True), 100, 1, rush),
    }
    found: dict[str, Mapping[str, float]] = {}
    for case, (server, count, runs, work) in cases.items():
        say(f"where the time goes: {case}")
        found[case] = _profile(server, count, runs, work, 4 if scope.is_full else 2)
    table = Table("Where the server's time goes", "Percent of its samples, by py-spy", better="")
    for layer in (*LAYERS, OTHER):
        table.rows.append(Row(f"`{layer}`", {case: shared.get(layer, 0.0) for case, shared in found.items()}, 0))
    table.notes.append("A system call counts for the function that made it, the standard library for its caller.")
    yield table


def _profile(
    server: Server, count: int, runs: int, work: Callable[[Viewers], object], seconds: int
) -> Mapping[str, float]:
    program = build.PACKAGES / "bin" / "py-spy"
    if not program.exists():
        raise Unmeasurable(f"py-spy, which bench/{build.REQUIREMENTS.name} names, is not installed")
    with tempfile.TemporaryDirectory(prefix="askstream-bench-") as folder, servers.running(server) as process:
        how = server.prepare(process.port, runs)
        first = fanout.warm_up(process, how, runs)
        with watching(process, how, count, first=first) as viewers:
            machine.settle(process.pid)
            path = Path(folder, "stacks")
            command = [program, "record", "--pid", str(process.pid), "--duration", str(seconds), "--output", path]
            command += ["--rate", "250", "--format", "raw", "--full-filenames", "--threads"]
            before = machine.threads(process.pid)
            sampler = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            while sampler.poll() is None:
                work(viewers)
            _, complaint = sampler.communicate()
            if sampler.returncode or not path.exists():
                raise Unmeasurable(f"py-spy can't read the server's stacks: {complaint.strip()[-200:]}")
            spent = {thread: used - before.get(thread, 0) for thread, used in machine.threads(process.pid).items()}
            return shares(path.read_text().splitlines(), spent)


def shares(stacks: Iterable[str], spent: Mapping[int, float]) -> Mapping[str, float]:
    """In percent, of lines "thread (id): name;outermost;...;innermost count" and the CPU seconds of each thread.

    A thread that waits for a lock looks busy to py-spy, so its samples count as much as the time that it used.
    """
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    for stack in stacks:
        frames, _, count = stack.rpartition(" ")
        if found := _THREAD.match(frames):
            counts[int(found[1])][layer_of(frames)] += int(count)
    seconds: dict[str, float] = defaultdict(float)
    for thread, layers in counts.items():
        for name, count in layers.items():
            seconds[name] += spent.get(thread, 0.0) * count / layers.total()
    total = sum(seconds.values()) or 1.0
    return {name: 100 * share / total for name, share in seconds.items()}


def layer_of(stack: str) -> str:
    """The layer of the innermost frame that is in one."""
    for path in reversed(_FRAME.findall(stack)):
        for layer in LAYERS:
            if f"/{layer}" in path:
                return layer
    return OTHER
