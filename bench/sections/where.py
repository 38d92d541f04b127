"""Where the server's time goes, in the cases that matter."""

from collections.abc import Callable, Iterator, Mapping

from bench import builds, fanout, machine, sampler, servers
from bench.contenders import say
from bench.events import PARTS
from bench.generator import Viewers, watching
from bench.report import Row, Table
from bench.sampler import ROOMS
from bench.scale import Scale
from bench.servers import Server

# Shares below that are noise, and are told together.
LEAST = 1.0


def where(scale: Scale) -> Iterator[Table]:
    """A row for each room; a column for each case: server, viewers, runs, and what is done meanwhile."""
    cases: Mapping[str, tuple[Server, int, int, Callable[[Viewers], object]]] = {
        "SSE, 100 viewers": (servers.ours("sse"), 100, 1, _rush),
        "SSE, 1,000": (servers.ours("sse"), 1000, 1, _rush),
        "SSE, 100, one in flight": (servers.ours("sse"), 100, 1, _single),
        "WebSocket, 100": (servers.ours("websocket"), 100, 1, _rush),
        "SSE, 1,000 runs": (servers.ours("sse"), 1000, 1000, _turns),
    }
    table = Table("Where the server's time goes", "Percent of its samples, by py-spy", better="")
    found: dict[str, dict[str, float]] = {}
    for case, (server, count, runs, work) in cases.items():
        say(f"where the time goes: {case}")
        try:
            found[case] = _sampled(server, count, runs, work, scale.profile_seconds)
        except builds.Unmeasurable as problem:
            table.notes.append(f"{case}: {problem}.")
    for room in dict.fromkeys([*ROOMS.values(), sampler.OTHER]):
        shares = {case: rooms.get(room, 0.0) for case, rooms in found.items()}
        if max(shares.values(), default=0.0) >= LEAST:
            table.rows.append(Row(room, shares, 0))
    table.notes.append("System calls count as their caller's; the kernel's part is told of the fan-out as well.")
    yield table


def _sampled(
    server: Server, count: int, runs: int, work: Callable[[Viewers], object], seconds: float
) -> dict[str, float]:
    with servers.running(server) as process:
        how = server.prepare(process.port, runs)
        first = fanout.warm_up(process, how, runs)
        with watching(process, how, count, first=first) as viewers:
            machine.settle(process.pid)
            return sampler.sampled(process.pid, seconds, lambda: work(viewers))


def _rush(viewers: Viewers) -> None:
    viewers.rush(256)


def _single(viewers: Viewers) -> None:
    viewers.rush(256, window=1)


def _turns(viewers: Viewers) -> None:
    viewers.pace(10, rate=10, parts=PARTS)
