"""Which measurements there are, and the tables that they fill."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from bench import builds, fanout, journal, servers, startup, tokens
from bench.fanout import Outcome, Plan
from bench.report import Row, Table
from bench.servers import Server, Transport

OURS, FLOOR = "askstream", "C send loop"
_TITLES: Mapping[Transport, str] = {"sse": "SSE", "websocket": "WebSocket"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much is measured. What a viewer costs that only waits is told of at least `waiting` of them."""

    viewers: Sequence[int]
    plan: Plan
    waiting: int
    stalled_deliveries: int
    lonely_runs: int
    appended: int
    times: int
    writing: tokens.Load
    rushed: tokens.Load

    def plan_for(self, viewers: int) -> Plan:
        return self.plan if viewers >= self.waiting else replace(self.plan, idle_seconds=0)


QUICK = Scale(
    viewers=(100, 1000),
    plan=Plan(seconds=0.7, rushes=2, single_seconds=0.4, paced_seconds=1.5),
    waiting=1000,
    stalled_deliveries=0,
    lonely_runs=0,
    appended=40,
    times=3,
    writing=tokens.Load(runs=50, pieces=60, pause=0.05),
    rushed=tokens.Load(runs=1, pieces=8000, pause=0),
)
FULL = Scale(
    viewers=(10, 100, 1000, 5000),
    plan=Plan(seconds=3, rushes=3, single_seconds=1.5, paced_seconds=8, idle_seconds=30, patience=3),
    waiting=1000,
    stalled_deliveries=400_000,
    lonely_runs=1000,
    appended=200,
    times=7,
    writing=tokens.Load(runs=300, pieces=200, pause=0.05),
    rushed=tokens.Load(runs=1, pieces=20_000, pause=0),
)
LONELY = Plan(seconds=0, paced_seconds=5, patience=3)


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


Case = tuple[Transport, int]
Outcomes = Mapping[Case, Mapping[str, Outcome]]


# ---- fan-out -----------------------------------------------------------------------------------------------


def fan_out(scale: Scale) -> Iterator[Table]:
    """One run with many viewers, ours and peers."""
    found: Outcomes = {
        (transport, count): {
            **{server.name: _measure(server, count, scale.plan_for(count)) for server in _contenders(transport)},
            FLOOR: _floor(count, scale.plan_for(count)),
        }
        for count in scale.viewers
        for transport in _TITLES
    }
    cost = "CPU seconds of the server for a million deliveries"
    first = _table(found, "Fan-out, as fast as the viewers take it", cost, {"": lambda o: o.cpu})
    first.notes = [note for outcomes in found.values() for name, o in outcomes.items() for note in _notes(name, o)]
    yield first
    yield _table(found, "What one core delivers", "Deliveries a second", {"": lambda o: o.rate}, more=True, digits=0)
    yield _table(found, "Fan-out, one event in flight at a time", cost, {"": lambda o: o.single_cpu})
    latency: Takes = {", p50": lambda o: o.p50, ", p99": lambda o: o.p99}
    yield _table(found, "Latency from publish to the viewer's socket, at a steady pace", "Milliseconds", latency)
    waiting = {case: outcomes for case, outcomes in found.items() if case[1] >= scale.waiting}
    memory = "KB of the server's memory (proportional set size)"
    yield _table(waiting, "A viewer that only waits", memory, {"": lambda o: round(o.memory_kb, 1)}, digits=1)
    yield _table(waiting, "Opening all viewers", "Seconds", {"": lambda o: o.connect_seconds})
    if scale.plan.idle_seconds:
        yield _table(waiting, "All viewers waiting", "Percent of a core", {"": lambda o: o.idle_share * 100})


def _contenders(transport: Transport) -> list[Server]:
    if transport == "websocket":
        return [servers.ours(transport), servers.SEND_TEXT, servers.WEBSOCKETS]
    packages = [servers.SSE_STARLETTE] if builds.has_packages() else []
    return [servers.ours(transport), *packages, servers.STREAMING]


@cache
def _floor(count: int, plan: Plan) -> Outcome:
    """Measured once, it stands beside both transports: their bytes differ by a few."""
    return _measure(servers.floor(), count, plan)


def _measure(server: Server, count: int, plan: Plan, runs: int = 1) -> Outcome:
    say(f"{server.name}, {_TITLES[server.transport]}, {count:,} viewers of {runs:,} run{'s' if runs > 1 else ''}")
    return fanout.measure(server, count, plan, runs=runs)


Takes = Mapping[str, Callable[[Outcome], float]]


def _table(found: Outcomes, title: str, unit: str, takes: Takes, *, more: bool = False, digits: int = 2) -> Table:
    """A row for each case and each of `takes`: what the case's name is followed by, and what is taken of outcomes."""
    table = Table(title, unit, higher_is_better=more)
    names = list(dict.fromkeys(name for outcomes in found.values() for name in outcomes if name != FLOOR))
    for (transport, count), outcomes in found.items():
        for suffix, take in takes.items():
            figures = {name: take(outcomes.get(name, Outcome())) or None for name in (*names, FLOOR)}
            table.rows.append(Row(f"{_TITLES[transport]}, {count:,} viewers{suffix}", figures, digits))
    return table


def _notes(name: str, outcome: Outcome) -> Iterator[str]:
    if outcome.failure:
        yield f"{name} failed: {outcome.failure}."
    if outcome.is_generators:
        yield f"{name} gave as much as the generator can take."
    if outcome.noise > fanout.QUIET:
        yield "Other programs took a share of the two cores meanwhile: the ratios say more than the figures."


