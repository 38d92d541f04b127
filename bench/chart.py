"""Growth curves as SVG: both axes logarithmic, panels side by side, readable on a light and on a dark page."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from xml.sax.saxutils import escape

from bench.servers import BARE, FLOOR, OURS, PLAIN, SEND_TEXT, SSE_STARLETTE, STREAMING, WEBSOCKETS

PANEL_WIDTH, PANEL_HEIGHT = 360, 280
LEFT, TOP, GAP, BELOW = 78, 74, 34, 58
LEGEND_ROW, LEGEND_COLUMN = 24, 250
FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
MARKS = ("circle", "circle", "square", "diamond", "triangle", "cross", "triangle", "square")
# Told apart by the colour-blind too, and by their marks; at least 3:1 against the page. Light page, dark page.
COLOURS = (
    ("#0b5cad", "#6cb6ff"),
    ("#0b5cad", "#6cb6ff"),
    ("#b54708", "#f0883e"),
    ("#7d4e9e", "#d2a8ff"),
    ("#a3296a", "#ff8fc7"),
    ("#1a7f5a", "#56d39b"),
    ("#7a6200", "#e3b341"),
    ("#57606a", "#a8b1bb"),
)
DASHES = ("", "6 4", "", "", "", "", "2 3", "2 3")
# Each has the same colour in every chart.
NAMES = (OURS, PLAIN, *(peer.name for peer in (SSE_STARLETTE, STREAMING, SEND_TEXT, WEBSOCKETS, BARE)), FLOOR)


@dataclass(frozen=True, slots=True)
class Series:
    """One line, of one of NAMES. Its points are (x, y), both above 0, in the order of x."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    series: Sequence[Series]


@dataclass(slots=True)
class Chart:
    """`name` is that of its file; `x` and `y` label the axes, units included."""

    name: str
    title: str
    x: str
    y: str
    panels: list[Panel] = field(default_factory=list[Panel])
    kind: Literal["chart"] = "chart"

    @property
    def names(self) -> list[str]:
        """All series, ours first, each once."""
        found = dict.fromkeys(series.name for panel in self.panels for series in panel.series)
        return sorted(found, key=NAMES.index)

    @property
    def points(self) -> list[tuple[float, float]]:
        return [point for panel in self.panels for series in panel.series for point in series.points]


@dataclass(frozen=True, slots=True)
class Axis:
    """Places values from `low` to `high` on a line of `length` pixels from `start` on; a negative one goes up."""

    low: float
    high: float
    start: float
    length: float

    def at(self, value: float) -> float:
        return self.start + self.length * math.log(value / self.low) / math.log(self.high / self.low)


def steps(low: float, high: float) -> list[float]:
    """1, 2, 5, 10 ... from the last at or below `low` to the first at or above `high`; decades where they are many."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1, 2, 5) if last - first <= 3 else (1,)
    # One decade more on either side: a logarithm may have been rounded across a whole number.
    every = [float(f"{factor}e{power}") for power in range(first - 1, last + 2) for factor in factors]
    begin = max(i for i, value in enumerate(every) if value <= low)
    end = min(i for i, value in enumerate(every) if value >= high and i > begin)
    return every[begin : end + 1]


def svg(chart: Chart) -> str:
    """The chart as a document of its own. It needs at least one point."""
    names = chart.names
    width = LEFT + len(chart.panels) * (PANEL_WIDTH + GAP)
    columns = max(1, (width - LEFT) // LEGEND_COLUMN)
    height = TOP + PANEL_HEIGHT + BELOW + LEGEND_ROW * math.ceil(len(names) / columns) + 12
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-labelledby="title told" font-family="{FONT}" font-size="13">',
        f'<title id="title">{escape(chart.title)}</title>',
        f'<desc id="told">{escape(_told(chart))}</desc>',
        f"<style>{_style()}</style>",
        f'<rect class="page" width="{width}" height="{height}" rx="6"/>',
        _text(LEFT, 28, chart.title, size=16, weight=600),
        f'<text class="ink" transform="translate(20 {TOP + PANEL_HEIGHT / 2:.0f}) rotate(-90)" '
        f'text-anchor="middle">{escape(chart.y)}</text>',
    ]
    for number, panel in enumerate(chart.panels):
        parts += _panel(chart, panel, LEFT + number * (PANEL_WIDTH + GAP), first=number == 0)
    for number, name in enumerate(names):
        x, y = LEFT + number % columns * LEGEND_COLUMN, TOP + PANEL_HEIGHT + BELOW + 14 + number // columns * LEGEND_ROW
        parts.append(_legend(name, x, y))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _told(chart: Chart) -> str:
    """The figures in words, for who can't see the lines."""
    lines = [f"{chart.y} over {chart.x}, logarithmic axes."]
    for panel in chart.panels:
        for series in panel.series:
            points = ", ".join(f"{y:.3g} at {x:,.0f}" for x, y in series.points)
            lines.append(f"{panel.title}, {series.name}: {points}.")
    return " ".join(lines)


