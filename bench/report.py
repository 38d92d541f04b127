"""Figures as tables, section by section: kept as JSON, and put into RESULTS.md with the goals.

The goals are ratios to peers of the same run. An absolute figure belongs to a machine: it is a goal only for bytes, for
shares, and for losses.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from bench.servers import BARE, FLOOR, MEMORY, OURS, PLAIN, SEND_TEXT, SSE_STARLETTE, STREAMING

PAGE = Path(__file__).parent / "RESULTS.md"
KEPT = Path(__file__).parent / "figures" / "figures.json"
BEGIN, END = "<!-- figures: written by `dev.py bench --write` -->", "<!-- end of figures -->"


@dataclass(frozen=True, slots=True)
class Row:
    """One case. The first figure is ours; None was not measured.

    `goal` is the key of its goals, if any, and `of` names this case of those goals.
    """

    case: str
    figures: Mapping[str, float | None]
    digits: int = 2
    goal: str = ""
    of: str = ""


@dataclass(slots=True)
class Table:
    """`better` says how to read the ratios, which are ours divided by the peer's. Without it there are no ratios."""

    title: str
    unit: str
    rows: list[Row] = field(default_factory=list[Row])
    notes: list[str] = field(default_factory=list[str])
    better: Literal["less", "more", ""] = "less"


@dataclass(slots=True)
class Section:
    """`failure` says why the rest of it is missing."""

    tables: list[Table] = field(default_factory=list[Table])
    failure: str = ""


@dataclass(slots=True)
class Results:
    """All sections that were measured on one machine."""

    machine: str
    sections: dict[str, Section] = field(default_factory=dict[str, Section])

    @property
    def rows(self) -> Iterable[Row]:
        return (row for section in self.sections.values() for table in section.tables for row in table.rows)


_RESULTS = TypeAdapter(Results)


def load(path: Path = KEPT) -> Results:
    """Return the kept results; without a file an empty one, of no machine."""
    return _RESULTS.validate_json(path.read_bytes()) if path.exists() else Results("nothing")


