"""One run with many viewers: what a delivery costs, how late it comes, and how both grow."""

from collections.abc import Iterator

from bench.chart import Chart
from bench.contenders import TITLES, Outcomes, Takes, contenders, curves, floor, growth, measured, notes, table
from bench.fanout import Outcome
from bench.report import Table
from bench.scale import Scale
from bench.servers import FLOOR, Server, Transport

_CPU = "CPU seconds of the server for a million deliveries"
_VIEWERS = "viewers of one run"


def crowd(scale: Scale) -> Iterator[Table | Chart]:
    found: Outcomes = {
        (transport, count): {
            **{server.name: measured(server, count, plan) for server in _contenders(scale, transport, count)},
            FLOOR: lowest,
        }
        for count, plan in scale.viewers.items()
        for lowest in [floor(count, plan)]
        for transport in TITLES
    }
    first = table(found, "Fan-out, as fast as the viewers take it", _CPU, {"": lambda o: o.cpu}, goals={"": "rush"})
    first.notes = notes(found)
    yield first
    panels = curves(found, lambda o: o.cpu)
    yield Chart("viewers-rush", "Cost of a delivery, as fast as the viewers take it", _VIEWERS, _CPU, panels)
    yield growth(found, "How the cost of a delivery grows with the viewers", "flat viewers", (10, 5000), _cost)
    rate = table(found, "What one core delivers", "Deliveries a second", {"": lambda o: o.rate}, digits=0)
    rate.better = "more"
    yield rate
    yield from _single(found)
    yield from _latency(found)


def _contenders(scale: Scale, transport: Transport, count: int) -> list[Server]:
    """All of them; with little time, only at the smallest number of viewers."""
    few = scale.few and count > min(scale.viewers)
    return contenders(transport, few=few, plain=not few)


def _cost(outcome: Outcome) -> float:
    return outcome.cpu


def _single(found: Outcomes) -> Iterator[Table | Chart]:
    title = "Fan-out, one event in flight at a time"
    yield table(found, title, _CPU, {"": lambda o: o.single_cpu}, goals={"": "single"})
    panels = curves(found, lambda o: o.single_cpu)
    yield Chart("viewers-single", "Cost of a delivery, one event in flight at a time", _VIEWERS, _CPU, panels)
    shares: Takes = {", as fast as they take it": _percent, ", one in flight": lambda o: o.single_kernel * 100}
    kernel = table(found, "Of that, the kernel's part: system calls", "Percent of the CPU time", shares, digits=0)
    kernel.better = ""
    yield kernel


def _percent(outcome: Outcome) -> float:
    return outcome.kernel * 100


def _latency(found: Outcomes) -> Iterator[Table | Chart]:
    title, unit = "Latency from publish to the viewer's socket, at a steady pace", "Milliseconds"
    takes: Takes = {", p50": _p50, ", p99": _p99}
    yield table(found, title, unit, takes, goals={", p50": "p50", ", p99": "p99"})
    for name, take in {"p50": _p50, "p99": _p99}.items():
        yield Chart(
            f"viewers-{name}", f"Latency at a steady pace, {name}", _VIEWERS, f"{name}, ms", curves(found, take)
        )


def _p50(outcome: Outcome) -> float:
    return outcome.p50


def _p99(outcome: Outcome) -> float:
    return outcome.p99
