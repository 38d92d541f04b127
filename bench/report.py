"""Figures as tables: absolute ones, and beside each peer's how ours stands to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Row:
    """One case. The first figure is ours; a figure of None wasn't measured.

    `goal` names what was asked for it, if anything was, and `of` which of that goal's cases this is.
    """

    case: str
    figures: Mapping[str, float | None]
    digits: int = 2
    goal: str = ""
    of: str = ""


@dataclass(slots=True)
class Table:
    """`better` tells how ratios are meant to be read: always ours divided by the peer's. Without it there are none."""

    title: str
    unit: str
    rows: list[Row] = field(default_factory=list[Row])
    notes: list[str] = field(default_factory=list[str])
    better: Literal["less", "more", ""] = "less"
    kind: Literal["table"] = "table"

    @property
    def columns(self) -> list[str]:
        return list(dict.fromkeys(name for row in self.rows for name in row.figures))


def markdown(table: Table) -> str:
    columns = table.columns
    better = f"; {table.better} is better" if table.better else ""
    lines = [f"### {table.title}", "", f"{table.unit}{better}."]
    lines += ["", "| | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    lines += [_line(row, columns, ratios=bool(table.better)) for row in table.rows]
    if table.notes:
        lines += ["", *(f"- {note}" for note in dict.fromkeys(table.notes))]
    return "\n".join(lines) + "\n"


def _line(row: Row, columns: Sequence[str], *, ratios: bool) -> str:
    ours = next(iter(row.figures.values())) if ratios else None
    cells = [_cell(row.figures.get(name), ours, row.digits, first=i == 0) for i, name in enumerate(columns)]
    return f"| {row.case} | " + " | ".join(cells) + " |"


def _cell(value: float | None, ours: float | None, digits: int, *, first: bool) -> str:
    if value is None:
        return ""
    text = f"{value:,.{digits}f}"
    if first or ours is None or value <= 0:
        return text
    return f"{text} ({ratio(ours, value)})"


def ratio(ours: float, theirs: float) -> str:
    """Ours divided by theirs, to two significant digits."""
    times = ours / theirs
    form = ".0f" if times >= 10 else ".1f" if times >= 1 else ".2f" if times >= 0.1 else ".2g"
    return f"×{times:{form}}"