def _style() -> str:
    """Colours in both lights. The page is painted, since what shows the image may be of another light than its page."""
    light = [".page{fill:#fff;stroke:#d0d7de}.ink{fill:#1f2328}.soft{fill:#57606a}.grid{stroke:#d8dee4}"]
    dark = [".page{fill:#0d1117;stroke:#30363d}.ink{fill:#e6edf3}.soft{fill:#9ea7b3}.grid{stroke:#30363d}"]
    for number, (on_light, on_dark) in enumerate(COLOURS):
        light.append(f".l{number}{{stroke:{on_light}}}.m{number}{{fill:{on_light}}}")
        dark.append(f".l{number}{{stroke:{on_dark}}}.m{number}{{fill:{on_dark}}}")
    return f".line{{fill:none}}{''.join(light)}@media (prefers-color-scheme:dark){{{''.join(dark)}}}"


def _panel(chart: Chart, panel: Panel, left: float, *, first: bool) -> Iterator[str]:
    """Axes are those of the whole chart, so that its panels can be compared."""
    xs, ys = sorted({x for x, _ in chart.points}), [y for _, y in chart.points]
    rows = steps(min(ys), max(ys))
    across = Axis(xs[0], xs[-1] if xs[-1] > xs[0] else xs[0] * 10, left + 14, PANEL_WIDTH - 28)
    up = Axis(rows[0], rows[-1], TOP + PANEL_HEIGHT, -PANEL_HEIGHT)
    yield _text(left, TOP - 14, panel.title, weight=600)
    for value in rows:
        y = up.at(value)
        yield f'<line class="grid" x1="{left}" x2="{left + PANEL_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
        if first:
            yield _text(left - 8, y + 4, f"{value:,.10g}", anchor="end", soft=True)
    for value in xs:
        yield _text(across.at(value), TOP + PANEL_HEIGHT + 18, f"{value:,.0f}", anchor="middle", soft=True)
    yield _text(left + PANEL_WIDTH / 2, TOP + PANEL_HEIGHT + 40, chart.x, anchor="middle")
    for series in sorted(panel.series, key=lambda series: NAMES.index(series.name), reverse=True):
        yield _line(series, across, up)


def _line(series: Series, across: Axis, up: Axis) -> str:
    kind = NAMES.index(series.name)
    places = [(across.at(x), up.at(y)) for x, y in series.points]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    marks = "".join(_mark(kind, x, y) for x, y in places)
    return f'<path class="line l{kind}" {_stroke(kind)} d="{path}"/>{marks}'


def _legend(name: str, x: float, y: float) -> str:
    kind = NAMES.index(name)
    line = f'<path class="line l{kind}" {_stroke(kind)} d="M{x} {y}h32"/>'
    return line + _mark(kind, x + 16, y) + _text(x + 40, y + 4, name, weight=600 if name == OURS else 400)


def _stroke(kind: int) -> str:
    dashes = f' stroke-dasharray="{DASHES[kind]}"' if DASHES[kind] else ""
    return f'stroke-width="{3 if kind == 0 else 1.8}"{dashes}'


_SHAPES: Mapping[str, str] = {
    "circle": "m-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0z",
    "square": "m-4-4h8v8h-8z",
    "diamond": "m0-5.5l5.5 5.5l-5.5 5.5l-5.5-5.5z",
    "triangle": "m0-5.5l5.5 9.5h-11z",
    "cross": "m-1.5-5h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5v-3h3.5z",
}


def _mark(kind: int, x: float, y: float) -> str:
    return f'<path class="m{kind}" d="M{x:.1f} {y:.1f}{_SHAPES[MARKS[kind]]}"/>'


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", size: int = 13, weight: int = 400, soft: bool = False
) -> str:
    shown = f'class="{"soft" if soft else "ink"}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {shown}>{escape(text)}</text>'
