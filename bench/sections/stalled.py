"""One of 20 viewers stops reading."""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from bench import fanout, machine, servers
from bench.generator import Viewers, watching
from bench.goals import UNDISTURBED
from bench.report import Row, Table
from bench.servers import OURS, Running, Server
from bench.suite import NOISY, TITLES, Scope, contenders, say

VIEWERS = 20

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """One of the viewers reads nothing during a rush. `rate` is the others' deliveries a second, `before` without it.

    Memory is what the server's grows by, in KB. Afterwards the viewer reads on: `caught_up` is the share of the events
    that it gets, and `is_told` whether it was closed or got a notice of what is missing.
    """

    rate: float
    before: float
    memory_kb: float
    caught_up: float
    is_told: bool
    noise: float

    @property
    def lost(self) -> float:
        """Percent of the events that were lost without a notice."""
        return 0.0 if self.is_told else 100 * (1 - self.caught_up)


def stalled(scope: Scope) -> Iterator[Table]:
    title = f"One of {VIEWERS} viewers stops reading"
    rate = Table(f"{title}: deliveries a second to the others", "Share of what they got before", better="")
    memory = Table(f"{title}: the server's memory", "KB that it grows by")
    lost = Table(f"{title}: what it lost without a notice", "Percent of the events", better="")
    for transport, case in TITLES.items():
        found = {server.name: _stall(server, scope) for server in contenders(scope, transport)}
        ours = found[OURS]
        rate.notes += [NOISY for stall in found.values() if stall and stall.noise > machine.QUIET][:1]
        if ours:
            rate.rows.append(Row(f"{case}, a second", {OURS: ours.rate, UNDISTURBED: ours.before}, 0, "stalled", case))
        rate.rows.append(Row(f"{case}, share", _each(found, lambda s: s.rate / s.before)))
        # A short run ends before the database has filled its cache, which is not the viewer's memory.
        goal = "stalled memory" if scope.is_full else ""
        memory.rows.append(Row(case, _each(found, lambda s: s.memory_kb), 0, goal, case))
        lost.rows.append(Row(case, _each(found, lambda s: s.lost), 1, "stalled lost", case))
    yield from (rate, memory, lost)


def _stall(server: Server, scope: Scope) -> Stall | None:
    events, seconds = (60_000, 7) if scope.is_full else (5_000, 3)
    say(f"{server.name}, {TITLES[server.transport]}, one of {VIEWERS} viewers stops reading for {events:,} events")
    try:
        return stall(server, VIEWERS, events, seconds_before=seconds)
    except Exception:
        log.exception("%s could not be measured", server.name)
        return None


def _each(stalls: Mapping[str, Stall | None], take: Callable[[Stall], float]) -> dict[str, float | None]:
    return {name: take(stall) if stall else None for name, stall in stalls.items()}


def stall(server: Server, count: int, events: int, *, seconds_before: float) -> Stall:
    """`events` while one viewer stalls. Raises Unmeasurable.

    Before it events pass for so many seconds. They fill what a server fills anyway, such as its database's cache, which
    is not the stalled viewer's memory.
    """
    with servers.running(server) as process:
        how = server.prepare(process.port, 1)
        first = fanout.warm_up(process, how, 1)
        with watching(process, how, count, first=first) as viewers:
            before = round(min(45_000, 1000 / viewers.rush(1000).seconds * seconds_before))
            return _round(process, viewers, count, events, before)


def _round(process: Running, viewers: Viewers, count: int, events: int, before: int) -> Stall:
    load = machine.load(process.pid, viewers.pid)
    alone = viewers.rush(before)
    held = machine.memory_kb(process.pid)
    seen = viewers.rush(events, stalled=1)
    grown = machine.memory_kb(process.pid) - held
    noise = machine.load(process.pid, viewers.pid).others_since(load)
    after = viewers.answer()
    return Stall(
        rate=seen.delivered / seen.seconds,
        before=alone.delivered / alone.seconds * (count - 1) / count,
        memory_kb=grown,
        caught_up=after["caught_up"] / after["of"],
        is_told=after["closed"] > 0 or after["notices"] > 0,
        noise=noise,
    )
