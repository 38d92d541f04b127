"""Figures as tables, section by section: kept as JSON, and put into RESULTS.md with the goals."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

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


def write(results: Results, standing: str, page: Path = PAGE, kept: Path = KEPT) -> None:
    """Put the figures between the marks of the page and keep its other text. `standing` is the table of goals."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        raise ValueError(f"expected the lines {BEGIN!r} and {END!r} in {page.name}")
    kept.parent.mkdir(exist_ok=True)
    kept.write_bytes(_RESULTS.dump_json(results, indent=1) + b"\n")
    page.write_text(f"{before}{BEGIN}\n\n{text(results, standing)}\n{END}{after}")


def text(results: Results, standing: str) -> str:
    """Return all of it as Markdown."""
    parts = [f"Measured on {results.machine}.\n", f"### Goals\n\n{standing}"]
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