def write(results: Results, page: Path = PAGE, kept: Path = KEPT) -> None:
    """Put the figures between the marks of the page and keep its other text."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        raise ValueError(f"expected the lines {BEGIN!r} and {END!r} in {page.name}")
    kept.parent.mkdir(exist_ok=True)
    kept.write_bytes(_RESULTS.dump_json(results, indent=1) + b"\n")
    page.write_text(f"{before}{BEGIN}\n\n{text(results)}\n{END}{after}")


def text(results: Results) -> str:
    """Return all of it as Markdown."""
    parts = [f"Measured on {results.machine}.\n", f"### Goals\n\n{standing(results.rows)}"]
    for name, section in results.sections.items():
        parts += [markdown(table) for table in section.tables if table.rows]
        if section.failure:
            parts.append(f"- Section `{name}` is not complete: {section.failure}\n")
    return "\n".join(parts)


def markdown(table: Table) -> str:
    columns = list(dict.fromkeys(name for row in table.rows for name in row.figures))
    better = f"; {table.better} is better" if table.better else ""
    lines = [f"### {table.title}", "", f"{table.unit}{better}.", ""]
    lines += ["| | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    lines += [
        f"| {row.case} | {' | '.join(_cell(row, name, columns[0], table) for name in columns)} |" for row in table.rows
    ]
    if table.notes:
        lines += ["", *(f"- {note}" for note in dict.fromkeys(table.notes))]
    return "\n".join(lines) + "\n"


def _cell(row: Row, name: str, ours: str, table: Table) -> str:
    value, own = row.figures.get(name), row.figures.get(ours)
    times = f" ({ratio(own / value)})" if table.better and name != ours and own is not None and value else ""
    return "" if value is None else f"{value:,.{row.digits}f}{times}"


def ratio(times: float) -> str:
    """Format to two significant digits."""
    return f"×{times:{'.0f' if times >= 10 else '.1f' if times >= 1 else '.2f' if times >= 0.1 else '.2g'}}"


AUTOGEN = "AutoGen's run_stream"
STARLETTE = "Starlette and uvicorn alone"
PYTHON = "Python alone"
IMPORT = "AutoGen's import alone"
UNDISTURBED = "the same, undisturbed"
SQLITE = "bare SQLite, 500 rows a commit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """`limit` is for the figure of `by` divided by that of `peer`; without a peer for the figure itself, in `unit`.

    `key` is the `goal` of its rows.
    """

    key: str
    what: str
    limit: float
    peer: str = ""
    by: str = OURS
    unit: str = ""
    at_least: bool = False

    def measured(self, row: Row) -> float | None:
        value = row.figures.get(self.by)
        if not self.peer or value is None:
            return value
        peer = row.figures.get(self.peer)
        return value / peer if peer else None

    def is_met(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    def shown(self, value: float) -> str:
        return ratio(value) if self.peer else f"{value:,.3g} {self.unit}".strip()


_C, _BARE, _SSE = FLOOR.name, BARE.name, SSE_STARLETTE.name

GOALS: Sequence[Goal] = (
    Goal(key="lonely 1000", what="CPU of 1,000 runs with a viewer each", peer=_BARE, limit=2.0),
    Goal(key="lonely 1000", what="CPU of 1,000 runs with a viewer each", peer=_SSE, limit=1.0),
    Goal(key="lonely p50 1000", what="Latency there, p50", peer=_SSE, limit=1.0),
    Goal(key="lonely flat", what="Cost of a delivery at 1,000 runs beside 1", limit=1.25, unit="times"),
    Goal(key="single 100", what="CPU of one event in flight, 100 viewers", peer=_C, limit=2.0),
    Goal(key="single 1000", what="CPU of one event in flight, 1,000 viewers", peer=_C, limit=2.0),
    Goal(key="rush 100", what="CPU of fan-out to 100 viewers", peer=_C, limit=0.23),
    Goal(key="rush 1000", what="CPU of fan-out to 1,000 viewers", peer=_C, limit=0.054),
    Goal(key="rush 5000", what="CPU of fan-out to 5,000 viewers", peer=_C, limit=0.051),
    Goal(key="rush 100", what="The same on plain ASGI, WebSocket", peer=SEND_TEXT.name, by=PLAIN, limit=1.0),
    Goal(key="single 100", what="One event in flight there", peer=SEND_TEXT.name, by=PLAIN, limit=1.0),
    Goal(key="rush flat", what="Cost of a delivery at 5,000 viewers beside 10", limit=1.25, unit="times"),
    Goal(key="p50 100", what="Latency at a steady pace, 100 viewers, p50", peer=_C, limit=2.4),
    Goal(key="p50 100", what="The same, beside a journal in memory", peer=MEMORY, limit=1.5),
    Goal(key="p99 100", what="Latency at a steady pace, 100 viewers, p99", peer=_C, limit=2.9),
    Goal(key="p50 1000", what="Latency at a steady pace, 1,000 viewers, p50", peer=_C, limit=1.4),
    Goal(key="p99 1000", what="Latency at a steady pace, 1,000 viewers, p99", peer=_C, limit=1.3),
    Goal(key="connect", what="5,000 SSE viewers connect", peer=STREAMING.name, limit=1.0),
    Goal(key="connect", what="5,000 WebSockets connect", peer=SEND_TEXT.name, limit=1.0),
    Goal(key="memory", what="Memory of an SSE viewer that waits", peer=STREAMING.name, limit=0.45),
    Goal(key="memory", what="Memory of a WebSocket viewer that waits", peer=SEND_TEXT.name, limit=0.58),
    Goal(key="idle", what="5,000 viewers that wait", limit=2, unit="% of a core"),
    Goal(key="journal", what="Durable events from 500 runs", peer=SQLITE, limit=1.7, at_least=True),
    Goal(key="replay memory", what="A late viewer reads from memory", peer=_C, limit=0.065, at_least=True),
    Goal(key="replay SQLite", what="A late viewer reads from SQLite", peer=_C, limit=0.016, at_least=True),
    Goal(key="replay p99", what="Live viewers meanwhile, p99", peer=UNDISTURBED, limit=2.0),
    Goal(key="stalled", what="A viewer stops reading: what others get", peer=UNDISTURBED, limit=0.9, at_least=True),
    Goal(key="stalled memory", what="Memory that it costs: a socket buffer", limit=256, unit="KB"),
    Goal(key="stalled lost", what="Events that it loses without a notice", limit=0, unit="%"),
    Goal(key="run", what="CPU of a run over HTTP", peer=AUTOGEN, limit=1.1),
    # A whole run over HTTP, with each piece an event of its own: durable, and sent to a viewer.
    Goal(key="written", what="CPU of a run that writes 200 pieces of text", peer=AUTOGEN, limit=0.55),
    Goal(key="delay", what="A piece's delay, 300 runs, p99", peer=AUTOGEN, limit=0.1),
    Goal(key="first event", what="From a question to its first event", peer=STARLETTE, limit=4.0),
    Goal(key="health", what="`askstream serve` until /health answers", peer=STARLETTE, limit=2.2),
    Goal(key="help", what="`askstream --help`", peer=PYTHON, limit=20),
    Goal(key="cold", what="The first question after a start: its first turn", peer=IMPORT, limit=1.0),
    Goal(key="meanwhile", what="/health meanwhile, p99", limit=100, unit="ms"),
)  # fmt: skip


def standing(rows: Iterable[Row]) -> str:
    """Return all goals with their figures as a Markdown table. A goal without figures says so."""
    rows = list(rows)
    lines = ["| | goal | measured | met |", "|---|---:|---:|---|"]
    return "\n".join([*lines, *(_line(goal, rows) for goal in GOALS)]) + "\n"


def _line(goal: Goal, rows: Sequence[Row]) -> str:
    found = [(row.of, value) for row in rows if row.goal == goal.key if (value := goal.measured(row)) is not None]
    limit = f"{'≥' if goal.at_least else '≤'} {goal.shown(goal.limit)} {goal.peer}".strip()
    if not found:
        return f"| {goal.what} | {limit} | not measured | |"
    values = "; ".join(f"{of} {goal.shown(value)}".strip() for of, value in found)
    met = [goal.is_met(value) for _, value in found]
    return f"| {goal.what} | {limit} | {values} | {'yes' if all(met) else '**in part**' if any(met) else '**no**'} |"
