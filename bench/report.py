"""Figures as tables: absolute ones, and beside each peer's how ours stands to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

RESULTS = Path(__file__).parent / "RESULTS.md"
BEGIN, END = "<!-- figures: written by `dev.py bench --write` -->", "<!-- end of figures -->"


@dataclass(frozen=True, slots=True)
class Row:
    """One case. The first figure is ours; a figure of None wasn't measured."""

    case: str
    figures: Mapping[str, float | None]
    digits: int = 2


@dataclass(slots=True)
class Table:
    """`higher_is_better` tells how the ratios are meant to be read; they are always ours divided by the peer's."""

    title: str
    unit: str
    rows: list[Row] = field(default_factory=list[Row])
    notes: list[str] = field(default_factory=list[str])
    higher_is_better: bool = False

    @property
    def columns(self) -> list[str]:
        return list(dict.fromkeys(name for row in self.rows for name in row.figures))


def markdown(table: Table) -> str:
    columns = table.columns
    better = "more" if table.higher_is_better else "less"
    lines = [f"### {table.title}", "", f"{table.unit}; {better} is better."]
    lines += ["", "| | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    lines += [_line(row, columns) for row in table.rows]
    if table.notes:
        lines += ["", *(f"- {note}" for note in dict.fromkeys(table.notes))]
    return "\n".join(lines) + "\n"


def _line(row: Row, columns: Sequence[str]) -> str:
    ours = next(iter(row.figures.values()))
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


def write(tables: Sequence[Table], machine: str, path: Path = RESULTS) -> None:
    """Puts the tables between the marks of the results; the words around them stay."""
    before, _, rest = path.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        raise ValueError(f"expected the lines {BEGIN!r} and {END!r} in {path.name}")
    figures = "\n".join(markdown(table) for table in tables)
    path.write_text(f"{before}{BEGIN}\n\nMeasured on {machine}.\n\n{figures}\n{END}{after}")
