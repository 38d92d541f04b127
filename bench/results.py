"""What was measured, section by section: kept as JSON, and put into RESULTS.md with its charts and its goals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from bench.chart import Chart, svg
from bench.goals import standing
from bench.report import Table, markdown

PAGE = Path(__file__).parent / "RESULTS.md"
FIGURES = Path(__file__).parent / "figures"
KEPT = "figures.json"
BEGIN, END = "<!-- figures: written by `dev.py bench --write` -->", "<!-- end of figures -->"

Part = Annotated[Table | Chart, Field(discriminator="kind")]


@dataclass(slots=True)
class Section:
    """`failure` says why the rest of it is missing."""

    parts: list[Part] = field(default_factory=list[Part])
    failure: str = ""

    @property
    def tables(self) -> list[Table]:
        return [part for part in self.parts if isinstance(part, Table)]

    @property
    def charts(self) -> list[Chart]:
        return [part for part in self.parts if isinstance(part, Chart) and part.points]


@dataclass(slots=True)
class Results:
    """All sections that were measured on one machine."""

    machine: str
    sections: dict[str, Section] = field(default_factory=dict[str, Section])

    @property
    def tables(self) -> list[Table]:
        return [table for section in self.sections.values() for table in section.tables]

    def ordered(self, names: Sequence[str]) -> "Results":
        return Results(self.machine, {name: self.sections[name] for name in names if name in self.sections})


_RESULTS = TypeAdapter(Results)


def load(folder: Path = FIGURES) -> Results:
    """What has been kept; nothing of no machine where nothing was."""
    path = folder / KEPT
    return _RESULTS.validate_json(path.read_bytes()) if path.exists() else Results("nothing")


def write(results: Results, page: Path = PAGE, folder: Path = FIGURES) -> None:
    """Puts the figures between the marks of the page, whose words around them stay, and draws the charts."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        raise ValueError(f"expected the lines {BEGIN!r} and {END!r} in {page.name}")
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.svg"):
        old.unlink()
    for chart in (chart for section in results.sections.values() for chart in section.charts):
        (folder / f"{chart.name}.svg").write_text(svg(chart))
    (folder / KEPT).write_bytes(_RESULTS.dump_json(results, indent=1) + b"\n")
    page.write_text(f"{before}{BEGIN}\n\n{text(results)}\n{END}{after}")


def text(results: Results) -> str:
    """All of it in markdown; charts are links to their files."""
    parts = [f"Measured on {results.machine}.\n", f"### Goals\n\n{standing(results.tables)}"]
    for name, section in results.sections.items():
        parts += [_link(part) if isinstance(part, Chart) else markdown(part) for part in _shown(section)]
        if section.failure:
            parts.append(f"- Section `{name}` is not complete: {section.failure}\n")
    return "\n".join(parts)


def _shown(section: Section) -> list[Table | Chart]:
    """Neither empty tables nor empty charts: not every run measures all."""
    return [part for part in section.parts if (part.rows if isinstance(part, Table) else part.points)]


def _link(chart: Chart) -> str:
    return f"![{chart.title}]({FIGURES.name}/{chart.name}.svg)\n"


def figures(results: Results) -> Mapping[str, object]:
    """Plain data, for JSON."""
    return _RESULTS.dump_python(results, mode="json")
