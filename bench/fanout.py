"""One run, many viewers: what each delivery costs, how late it comes, and what a viewer takes that only waits."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from bench import machine
from bench.builds import Unmeasurable
from bench.events import PARTS
from bench.generator import Seen, Viewers, watching
from bench.servers import Running, Server, Watching, running

# Deliveries of the first of the runs that only find out how fast a server is.
TRIAL_DELIVERIES = 2_000
FEWEST_EVENTS, MOST_EVENTS = 8, 20_000
# A generator that is as busy as that can't take more.
SATURATED = 0.95
# A server that is less busy than that waits for the generator: it could deliver more.
WAITING = 0.9
# How often a disturbed round with a viewer that stalls is repeated, and after how many seconds no more.
STALL_ROUNDS, STALL_SECONDS = 4, 40
# Events that are let go later than that are not at the pace which they are said to have.
LATE_MS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long to measure: `seconds` a rush, `rushes` times, and as long paced. 0 leaves one out.

    `rate` is in events a second of each run; 0 takes one at which even a slow server keeps up with so many viewers.
    """

    seconds: float
    rushes: int = 2
    paced_seconds: float = 0
    single_seconds: float = 0
    idle_seconds: float = 0
    patience: int = 1
    rate: float = 0


@dataclass(slots=True, kw_only=True)
class Outcome:
    """CPU in seconds of the server for a million deliveries, times in ms, memory in KB for each viewer.

    `kernel` is the share of `cpu` that system calls took, `single_kernel` that of `single_cpu`. `noise` is the share of
    the cores' time that others took in the worst of the runs that count; `failure` says why the rest is missing.
    `limit` tells what else than the server has set one of the figures, where something has.
    """

    cpu: float = 0
    rate: float = 0
    writes: float = 0
    kernel: float = 0
    single_cpu: float = 0
    single_kernel: float = 0
    paced_cpu: float = 0
    p50: float = 0
    p99: float = 0
    memory_kb: float = 0
    connect_seconds: float = 0
    idle_share: float = 0
    noise: float = 0
    failure: str = ""
    limit: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: what was seen, and what the server spent on it."""

    seen: Seen
    cpu_seconds: float
    system_seconds: float
    writes: int
    noise: float

    @property
    def cpu_per_million(self) -> float:
        return self.cpu_seconds / max(1, self.seen.delivered) * 1e6

    @property
    def kernel(self) -> float:
        return min(1.0, self.system_seconds / max(self.cpu_seconds, 1e-9))

    @property
    def limit(self) -> str:
        """Why the rate is not what the server could give, or the pace not what it should be."""
        if self.seen.busy > SATURATED:
            return "gave as much as the generator can take"
        share = self.cpu_seconds / max(self.seen.seconds, 1e-9)
        return f"was busy for {share:.0%} of the time only: it could deliver more" if share < WAITING else ""


def measure(server: Server, count: int, plan: Plan, *, runs: int = 1) -> Outcome:
    """`count` viewers, spread over `runs` runs that all publish the same numbers."""
    outcome = Outcome()
    try:
        with running(server) as process:
            _measure(process, count, runs, plan, outcome)
    except Unmeasurable as problem:
        outcome.failure = str(problem)
    return outcome


def _measure(process: Running, count: int, runs: int, plan: Plan, outcome: Outcome) -> None:
    how = process.server.prepare(process.port, runs)
    first = warm_up(process, how, runs)
    machine.settle(process.pid)
    before = machine.memory_kb(process.pid)
    with watching(process, how, count, first=first) as viewers:
        machine.settle(process.pid)
        outcome.memory_kb = max(0.0, machine.memory_kb(process.pid) - before) / count
        outcome.connect_seconds = viewers.connect_seconds
        outcome.idle_share = _idle_share(process, plan.idle_seconds)
        _rush(process, viewers, count, plan, outcome)
        _single(process, viewers, count, plan, outcome)
        _paced(process, viewers, count, plan, outcome, parts=min(runs, PARTS))


def warm_up(process: Running, how: Watching, runs: int) -> int:
    """What is loaded or made at the first event is none of the others' cost. The number of the next event."""
    machine.settle(process.pid)
    with watching(process, how, max(2, runs)) as viewers:
        machine.settle(process.pid)  # a server may greet a viewer before it counts it among those who get events
        viewers.rush(max(10, 200 // runs), window=8)
        return viewers.first


def _rush(process: Running, viewers: Viewers, count: int, plan: Plan, outcome: Outcome) -> None:
    if not plan.seconds:
        return
    events = events_of(viewers.rush, count, plan.seconds)
    best = _best(process, viewers, lambda: viewers.rush(events), plan.rushes, plan.patience)
    outcome.cpu, outcome.rate = best.cpu_per_million, best.seen.delivered / max(best.seen.seconds, 1e-9)
    outcome.writes = best.writes / max(1, best.seen.delivered)
    outcome.kernel, outcome.limit = best.kernel, best.limit
    outcome.noise = max(outcome.noise, best.noise)


def _idle_share(process: Running, seconds: float) -> float:
    """The share of a core that the server takes while nothing happens but heartbeats."""
    cpu = machine.cpu_seconds(process.pid)
    time.sleep(seconds)
    return (machine.cpu_seconds(process.pid) - cpu) / seconds if seconds else 0


def _single(process: Running, viewers: Viewers, count: int, plan: Plan, outcome: Outcome) -> None:
    """One event in flight at a time: nothing can be joined."""
    if not plan.single_seconds:
        return
    events = events_of(partial(viewers.rush, window=1), count, plan.single_seconds)
    best = _best(process, viewers, lambda: viewers.rush(events, window=1), plan.rushes, plan.patience)
    outcome.single_cpu, outcome.single_kernel = best.cpu_per_million, best.kernel
    outcome.noise = max(outcome.noise, best.noise)


def _paced(process: Running, viewers: Viewers, count: int, plan: Plan, outcome: Outcome, *, parts: int) -> None:
    if not plan.paced_seconds:
        return
    rate = plan.rate or paced_rate(count)
    events = max(10, round(plan.paced_seconds * rate))
    best = _best(process, viewers, lambda: viewers.pace(events, rate=rate, parts=parts), 1, plan.patience)
    if best.seen.late_ms > LATE_MS:
        outcome.limit = outcome.limit or f"was paced by a generator that was late by up to {best.seen.late_ms:.0f} ms"
    outcome.p50, outcome.p99, outcome.paced_cpu = best.seen.p50_ms, best.seen.p99_ms, best.cpu_per_million
    outcome.noise = max(outcome.noise, best.noise)


def paced_rate(count: int) -> float:
    """Events a second at which even a slow server keeps up."""
    return 100 if count <= 200 else 10 if count <= 2000 else 2


def events_of(rush: Callable[[int], Seen], count: int, seconds: float) -> int:
    """How many events take about so many seconds. Found by ever longer rushes: a server that joins shows late how fast
    it is, and the first few events to thousands of viewers are long enough for one that doesn't."""
    events = max(FEWEST_EVENTS, TRIAL_DELIVERIES // count)
    while (seen := rush(events)).seconds < seconds / 4 and events < MOST_EVENTS:
        events *= 4
    return round(min(MOST_EVENTS, max(FEWEST_EVENTS, events * seconds / max(seen.seconds, 1e-6))))


def _best(process: Running, viewers: Viewers, run: Callable[[], Seen], times: int, patience: int) -> Measured:
    """The least disturbed of `times` runs; of up to `patience` times as many while all of them were disturbed."""
    done: list[Measured] = []
    while len(done) < times or (len(done) < times * patience and min(m.noise for m in done) > machine.QUIET):
        done.append(_measured(process, viewers, run))
    quiet = [m for m in done if m.noise <= machine.QUIET] or [min(done, key=lambda m: m.noise)]
    return min(quiet, key=lambda m: m.cpu_per_million)


def _measured(process: Running, viewers: Viewers, run: Callable[[], Seen]) -> Measured:
    pids = process.pid, viewers.pid
    load, cpu, writes = machine.load(*pids), machine.cpu_seconds(process.pid), machine.writes(process.pid)
    system = machine.system_seconds(process.pid)
    seen = run()
    spent, written = machine.cpu_seconds(process.pid) - cpu, machine.writes(process.pid) - writes
    system = machine.system_seconds(process.pid) - system
    return Measured(seen, spent, system, written, machine.load(*pids).others_since(load))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """One of the viewers reads nothing during a rush. `rate` is the others' deliveries a second, `alone` without it.

    Memory is the server's, in KB. Afterwards the viewer reads on: `caught_up` is the share of the events it got, `told`
    whether it was closed or got a notice of what it misses. `noise` is the share of the cores' time that others took.
    """

    rate: float
    alone: float
    memory_kb: float
    caught_up: float
    told: bool
    noise: float

    @property
    def lost_in_silence(self) -> float:
        return 0.0 if self.told else 1 - self.caught_up


def stall(server: Server, count: int, events: int, *, before: tuple[int, float]) -> Stall:
    """`events` while one stalls. `before` that, so many events go by, or as many as go in so many seconds.

    They fill what a server fills anyway, such as its database's cache: that is not the stalled viewer's memory. Of
    several rounds the one that others have disturbed least. Raises Unmeasurable.
    """
    most, seconds = before
    deadline = time.monotonic() + STALL_SECONDS
    with running(server) as process:
        how = server.prepare(process.port, 1)
        first = warm_up(process, how, 1)
        with watching(process, how, count, first=first) as viewers:
            trial = viewers.rush(1000)
            alone = round(min(most, 1000 / trial.seconds * seconds))
            rounds = [_stall(process, viewers, count, events, alone)]
            while _wants_another(rounds) and time.monotonic() < deadline:
                rounds.append(_stall(process, viewers, count, events, alone))
    return min(rounds, key=lambda stalled: stalled.noise)


def _wants_another(rounds: Sequence[Stall]) -> bool:
    """Whether all were disturbed. One that has lost events, or was closed, can't go on to the next round."""
    last = rounds[-1]
    return len(rounds) < STALL_ROUNDS and last.noise > machine.QUIET and last.caught_up == 1 and not last.told


def _stall(process: Running, viewers: Viewers, count: int, events: int, before: int) -> Stall:
    load = machine.load(process.pid, viewers.pid)
    alone = viewers.rush(before)
    held = machine.memory_kb(process.pid)
    seen = viewers.rush(events, stalled=1)
    grown = machine.memory_kb(process.pid) - held
    noise = machine.load(process.pid, viewers.pid).others_since(load)
    after = viewers.answer()
    return Stall(
        rate=seen.delivered / seen.seconds,
        alone=alone.delivered / alone.seconds * (count - 1) / count,
        memory_kb=grown,
        caught_up=after["caught_up"] / after["of"],
        told=after["closed"] > 0 or after["notices"] > 0,
        noise=noise,
    )
