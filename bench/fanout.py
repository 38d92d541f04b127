"""One server and its viewers: the cost and the latency of a delivery, and the memory of a viewer that waits.

viewers.c is the generator. It opens the viewers, runs one measurement after another, and reports the viewers' events.
The servers that are measured beside each other are chosen here, and their outcomes become rows of a table.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, TypeAlias

from bench import machine, servers
from bench.events import PARTS
from bench.machine import Unmeasurable, say
from bench.report import Row, Table
from bench.servers import BARE, FLOOR, TITLES, Checkout, Running, Server, Transport, Watching, running

# Deliveries of the first trial run. Trials only find out how fast a server is.
TRIAL_DELIVERIES = 2_000
FEWEST_EVENTS, MOST_EVENTS = 8, 20_000
# Above this share of a core the generator limits the figure.
SATURATED = 0.95
# Events that are published later than this are not at the stated pace.
LATE_MS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The result of a run. All viewers have seen every event once and in order. Times of a paced run in ms; else 0.

    `busy` is the share of a core that the generator used: near 1 the generator limits the figure. `late_ms` is
    the largest delay of an event behind the pace. Late viewers read `replay_mb_s`.
    """

    delivered: int
    seconds: float
    busy: float
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    late_ms: float = 0.0
    replay_mb_s: float = 0.0


@dataclass(slots=True)
class Viewers:
    """`first` is the number of the next event, `connect_seconds` the time in which all viewers connected.

    `rush` and `pace` raise Unmeasurable if viewers did not see all events, or saw one twice.
    """

    process: subprocess.Popen[str]
    first: int
    connect_seconds: float

    def rush(self, events: int, *, window: int = 64, stalled: int = 0) -> Seen:
        """Publish as fast as the slowest viewer reads; at most `window` events are on their way to it."""
        return self._run(events, window, 0, 1, stalled, 0)

    def pace(self, events: int, *, rate: float, parts: int = 1, late_pause_ms: int = 0) -> Seen:
        """Publish `rate` events a second. The generator polls without sleeping, so that it is never late.

        Runs take turns in `parts` of a tick. A late viewer comes `late_pause_ms` after the last one has finished.
        """
        return self._run(events, 0, rate, parts, 0, late_pause_ms)

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise Unmeasurable("the generator ended; its reason is on standard error")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _run(self, events: int, *options: float) -> Seen:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended; `answer` reports that
            print(events, *options, file=self.process.stdin, flush=True)
        seen = self.answer()
        self.first += events
        faults = {name: seen[name] for name in ("lost", "gaps", "repeats", "closed") if seen[name]}
        if faults:
            raise Unmeasurable(f"of {seen['delivered'] + seen['lost']:,} deliveries: {faults}")
        return Seen(**{field.name: seen[field.name] for field in fields(Seen) if field.name in seen})


