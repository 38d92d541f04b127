"""What was asked of the server before it was made fast, and how the measured figures stand to it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.report import Row, Table, ratio
from bench.servers import FLOOR

# A cost that grows by less than this over the whole range counts as flat: two runs differ by as much.
FLAT = 1.25
# Others are unhurt that get at least this share of what they got before.
UNHURT = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """`floor` is what the C send loop took on the machine for which the limit was set: it tells how fast that was."""

    what: str
    unit: str
    limit: float
    at_least: bool = False
    floor: float | None = None

    def met(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    @property
    def sign(self) -> str:
        return "≥" if self.at_least else "≤"


_CPU, _MS, _KB = "CPU s a million deliveries", "ms", "KB"

GOALS: Mapping[str, Goal] = {
    "rush 100": Goal(what="Fan-out to 100 viewers, under load", unit=_CPU, limit=1.3, floor=5.54),
    "rush 1000": Goal(what="Fan-out to 1,000 viewers, under load", unit=_CPU, limit=0.4, floor=7.43),
    "rush 5000": Goal(what="Fan-out to 5,000 viewers, under load", unit=_CPU, limit=0.4, floor=7.87),
    "single 100": Goal(what="The same, one event in flight, 100 viewers", unit=_CPU, limit=8, floor=4.9),
    "single 1000": Goal(what="The same, one event in flight, 1,000 viewers", unit=_CPU, limit=11),
    "p50 100": Goal(what="Latency, 100 events/s to 100 viewers, p50", unit=_MS, limit=1.2, floor=0.51),
    "p99 100": Goal(what="Latency, 100 events/s to 100 viewers, p99", unit=_MS, limit=3, floor=1.05),
    "p50 1000": Goal(what="Latency, 10 events/s to 1,000 viewers, p50", unit=_MS, limit=6, floor=4.37),
    "p99 1000": Goal(what="Latency, 10 events/s to 1,000 viewers, p99", unit=_MS, limit=15, floor=11.44),
    "durable": Goal(what="What group commit adds to the latency at p50", unit=_MS, limit=2),
    "waiting sse": Goal(what="An SSE viewer that only waits, one of 5,000", unit=_KB, limit=12),
    "waiting websocket": Goal(what="A WebSocket viewer that only waits, one of 5,000", unit=_KB, limit=16),
    "stalled memory": Goal(what="A viewer that stopped reading: a socket buffer", unit=_KB, limit=256),
    "connect": Goal(what="5,000 viewers connect", unit="s", limit=3),
    "text": Goal(what="From a model's piece of text to a viewer's frame, AutoGen included", unit="CPU µs", limit=60),
    "text p99": Goal(what="300 runs, 20 pieces/s each: a piece's delay, p99", unit=_MS, limit=50),
    "overhead": Goal(what="A run over HTTP beside `team.run_stream`", unit="times the CPU", limit=1.1),
    "first event": Goal(what="From a question to its first event", unit=_MS, limit=5),
    "first event busy": Goal(what="The same while 200 runs are going", unit=_MS, limit=5),
    "replay memory": Goal(what="10,000 events to a late viewer, from memory", unit="MB/s", limit=200, at_least=True),
    "replay sqlite": Goal(what="10,000 events to a late viewer, from SQLite", unit="MB/s", limit=50, at_least=True),
    "replay p99 100": Goal(what="Meanwhile 100 live viewers' latency, p99", unit=_MS, limit=3),
    "replay p99 1000": Goal(what="Meanwhile 1,000 live viewers' latency, p99", unit=_MS, limit=15),
    "journal": Goal(what="Durable events from 500 runs", unit="events/s", limit=40_000, at_least=True),
    "health": Goal(what="`askstream serve` answers /health", unit="s", limit=1.0),
    "help": Goal(what="`askstream --help`", unit="s", limit=0.3),
    "idle": Goal(what="5,000 viewers that only wait", unit="% of a core", limit=2),
    "lonely 1000": Goal(what="1,000 runs with a viewer each, 10 events/s a run", unit=_CPU, limit=40),
    "stalled": Goal(
        what="One of 20 viewers stops reading: what the others still get",
        unit="of before",
        limit=UNHURT,
        at_least=True,
    ),
    "silence": Goal(what="Events that it lost without being told", unit="% of 60,000", limit=0),
    "flat viewers": Goal(what="Cost of a delivery at 5,000 viewers beside 10", unit="times", limit=FLAT),
    "flat runs": Goal(what="Cost of a delivery at 1,000 runs beside 1", unit="times", limit=FLAT),
}


def named(name: str) -> str:
    """The name of a goal, or "" where nothing was asked for such a case."""
    return name if name in GOALS else ""


def standing(tables: Iterable[Table]) -> str:
    """Every goal with its figures, as a table in markdown; those that were not measured say so."""
    rows: dict[str, list[Row]] = {name: [] for name in GOALS}
    for row in (row for table in tables for row in table.rows if row.goal):
        rows[row.goal].append(row)
    lines = [
        "| | goal | measured | goal ÷ C loop | measured ÷ C loop | met | met beside the C loop |",
        "|---|---:|---:|---:|---:|---|---|",
    ]
    lines += [_line(goal, [row for row in rows[name] if _ours(row) is not None]) for name, goal in GOALS.items()]
    return "\n".join(lines) + "\n"


def _line(goal: Goal, rows: Sequence[Row]) -> str:
    limit = f"{goal.sign} {_figure(goal.limit)}"
    head = f"| {goal.what} ({goal.unit}) | {limit} |"
    if not rows:
        return f"{head} not measured |  |  |  |  |"
    figures = "; ".join(f"{row.of} {_figure(_ours(row) or 0)}".strip() for row in rows)
    there = f"{goal.sign} {ratio(goal.limit, goal.floor)}" if goal.floor else ""
    here = list(_ratios(rows))
    beside = _yes([times <= goal.limit / goal.floor for times in here]) if goal.floor and here else ""
    met = _yes([goal.met(_ours(row) or 0) for row in rows])
    return f"{head} {figures} | {there} | {'; '.join(f'×{times:.2g}' for times in here)} | {met} | {beside} |"


def _yes(met: Sequence[bool]) -> str:
    return "yes" if all(met) else "**no**" if not any(met) else "**in part**"


def _ours(row: Row) -> float | None:
    return next(iter(row.figures.values()), None)


def _ratios(rows: Sequence[Row]) -> Iterator[float]:
    for row in rows:
        ours, floor = _ours(row), row.figures.get(FLOOR)
        if ours is not None and floor:
            yield ours / floor


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
