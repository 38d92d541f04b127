"""The gain of each wait between a model's chunk and a viewer's socket: the same measurement with and without it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from bench import servers
from bench.fanout import Plan, Scope, measure
from bench.machine import say
from bench.report import Row, Table
from bench.sections.journal import replays
from bench.sections.teams import Cost, Shape, compared, first_event_at_rest
from bench.servers import OURS, Journal
from bench.without import VARIABLE

WITHOUT = "without the wait"
_MILLION = "CPU s for a million deliveries"


Figure: TypeAlias = Callable[[Mapping[str, str]], float]
"""Measures our server with these variables."""


def waits(scope: Scope) -> Iterator[Table]:
    table = Table("What each wait buys", "Each figure has its own unit")
    for name, what, figure in _cases(scope):
        say(f"waits: {name}, {what}")
        table.rows.append(Row(f"{name}: {what}", {OURS: figure({}), WITHOUT: figure({VARIABLE: name})}))
    yield table


def _cases(scope: Scope) -> Iterator[tuple[str, str, Figure]]:
    seconds = 1.2 if scope.is_full else 0.6
    writers = Shape(runs=300 if scope.is_full else 50, agents=1, pieces=200, pause=0.05)
    fast, lonely = replace(writers, runs=20, pause=0.005), f"1,000 runs with a viewer each, {_MILLION}"
    yield "joining of chunks", "CPU ms of a run that writes 200 pieces a second", lambda extra: _cost(fast, extra).cpu
    paced = Plan(paced_seconds=2 * seconds, rate=10, rushes=2, patience=2)
    yield "commit delay", lonely, partial(_cpu, "paced", 1000, paced, 1000, "sqlite")
    cases: list[tuple[str, int, Journal]] = [
        ("commit delay", 100, "sqlite"),
        ("commit delay", 1000, "sqlite"),
        ("fan-out delay", 1000, "sqlite"),
        ("fan-out delay", 100, "memory"),
    ]
    for name, viewers, journal in cases:
        what = f"{viewers:,} viewers of a fast run, {journal} journal, {_MILLION}"
        yield name, what, partial(_cpu, "rush", viewers, Plan(seconds=seconds, rushes=2, patience=2), 1, journal)
    what = "100 live viewers beside late ones, p99 in ms"
    yield "replay gate", what, lambda extra: replays("sse", "memory", 100, 2 * seconds, extra)[2].p99_ms
    what = f"delay of a piece, {writers.runs} runs at once, p99 in ms"
    yield "start gate", what, lambda extra: _cost(writers, extra).p99
    yield "first event first", "from a question to its first event, p50 in ms", first_event_at_rest


def _cpu(figure: str, viewers: int, plan: Plan, runs: int, journal: Journal, extra: Mapping[str, str]) -> float:
    return measure(servers.ours("sse", journal=journal, extra=extra), viewers, plan, runs=runs).figures[figure]


def _cost(shape: Shape, extra: Mapping[str, str]) -> Cost:
    return compared([servers.here()], replace(shape, extra=extra), rounds=1)[OURS]