@contextmanager
def watching(server: Running, how: Watching, count: int, *, first: int = 0) -> Generator[Viewers]:
    """Attach `count` viewers to a running server. `first` is the number of its next event."""
    command = [machine.program("viewers"), count, first, how.control]
    command += [how.late, how.late_events, len(how.requests), *how.requests, *how.greetings]
    process = subprocess.Popen([str(p) for p in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    os.sched_setaffinity(process.pid, {machine.cores()[1]})
    try:
        viewers = Viewers(process, first, 0.0)
        viewers.connect_seconds = viewers.answer()["connect_s"]
        yield viewers
    finally:
        process.kill()
        process.communicate()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Seconds of each kind of measurement; 0 leaves it out.

    `seconds` is for as fast as the viewers read, `single_seconds` for one event in flight, `paced_seconds` for a
    steady `rate` of events a second in each run. Rate 0 is one at which even a slow server keeps up. A measurement is
    repeated until other programs disturbed `rushes` of them little, at most `patience` times as often.
    """

    seconds: float = 0
    single_seconds: float = 0
    paced_seconds: float = 0
    idle_seconds: float = 0
    rate: float = 0
    rushes: int = 1
    patience: int = 1


@dataclass(slots=True)
class Outcome:
    """`rush`, `single` and `paced` are the server's CPU in seconds for a million deliveries, `p50` and `p99` are in ms.
    `connect` is the seconds in which all viewers connect, `connect CPU` their cost, `memory` a viewer's KB. `idle` is
    in percent of a core.

    `noise` is the share of the cores' time that other programs used in the worst of the runs that count. `failure`
    says why the rest is missing. `limit` names anything but the server that limited a figure.
    """

    figures: dict[str, float] = field(default_factory=dict[str, float])
    noise: float = 0
    failure: str = ""
    limit: str = ""


def attempted(measure: Callable[..., None], *arguments: Any) -> Outcome:
    """Measure into an outcome, which comes after the arguments. A failure is an outcome, too."""
    outcome = Outcome()
    outcome.failure = machine.attempt(partial(measure, *arguments, outcome))
    return outcome


def measure(server: Server, count: int, plan: Plan, *, runs: int = 1) -> Outcome:
    """Measure `count` viewers, spread over `runs` runs that publish the same numbers."""
    say(f"{server.name}, {TITLES[server.transport]}, {count:,} viewers of {runs:,} run{'s' if runs > 1 else ''}")
    return attempted(_measure, server, count, runs, plan)


def _measure(server: Server, count: int, runs: int, plan: Plan, outcome: Outcome) -> None:
    found = outcome.figures
    with warm(server, runs) as (process, how, first):
        before, cpu = machine.memory_kb(process.pid), machine.cpu_seconds(process.pid)
        with watching(process, how, count, first=first) as viewers:
            machine.settle(process.pid)
            found["connect CPU"] = machine.cpu_seconds(process.pid) - cpu
            found["memory"] = max(0.0, machine.memory_kb(process.pid) - before) / count
            found["connect"] = viewers.connect_seconds
            if plan.idle_seconds:
                cpu = machine.cpu_seconds(process.pid)
                time.sleep(plan.idle_seconds)
                found["idle"] = (machine.cpu_seconds(process.pid) - cpu) / plan.idle_seconds * 100
            _drive(process, viewers, count, runs, plan, outcome)


def _drive(process: Running, viewers: Viewers, count: int, runs: int, plan: Plan, outcome: Outcome) -> None:
    best = partial(_best, process, viewers, plan, outcome)
    for name, seconds, window in (("rush", plan.seconds, 64), ("single", plan.single_seconds, 1)):
        if seconds:
            rush = partial(viewers.rush, window=window)
            best(name, partial(rush, events_of(rush, count, seconds)))
    if plan.paced_seconds:
        rate = plan.rate or paced_rate(count)
        events = max(10, round(plan.paced_seconds * rate))
        seen = best("paced", partial(viewers.pace, events, rate=rate, parts=min(runs, PARTS)))
        outcome.figures |= {"p50": seen.p50_ms, "p99": seen.p99_ms}


def _best(
    process: Running, viewers: Viewers, plan: Plan, outcome: Outcome, figure: str, run: Callable[[], Seen]
) -> Seen:
    """Keep the CPU of the run that was disturbed least. Return its result."""

    def measure() -> tuple[float, Seen]:
        cpu = machine.cpu_seconds(process.pid)
        seen = run()
        return machine.cpu_seconds(process.pid) - cpu, seen

    most = plan.rushes * plan.patience
    (cpu, seen), noise = machine.least_disturbed(
        measure, process.pid, viewers.process.pid, enough=plan.rushes, most=most
    )
    outcome.figures[figure] = cpu / max(1, seen.delivered) * 1e6
    outcome.noise = max(outcome.noise, noise)
    if seen.late_ms > LATE_MS:
        outcome.limit = f"was paced by a generator that was late by up to {seen.late_ms:.0f} ms"
    elif seen.busy > SATURATED and not seen.p50_ms:  # in a paced run the generator polls, and is always busy
        outcome.limit = "sent as much as the generator can read"
    return seen


@contextmanager
def warm(server: Server, runs: int) -> Generator[tuple[Running, Watching, int]]:
    """Yield a server at rest, its requests, and the number of its next event. It has imported all code for events."""
    with running(server) as process:
        how = server.prepare(process.port, runs)
        machine.settle(process.pid)
        with watching(process, how, max(2, runs)) as viewers:
            machine.settle(process.pid)  # a server may greet a viewer before it sends it events
            viewers.rush(max(10, 200 // runs), window=8)
        machine.settle(process.pid)
        yield process, how, viewers.first


def paced_rate(count: int) -> float:
    """Return a rate in events a second at which even a slow server keeps up."""
    return 100 if count <= 200 else 10 if count <= 2000 else 2


def events_of(rush: Callable[[int], Seen], count: int, seconds: float) -> int:
    """Return the number of events that last about `seconds`. Ever longer rushes find it: the full speed of a
    server that joins events shows late, and for one that doesn't, a few events to thousands of viewers are enough."""
    events = max(FEWEST_EVENTS, TRIAL_DELIVERIES // count)
    while (seen := rush(events)).seconds < seconds / 4 and events < MOST_EVENTS:
        events *= 4
    return round(min(MOST_EVENTS, max(FEWEST_EVENTS, events * seconds / max(seen.seconds, 1e-6))))


Outcomes: TypeAlias = dict[tuple[Transport, int], Mapping[str, Outcome]]
"""The outcome of each server, by transport and number of viewers."""

NOISY = "Other programs used a share of the two cores meanwhile: the ratios say more than the figures."


@dataclass(frozen=True, slots=True)
class Scope:
    """The extent of a measurement. `other` is a checkout whose server is measured as well."""

    is_full: bool = False
    other: Checkout | None = None

    @property
    def checkouts(self) -> list[Checkout]:
        return [servers.here(), *([self.other] if self.other else [])]


def contenders(scope: Scope, *, plain: bool = False, bare: bool = False) -> Mapping[Transport, list[Server]]:
    """Return ours, then that of the other checkout, then with `plain` our other variants, then the peers."""
    found: dict[Transport, list[Server]] = {}
    for transport in TITLES:
        found[transport] = [servers.ours(transport, checkout=checkout) for checkout in scope.checkouts]
        if plain:
            found[transport] += [servers.ours(transport, plain=True), servers.ours(transport, journal="memory")]
    found["sse"] += [servers.SSE_STARLETTE] if machine.packages().exists() else []
    found["sse"] += [BARE if bare else servers.STREAMING]
    found["websocket"] += [servers.SEND_TEXT, servers.BROADCAST]
    return found


def compared(count: int, plan: Plan, who: Mapping[Transport, list[Server]], *, runs: int = 1) -> Outcomes:
    """Measure all servers at one number of viewers. The C loop is for both transports: their bytes hardly differ."""
    floor = measure(FLOOR, count, plan, runs=runs)
    return {
        (transport, count): {**{s.name: measure(s, count, plan, runs=runs) for s in those}, FLOOR.name: floor}
        for transport, those in who.items()
    }


def each(outcomes: Mapping[str, Outcome], figure: str) -> Mapping[str, float | None]:
    """Return the figure of each server."""
    return {name: outcome.figures.get(figure) for name, outcome in outcomes.items()}


def table(found: Outcomes, title: str, unit: str, rows: Mapping[str, tuple[str, str]], *, of: str) -> Table:
    """Return a row for each case and each of `rows`: the end of its name; its figure and its goal's first words."""
    result = Table(title, unit, notes=notes(found))
    for (transport, count), outcomes in found.items():
        for suffix, (figure, goal) in rows.items():
            case = f"{TITLES[transport]}, {count:,} {of}{suffix}"
            result.rows.append(Row(case, each(outcomes, figure), goal=f"{goal} {count}", of=TITLES[transport]))
    return result


def growth(found: Outcomes, title: str, figure: str, goal: str) -> Table:
    """Divide the figure at the largest number by that at the smallest; 1 is flat."""
    counts = [count for _, count in found]
    near, far = min(counts), max(counts)
    result = Table(title, f"Times the cost: {far:,} beside {near:,}", better="")
    for transport, case in TITLES.items() if near != far else ():
        small, large = each(found[transport, near], figure), each(found[transport, far], figure)
        figures = {name: more / less for name, less in small.items() if less and (more := large.get(name))}
        result.rows.append(Row(case, figures, goal=goal, of=case))
    return result


def notes(found: Outcomes) -> list[str]:
    """Return failures, noise and limits of the figures."""
    result: list[str] = []
    for (transport, count), outcomes in found.items():
        for name, outcome in outcomes.items():
            case = f"{name}, {TITLES[transport]}, {count:,}"
            result += [f"{case}: failed, {outcome.failure}."] if outcome.failure else []
            result += [NOISY] if outcome.noise > machine.QUIET else []
            result += [f"{case}: {outcome.limit}."] if outcome.limit and outcome.noise <= machine.QUIET else []
    return result
