"""One server and its viewers: what a delivery costs, how late it arrives, and what a waiting viewer needs."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from bench import build, machine
from bench.events import PARTS
from bench.generator import Seen, Viewers, watching
from bench.servers import Running, Server, Watching, running

# Deliveries of the first of the runs that only find out how fast a server is.
TRIAL_DELIVERIES = 2_000
FEWEST_EVENTS, MOST_EVENTS = 8, 20_000
# A generator that is busier than this is what was measured.
SATURATED = 0.95
# Events that are let go later than this are not at the stated pace.
LATE_MS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How many seconds each kind of measurement lasts; 0 leaves it out.

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


@dataclass(slots=True, kw_only=True)
class Outcome:
    """CPU in seconds of the server for a million deliveries, or for all connections (`connect_cpu`); times in ms;
    memory in KB for each viewer.

    `noise` is the share of the cores' time that other programs used in the worst of the runs that count. `failure`
    says why the rest is missing. `limit` names what else than the server has determined a figure.
    """

    cpu: float = 0
    single_cpu: float = 0
    paced_cpu: float = 0
    p50: float = 0
    p99: float = 0
    memory_kb: float = 0
    connect_seconds: float = 0
    connect_cpu: float = 0
    idle_share: float = 0
    noise: float = 0
    failure: str = ""
    limit: str = ""


def measure(server: Server, count: int, plan: Plan, *, runs: int = 1) -> Outcome:
    """`count` viewers, spread over `runs` runs that all publish the same numbers. A failure is an outcome, too."""
    outcome = Outcome()
    outcome.failure = build.attempt(partial(_measure, server, count, runs, plan, outcome))
    return outcome


def _measure(server: Server, count: int, runs: int, plan: Plan, outcome: Outcome) -> None:
    with warm(server, runs) as (process, how, first):
        before, cpu = machine.memory_kb(process.pid), machine.cpu_seconds(process.pid)
        with watching(process, how, count, first=first) as viewers:
            machine.settle(process.pid)
            outcome.connect_cpu = machine.cpu_seconds(process.pid) - cpu
            outcome.memory_kb = max(0.0, machine.memory_kb(process.pid) - before) / count
            outcome.connect_seconds = viewers.connect_seconds
            outcome.idle_share = _idle_share(process, plan.idle_seconds)
            _drive(process, viewers, count, runs, plan, outcome)


def _drive(process: Running, viewers: Viewers, count: int, runs: int, plan: Plan, outcome: Outcome) -> None:
    best = partial(_best, process, viewers, plan, outcome)
    if plan.seconds:
        outcome.cpu, _ = best(partial(viewers.rush, events_of(viewers.rush, count, plan.seconds)))
    if plan.single_seconds:
        single = partial(viewers.rush, window=1)
        outcome.single_cpu, _ = best(partial(single, events_of(single, count, plan.single_seconds)))
    if plan.paced_seconds:
        rate = plan.rate or paced_rate(count)
        events = max(10, round(plan.paced_seconds * rate))
        outcome.paced_cpu, seen = best(partial(viewers.pace, events, rate=rate, parts=min(runs, PARTS)))
        outcome.p50, outcome.p99 = seen.p50_ms, seen.p99_ms


@contextmanager
def warm(server: Server, runs: int) -> Generator[tuple[Running, Watching, int]]:
    """A server at rest, how it is watched, and the number of its next event. It has loaded all that events need."""
    with running(server) as process:
        how = server.prepare(process.port, runs)
        machine.settle(process.pid)
        with watching(process, how, max(2, runs)) as viewers:
            machine.settle(process.pid)  # a server may greet a viewer before it sends it events
            viewers.rush(max(10, 200 // runs), window=8)
        machine.settle(process.pid)
        yield process, how, viewers.first


def _idle_share(process: Running, seconds: float) -> float:
    """The share of a core that the server uses while nothing happens but heartbeats."""
    cpu = machine.cpu_seconds(process.pid)
    time.sleep(seconds)
    return (machine.cpu_seconds(process.pid) - cpu) / seconds if seconds else 0


def paced_rate(count: int) -> float:
    """Events a second at which even a slow server keeps up."""
    return 100 if count <= 200 else 10 if count <= 2000 else 2


def events_of(rush: Callable[[int], Seen], count: int, seconds: float) -> int:
    """How many events last about so many seconds. Found by ever longer rushes: a server that joins events shows late
    how fast it is, and the first few events to thousands of viewers are long enough for one that doesn't."""
    events = max(FEWEST_EVENTS, TRIAL_DELIVERIES // count)
    while (seen := rush(events)).seconds < seconds / 4 and events < MOST_EVENTS:
        events *= 4
    return round(min(MOST_EVENTS, max(FEWEST_EVENTS, events * seconds / max(seen.seconds, 1e-6))))


def _best(
    process: Running, viewers: Viewers, plan: Plan, outcome: Outcome, run: Callable[[], Seen]
) -> tuple[float, Seen]:
    """CPU seconds for a million deliveries, and what was seen, of the run that was disturbed least."""

    def measure() -> tuple[float, Seen]:
        cpu = machine.cpu_seconds(process.pid)
        seen = run()
        return (machine.cpu_seconds(process.pid) - cpu) / max(1, seen.delivered) * 1e6, seen

    pids, most = (process.pid, viewers.pid), plan.rushes * plan.patience
    found, noise = machine.least_disturbed(measure, *pids, enough=plan.rushes, most=most)
    outcome.noise = max(outcome.noise, noise)
    outcome.limit = outcome.limit or _limit(found[1])
    return found


def _limit(seen: Seen) -> str:
    if seen.late_ms > LATE_MS:
        return f"was paced by a generator that was late by up to {seen.late_ms:.0f} ms"
    is_paced = seen.p50_ms > 0  # by a generator that polls, and is always busy
    return "sent as much as the generator can read" if seen.busy > SATURATED and not is_paced else ""
