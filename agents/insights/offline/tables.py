"""Figures with their units and the SQL that gave them: raw between the agents, in words for people."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from askstream.agents.insights.periods import Period
from askstream.agents.insights.sql import Value

CHANGE: Final = "±"  # before a unit: a difference, shown with its sign


@dataclass(frozen=True, slots=True)
class Table:
    """`units` has one for each column; `chart` is how to draw it, "" for not at all."""

    title: str
    columns: tuple[str, ...]
    units: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    sql: str
    chart: str = ""

    @property
    def unit(self) -> str:
        return self.units[1] if len(self.units) > 1 else ""

    def column(self, number: int) -> list[float | None]:
        return [float(row[number] or 0) if row[number] is not None else None for row in self.rows]


@dataclass(frozen=True, slots=True)
class Query:
    """A SELECT, and what its columns are."""

    title: str
    sql: str
    columns: tuple[tuple[str, str], ...]  # label and unit
    chart: str = ""


def from_json(values: Mapping[str, Any]) -> list[Table]:
    """The tables in an agent's values."""
    return [
        Table(
            one["title"],
            tuple(one["columns"]),
            tuple(one["units"]),
            tuple(tuple(row) for row in one["rows"]),
            one["sql"],
            one["chart"],
        )
        for one in values.get("tables", ())
    ]


def markdown(table: Table) -> str:
    cells = ([shown(cell, unit) for cell, unit in zip(row, table.units, strict=True)] for row in table.rows)
    return grid(table.columns, cells)


def grid(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; every column but the first is set to the right."""
    rule = ["---", *["--:"] * (len(columns) - 1)]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in [columns, rule, *rows])


def shown(value: Value, unit: str) -> str:
    """`€1,235`, `38.1 %`, `1,234`, `+€5`; small amounts keep their cents."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return day(value) if unit == "day" else value
    if unit.startswith(CHANGE):
        return signed(value, unit.removeprefix(CHANGE))
    sign, size = ("−" if value < 0 and round(value, 2) else ""), abs(value)
    if unit == "%":
        return f"{sign}{size:.1f} %"
    euro, whole = ("€" if unit == "EUR" else ""), size == int(size) or (unit == "EUR" and size >= 1000)
    return f"{sign}{euro}{size:,.0f}" if whole else f"{sign}{euro}{size:,.2f}"


def signed(value: float, unit: str) -> str:
    """With its sign. A difference of two percentages is in points."""
    text = shown(value, unit)
    text = text.replace(" %", " points") if unit == "%" else text
    return text if text.startswith("−") else f"+{text}"


def change(now: float | None, then: float | None, unit: str) -> str:
    """`+€1,200 (+3.2 %)`; of percentages only the points, since per cent of per cent mislead."""
    if now is None or then is None:
        return "–"
    relative = "" if unit == "%" or not then else f" ({percent(100 * (now - then) / abs(then))})"
    return f"{signed(now - then, unit)}{relative}"


def percent(value: float) -> str:
    return f"{'−' if value < 0 else '+'}{abs(value):.1f} %"


def day(iso: str) -> str:
    one = date.fromisoformat(iso)
    return Period(one, one).label


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
