"""One of 20 viewers stops reading."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from bench import build, machine
from bench.fanout import warm
from bench.generator import Seen, watching
from bench.goals import UNDISTURBED
from bench.report import Row, Table
from bench.servers import OURS, Server
from bench.suite import NOISY, TITLES, Scope, contenders, say

VIEWERS = 20


@dataclass(frozen=True, slots=True)
class Stall:
    """One of the viewers reads nothing during a rush. `rate` is the others' deliveries a second, `before` without it.

    Memory is what the server's grows by, in KB. Afterwards the viewer reads on. `lost` is the percentage of the events
    that it never gets, if it is neither closed nor gets a notice of what is missing.
    """

    rate: float
    before: float
    memory_kb: float
    lost: float
    noise: float


def stalled(scope: Scope) -> Iterator[Table]:
    title = f"One of {VIEWERS} viewers stops reading"
    rate = Table(f"{title}: deliveries a second to the others", "Share of what they got before", better="")
    memory = Table(f"{title}: the server's memory", "KB that it grows by")
    lost = Table(f"{title}: what it lost without a notice", "Percent of the events", better="")
    # A short run ends before the database has filled its cache, which is not the viewer's memory.
    events, seconds, goal = (60_000, 7, "stalled memory") if scope.is_full else (5_000, 3, "")
    for transport, those in contenders(scope).items():
        case = TITLES[transport]
        found = {server.name: _stall(server, events, seconds) for server in those}
        rate.notes += [NOISY for stall in found.values() if stall and stall.noise > machine.QUIET]
        if ours := found[OURS]:
            rate.rows.append(Row(f"{case}, a second", {OURS: ours.rate, UNDISTURBED: ours.before}, 0, "stalled", case))
        rate.rows.append(Row(f"{case}, share", _each(found, lambda stall: stall.rate / stall.before)))
        memory.rows.append(Row(case, _each(found, lambda stall: stall.memory_kb), 0, goal, case))
        lost.rows.append(Row(case, _each(found, lambda stall: stall.lost), 1, "stalled lost", case))
    yield from (rate, memory, lost)


def _stall(server: Server, events: int, seconds: float) -> Stall | None:
    say(f"{server.name}, {TITLES[server.transport]}, one of {VIEWERS} viewers stops reading for {events:,} events")
    found: list[Stall] = []
    if failure := build.attempt(lambda: found.append(stall(server, VIEWERS, events, seconds_before=seconds))):
        say(f"failed: {failure}")
    return found[0] if found else None


def _each(stalls: Mapping[str, Stall | None], take: Callable[[Stall], float]) -> Mapping[str, float | None]:
    return {name: take(stall) if stall else None for name, stall in stalls.items()}


def stall(server: Server, count: int, events: int, *, seconds_before: float) -> Stall:
    """`events` while one viewer stalls. Raises Unmeasurable.

    Before it events pass for so many seconds. They fill what a server fills anyway, such as its database's cache, which
    is not the stalled viewer's memory.
    """
    with warm(server, 1) as (process, how, first), watching(process, how, count, first=first) as viewers:
        before = round(min(45_000, 1000 / viewers.rush(1000).seconds * seconds_before))

        def measure() -> tuple[Seen, int, Seen, int]:
            alone, held = viewers.rush(before), machine.memory_kb(process.pid)
            seen = viewers.rush(events, stalled=1)
            return alone, held, seen, machine.memory_kb(process.pid)

        (alone, held, seen, grown), noise = machine.with_noise(measure, process.pid, viewers.pid)
        after = viewers.answer()
    undisturbed = alone.delivered / alone.seconds * (count - 1) / count
    is_notified = after["closed"] > 0 or after["notices"] > 0
    lost = 0.0 if is_notified else 100 * (1 - after["caught_up"] / after["of"])
    return Stall(seen.delivered / seen.seconds, undisturbed, grown - held, lost, noise)