def lonely(scale: Scale) -> Iterator[Table]:
    """The common case: many runs with a viewer each, nothing shared, everything durable."""
    table = Table("One viewer a run, 10 events a second in each", "CPU seconds for a million deliveries; milliseconds")
    for transport in _TITLES if scale.lonely_runs else ():
        outcome = _measure(servers.ours(transport), scale.lonely_runs, LONELY, scale.lonely_runs)
        case = f"{_TITLES[transport]}, {scale.lonely_runs:,} runs"
        table.rows.append(Row(f"{case}, CPU", {OURS: outcome.paced_cpu}))
        table.rows += [Row(f"{case}, p50", {OURS: outcome.p50}), Row(f"{case}, p99", {OURS: outcome.p99})]
        table.notes += _notes(OURS, outcome)
    if table.rows:
        yield table


def stalled(scale: Scale) -> Iterator[Table]:
    """One of 20 viewers stops reading."""
    if not scale.stalled_deliveries:
        return
    rate = Table("One of 20 viewers stops reading: the others", "Deliveries a second", higher_is_better=True)
    memory = Table("One of 20 viewers stops reading: the server", "KB that its memory grows by")
    for transport in _TITLES:
        found = {s.name: fanout.stall(s, 20, scale.stalled_deliveries) for s in _contenders(transport)}
        case = _TITLES[transport]
        rate.rows.append(Row(f"{case}, before", {name: stall.alone for name, stall in found.items()}, 0))
        rate.rows.append(Row(f"{case}, meanwhile", {name: stall.rate for name, stall in found.items()}, 0))
        memory.rows.append(Row(case, {name: stall.memory_kb for name, stall in found.items()}, 0))
        memory.notes += [f"{case}, {name}: {_afterwards(stall)}." for name, stall in found.items()]
    yield from (rate, memory)


def _afterwards(stall: fanout.Stall) -> str:
    got = f"the one that stopped got {stall.caught_up:.0%} of the events once it read on"
    return f"{got}, and was cut" if stall.closed else got


# ---- the rest ----------------------------------------------------------------------------------------------


def log(scale: Scale) -> Iterator[Table]:
    """The journal: appends in this process, replay over HTTP."""
    say(f"journal, {journal.RUNS} runs")
    found, bare = journal.appends(scale.appended), journal.bare_sqlite(scale.appended)
    rate = Table(f"Durable events, {journal.RUNS} runs at once", "Events a second", higher_is_better=True)
    rate.rows.append(Row("appended", {OURS: found.rate, f"bare SQLite, {journal.RUNS} rows a commit": bare}, 0))
    rate.notes.append(f"CPU {found.cpu:.0f} µs an event; an append takes {found.p50:.1f} ms (p99 {found.p99:.1f}).")
    yield rate
    say("replay")
    replay = Table("A late viewer reads 10,000 events over HTTP", "MB a second", higher_is_better=True)
    replay.rows.append(Row("from memory", {OURS: journal.replay("memory", scale.times)}, 0))
    replay.rows.append(Row("from SQLite", {OURS: journal.replay("sqlite", scale.times)}, 0))
    yield replay


def start(scale: Scale) -> Iterator[Table]:
    """Waiting for the first sign of life."""
    say("start-up")
    fresh, again = startup.serve_seconds(scale.times)
    bare = "Starlette and uvicorn alone"
    table = Table("Start-up", "Seconds")
    smallest = startup.starlette_seconds(scale.times)
    table.rows.append(Row("`askstream serve`, first answer of /health, empty folder", {OURS: fresh, bare: smallest}))
    table.rows.append(Row("the same, used folder", {OURS: again, bare: smallest}))
    interpreter = {"Python alone": startup.python_seconds(scale.times)}
    table.rows.append(Row("`askstream --help`", {OURS: startup.help_seconds(scale.times), **interpreter}))
    yield table
    say("first event")
    p50, p99 = startup.first_event_ms(scale.times * 10)
    first = Table("From a question to its first event, over HTTP", "Milliseconds")
    first.rows += [Row("p50", {OURS: p50}), Row("p99", {OURS: p99})]
    yield first


def text(scale: Scale) -> Iterator[Table]:
    """A model's text on its way to a viewer."""
    cost = Table("A piece of text, from the model to a viewer's frame", "CPU microseconds, all threads")
    delay = Table("How long a piece of text is on its way", "Milliseconds")
    whole = Table("A whole run whose answer is one piece", "CPU milliseconds, all threads")
    steady, rushed = scale.writing, scale.rushed
    loads = {
        f"{steady.runs} runs, {1 / steady.pause:.0f} pieces a second each": steady,
        "one run, as fast as it is taken": rushed,
    }
    for case, load in loads.items():
        say(f"text: {case}")
        found = {OURS: tokens.ours(load), "AutoGen's run_stream": tokens.autogen(load)}
        cost.rows.append(Row(case, {name: c.cpu for name, c in found.items()}, 1))
        if load.pause:
            whole.rows.append(Row(f"{load.runs} at once", {name: c.run_ms for name, c in found.items()}))
            delay.rows.append(Row(f"{case}, p50", {name: c.p50 for name, c in found.items()}))
            delay.rows.append(Row(f"{case}, p99", {name: c.p99 for name, c in found.items()}))
    cost.notes.append("What a run costs beside its text is taken off.")
    yield from (cost, delay, whole)


SECTIONS: Mapping[str, Callable[[Scale], Iterator[Table]]] = {
    "fanout": fan_out,
    "lonely": lonely,
    "stalled": stalled,
    "journal": log,
    "start": start,
    "text": text,
}
