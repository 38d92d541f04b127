"""Viewers: many of one run, one of each of many runs, thousands that wait, and one that stops reading."""

from collections.abc import Iterator

from bench import machine
from bench.fanout import (
    Outcome,
    Outcomes,
    Plan,
    Scope,
    Seen,
    attempted,
    compared,
    contenders,
    each,
    growth,
    measure,
    notes,
    table,
    warm,
    watching,
)
from bench.machine import say
from bench.report import UNDISTURBED, Row, Table
from bench.servers import OURS, TITLES, Server

_CPU = "CPU seconds of the server for a million deliveries"
_BRIEF = Plan(seconds=0.6, single_seconds=0.4, paced_seconds=1.2)
_LONG = Plan(seconds=1.2, single_seconds=0.6, paced_seconds=4, rushes=2, patience=3)
# With 5,000 viewers a slow server needs seconds for a few events.
_VAST = Plan(seconds=0.8, single_seconds=0.4, paced_seconds=5)
WAITING = 5000
FEW = 20


def fanout(scope: Scope) -> Iterator[Table]:
    """One run with many viewers: the cost and the latency of a delivery, and how both grow."""
    plans = {10: _LONG, 100: _LONG, 1000: _LONG, 5000: _VAST} if scope.is_full else {100: _BRIEF, 1000: _BRIEF}
    found: Outcomes = {}
    for count, plan in plans.items():
        found |= compared(count, plan, contenders(scope, plain=scope.is_full or count == 100))
    goal, of = "rush flat" if scope.is_full else "", "viewers"
    yield table(found, "Fan-out, as fast as the viewers read", _CPU, {"": ("rush", "rush")}, of=of)
    yield growth(found, "How the cost of a delivery grows with the viewers", "rush", goal)
    yield table(found, "Fan-out, one event in flight at a time", _CPU, {"": ("single", "single")}, of=of)
    latency = {", p50": ("p50", "p50"), ", p99": ("p99", "p99")}
    yield table(found, "Latency from publish to the viewer's socket, at a steady pace", "Milliseconds", latency, of=of)


def lonely(scope: Scope) -> Iterator[Table]:
    """The common case: many runs with a viewer each, nothing shared, everything durable."""
    plan = Plan(paced_seconds=3, rate=10, patience=3) if scope.is_full else Plan(paced_seconds=1.5, rate=10)
    found: Outcomes = {}
    for count in (1, 10, 100, 1000) if scope.is_full else (1000,):
        found |= compared(count, plan, contenders(scope, bare=True), runs=count)
    title, of = "A viewer for each run", "runs"
    cost = table(found, f"{title}, 10 events a second in each", _CPU, {"": ("paced", "lonely")}, of=of)
    cost.notes.append("The runs take turns within a tick, like runs that know nothing of each other.")
    yield cost
    yield growth(found, "How the cost of a delivery grows with the runs", "paced", "lonely flat")
    latency = {", p50": ("p50", "lonely p50"), ", p99": ("p99", "lonely p99")}
    yield table(found, f"{title}: latency from publish to the viewer's socket", "Milliseconds", latency, of=of)


def waiting(scope: Scope) -> Iterator[Table]:
    """Thousands of viewers connect, and wait while nothing happens."""
    memory = Table(f"A viewer that only waits, one of {WAITING:,}", "KB of the server's own memory")
    connect = Table(f"{WAITING:,} viewers connect", "Seconds")
    idle = Table(f"{WAITING:,} viewers wait", "Percent of a core")
    seconds = 20 if scope.is_full else 3
    for transport, servers in contenders(scope, plain=scope.is_full).items():
        found = {s.name: measure(s, WAITING, Plan(idle_seconds=seconds if s.name == OURS else 0)) for s in servers}
        case = TITLES[transport]
        memory.rows.append(Row(case, each(found, "memory"), 1, "memory", case))
        connect.rows.append(Row(case, each(found, "connect"), 2, "connect", case))
        cpu = each(found, "connect CPU")
        connect.rows.append(Row(f"{case}, CPU of the server", cpu, 2, "connect", f"{case} CPU"))
        idle.rows.append(Row(case, {OURS: found[OURS].figures.get("idle")}, 2, "idle", case))
        memory.notes += notes({(transport, WAITING): found})
    idle.notes.append(f"Over {seconds} seconds, heartbeats included.")
    yield from (memory, connect, idle)


def stalled(scope: Scope) -> Iterator[Table]:
    title = f"One of {FEW} viewers stops reading"
    unit = "Deliveries a second, and the share of what they were before"
    rate = Table(f"{title}: deliveries a second to the others", unit, better="")
    memory = Table(f"{title}: the server's memory", "KB that it grows by")
    lost = Table(f"{title}: what it lost without a notice", "Percent of the events", better="")
    # A short run ends before the database has filled its cache, which is not the viewer's memory.
    events, seconds, goal = (60_000, 7, "stalled memory") if scope.is_full else (5_000, 3, "")
    for transport, those in contenders(scope).items():
        case = TITLES[transport]
        say(f"{title} for {events:,} events, {case}: {', '.join(server.name for server in those)}")
        found = {server.name: stall(server, FEW, events, seconds_before=seconds) for server in those}
        ours = found[OURS].figures
        rate.notes += notes({(transport, FEW): found})
        alone = {OURS: ours.get("rate"), UNDISTURBED: ours.get("undisturbed")}
        rate.rows.append(Row(f"{case}, a second", alone, 0, "stalled", case))
        rate.rows.append(Row(f"{case}, share", each(found, "share")))
        memory.rows.append(Row(case, each(found, "memory"), 0, goal, case))
        lost.rows.append(Row(case, each(found, "lost"), 1, "stalled lost", case))
    yield from (rate, memory, lost)


def stall(server: Server, count: int, events: int, *, seconds_before: float) -> Outcome:
    """Measure one viewer that reads nothing during a rush of so many events, and reads on afterwards.

    `rate` is the others' deliveries a second, `undisturbed` the rate without it, `memory` the server's growth in KB.
    `lost` is the percentage of the events that the viewer never gets, 0 if it was closed: then it knows that it lost
    some.

    `seconds_before` of events fill the server's own caches, such as its database's: they aren't the viewer's memory.
    """
    return attempted(_stall, server, count, events, seconds_before)


def _stall(server: Server, count: int, events: int, seconds_before: float, outcome: Outcome) -> None:
    with warm(server, 1) as (process, how, first), watching(process, how, count, first=first) as viewers:
        before = round(min(45_000, 1000 / viewers.rush(1000).seconds * seconds_before))

        def measure() -> tuple[Seen, int, Seen, int]:
            alone, held = viewers.rush(before), machine.memory_kb(process.pid)
            seen = viewers.rush(events, stalled=1)
            return alone, held, seen, machine.memory_kb(process.pid)

        (alone, held, seen, grown), outcome.noise = machine.with_noise(measure, process.pid, viewers.process.pid)
        after = viewers.answer()
    rate, undisturbed = seen.delivered / seen.seconds, alone.delivered / alone.seconds * (count - 1) / count
    lost = 0.0 if after["closed"] else 100 * (1 - after["caught_up"] / after["of"])
    outcome.figures = {"rate": rate, "undisturbed": undisturbed, "share": rate / undisturbed}
    outcome.figures |= {"memory": grown - held, "lost": lost}
