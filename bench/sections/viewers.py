"""Viewers: many of one run, one of each of many runs, and thousands that wait."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from bench.fanout import Outcome, Plan
from bench.report import Row, Table
from bench.servers import OURS, Transport
from bench.suite import TITLES, Outcomes, Scope, Takes, compared, contenders, growth, measured, table

_CPU = "CPU seconds of the server for a million deliveries"
_BRIEF = Plan(seconds=0.6, single_seconds=0.4, paced_seconds=1.2)
_LONG = Plan(seconds=1.2, single_seconds=0.6, paced_seconds=4, rushes=2, patience=3)
# With 5,000 viewers a slow server needs seconds for a few events.
_VAST = Plan(seconds=0.8, single_seconds=0.4, paced_seconds=5)
WAITING = 5000


def _rush(outcome: Outcome) -> float:
    return outcome.cpu


def _paced(outcome: Outcome) -> float:
    return outcome.paced_cpu


def fanout(scope: Scope) -> Iterator[Table]:
    """One run with many viewers: what a delivery costs, how late it arrives, and how both grow."""
    plans = {10: _LONG, 100: _LONG, 1000: _LONG, 5000: _VAST} if scope.is_full else {100: _BRIEF, 1000: _BRIEF}
    found: dict[tuple[Transport, int], Mapping[str, Outcome]] = {}
    for count, plan in plans.items():
        found |= compared(count, plan, contenders(scope, plain=scope.is_full or count == 100))
    yield table(found, "Fan-out, as fast as the viewers read", _CPU, {("", "rush"): _rush}, of="viewers")
    goal = "rush flat" if scope.is_full else ""
    yield growth(found, "How the cost of a delivery grows with the viewers", goal, _rush)
    single: Takes = {("", "single"): lambda o: o.single_cpu}
    yield table(found, "Fan-out, one event in flight at a time", _CPU, single, of="viewers")
    yield _latency(found, "Latency from publish to the viewer's socket, at a steady pace", "", of="viewers")


def lonely(scope: Scope) -> Iterator[Table]:
    """The common case: many runs with a viewer each, nothing shared, everything durable."""
    plan = Plan(paced_seconds=3, rate=10, patience=3) if scope.is_full else Plan(paced_seconds=1.5, rate=10)
    found: dict[tuple[Transport, int], Mapping[str, Outcome]] = {}
    for count in (1, 10, 100, 1000) if scope.is_full else (1000,):
        found |= compared(count, plan, contenders(scope, bare=True), runs=count)
    paced: Takes = {("", "lonely"): _paced}
    cost = table(found, "A viewer for each run, 10 events a second in each", _CPU, paced, of="runs")
    cost.notes.append("The runs take turns within a tick, like runs that know nothing of each other.")
    yield cost
    yield growth(found, "How the cost of a delivery grows with the runs", "lonely flat", _paced)
    yield _latency(found, "A viewer for each run: latency from publish to the viewer's socket", "lonely ", of="runs")


def waiting(scope: Scope) -> Iterator[Table]:
    """How long thousands of viewers need to connect, and what they need while nothing happens."""
    memory = Table(f"A viewer that only waits, one of {WAITING:,}", "KB of the server's own memory")
    connect = Table(f"{WAITING:,} viewers connect", "Seconds")
    idle = Table(f"{WAITING:,} viewers wait", "Percent of a core")
    seconds = 20 if scope.is_full else 3
    for transport, servers in contenders(scope, plain=scope.is_full).items():
        found = {s.name: measured(s, WAITING, Plan(idle_seconds=seconds if s.name == OURS else 0)) for s in servers}
        case = TITLES[transport]
        memory.rows.append(Row(case, {name: o.memory_kb or None for name, o in found.items()}, 1, "memory", case))
        times = {name: o.connect_seconds or None for name, o in found.items()}
        cpu = {name: o.connect_cpu or None for name, o in found.items()}
        connect.rows.append(Row(case, times, 2, "connect", case))
        connect.rows.append(Row(f"{case}, CPU of the server", cpu, 2, "connect", f"{case} CPU"))
        idle.rows.append(Row(case, {OURS: found[OURS].idle_share * 100}, 2, "idle", case))
        memory.notes += [f"{case}, {name}: failed, {o.failure}." for name, o in found.items() if o.failure]
    idle.notes.append(f"Over {seconds} seconds, heartbeats included.")
    yield from (memory, connect, idle)


def _latency(found: Outcomes, title: str, goal: str, *, of: str) -> Table:
    takes: Takes = {(", p50", f"{goal}p50"): lambda o: o.p50, (", p99", f"{goal}p99"): lambda o: o.p99}
    return replace(table(found, title, "Milliseconds", takes, of=of), notes=[])
