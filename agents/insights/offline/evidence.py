"""Figures as the agents hand them on: Markdown that a person reads and the next agent parses. Also how numbers look."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

_SQL: Final = re.compile(r"```sql\n(.*?)\n```", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Evidence:
    """A statement with its table and the SQL that gave it."""

    title: str
    text: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    sql: str = ""

    def column(self, name: str) -> list[float | None]:
        """The numbers of one column; None where it has none."""
        place = self.columns.index(name)
        return [number(row[place]) for row in self.rows]


def to_markdown(evidence: Evidence) -> str:
    parts = [f"### {evidence.title}", evidence.text, table(evidence.columns, evidence.rows)]
    if evidence.sql:
        parts.append(f"```sql\n{evidence.sql}\n```")
    return "\n\n".join(part for part in parts if part)


def from_markdown(text: str) -> list[Evidence]:
    """Each section of the text that begins with `###`, in order. What `to_markdown` wrote comes back equal."""
    return [_section(part) for part in re.split(r"^### ", text, flags=re.MULTILINE)[1:]]


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; every column but the first one is set to the right."""
    if not columns:
        return ""
    rule = ["---", *["--:"] * (len(columns) - 1)]
    lines = [columns, rule, *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def amount(value: float | None, unit: str) -> str:
    """`€1,235`, `38.1%`, `1,234`; amounts of money below 100 keep their cents."""
    if value is None:
        return "none"
    sign = "−" if value < 0 and round(value, 2) else ""
    size = abs(value)
    match unit:
        case "EUR":
            return f"{sign}€{size:,.2f}" if 0 < size < 100 else f"{sign}€{size:,.0f}"
        case "%":
            return f"{sign}{size:.1f}%"
        case _:
            return f"{sign}{size:,.0f}" if size == int(size) else f"{sign}{size:,.1f}"


def signed(value: float | None, unit: str) -> str:
    """The same with its sign; a difference of percentages is in points."""
    if value is None:
        return "none"
    text = amount(value, unit)
    text = text.replace("%", " points") if unit == "%" else text
    return text if text.startswith("−") else f"+{text}"


def percent(current: float | None, previous: float | None) -> str:
    """The relative change, as `+3.2%`; a dash where there is nothing to relate it to."""
    if current is None or not previous:
        return "–"
    value = 100 * (current - previous) / abs(previous)
    return f"{'−' if value < 0 else '+'}{abs(value):.1f}%"


def number(text: str) -> float | None:
    """Read a number that `amount`, `signed` or `percent` wrote."""
    plain = re.sub(r"[€,%+*]|points?", "", text).replace("−", "-").strip()
    try:
        return float(plain)
    except ValueError:
        return None


def _section(text: str) -> Evidence:
    title, _, body = text.partition("\n")
    sql = _SQL.search(body)
    rest = _SQL.sub("", body)
    lines = [line for line in rest.splitlines() if line.startswith("|")]
    cells = [tuple(_uncell(cell) for cell in re.split(r"(?<!\\)\|", line)[1:-1]) for line in lines]
    prose = "\n".join(line for line in rest.splitlines() if not line.startswith("|")).strip()
    return Evidence(
        title.strip(),
        prose,
        cells[0] if cells else (),
        tuple(cells[2:]),
        sql[1] if sql else "",
    )


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _uncell(text: str) -> str:
    return text.strip().replace("\\|", "|")
