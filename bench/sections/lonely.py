"""The common case: many runs with a viewer each, nothing shared, everything durable."""

from collections.abc import Iterator

from bench.chart import Chart
from bench.contenders import TITLES, Outcomes, Takes, contenders, curves, floor, growth, measured, notes, table
from bench.fanout import Outcome
from bench.report import Table
from bench.scale import Scale
from bench.servers import FLOOR

_CPU = "CPU seconds of the server for a million deliveries"
_RUNS = "runs with a viewer each"


def lonely(scale: Scale) -> Iterator[Table | Chart]:
    found: Outcomes = {
        (transport, count): {
            **{s.name: measured(s, count, plan, runs=count) for s in contenders(transport, few=True, bare=True)},
            FLOOR: lowest,
        }
        for count, plan in scale.runs.items()
        for lowest in [floor(count, plan, runs=count)]
        for transport in TITLES
    }
    title = "One viewer a run, 10 events a second in each"
    cost = table(found, title, _CPU, {"": _cost}, goals={"": "lonely"}, of="runs")
    cost.notes = ["The runs take turns within a tick, as runs do that know nothing of each other.", *notes(found)]
    yield cost
    yield Chart("runs-cost", "Cost of a delivery, 10 events a second in each run", _RUNS, _CPU, curves(found, _cost))
    ends = min(scale.runs), max(scale.runs)
    yield growth(found, "How the cost of a delivery grows with the runs", _goal(ends), ends, _cost)
    takes: Takes = {", p50": lambda o: o.p50, ", p99": _p99}
    yield table(
        found, "One viewer a run: latency from publish to the viewer's socket", "Milliseconds", takes, of="runs"
    )
    yield Chart("runs-p99", "Latency, 10 events a second in each run, p99", _RUNS, "p99, ms", curves(found, _p99))


def _goal(ends: tuple[int, int]) -> str:
    return "flat runs" if ends == (1, 1000) else ""


def _cost(outcome: Outcome) -> float:
    return outcome.paced_cpu


def _p99(outcome: Outcome) -> float:
    return outcome.p99
