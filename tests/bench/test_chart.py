"""Growth curves: every point where its figures say, and nothing told by colour alone."""

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.chart import COLOURS, DASHES, MARKS, NAMES, Axis, Chart, Panel, Series, steps, svg
from bench.contenders import TITLES, contenders
from bench.servers import FLOOR as FLOOR_NAME
from bench.servers import SSE_STARLETTE, Transport

SVG = "{http://www.w3.org/2000/svg}"
OURS = Series("askstream", [(10, 2.0), (100, 1.0), (5000, 0.3)])
FLOOR = Series("C send loop", [(10, 2.5), (5000, 2.9)])
CHART = Chart(
    "cost", "Cost & growth", "viewers of one run", "CPU s", [Panel("SSE", [FLOOR, OURS]), Panel("WebSocket", [OURS])]
)

values = st.floats(min_value=1e-3, max_value=1e5)


def texts(chart: Chart) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg(chart)).iter(f"{SVG}text")]


@given(values, values)
def test_an_axis_begins_below_and_ends_above_all_figures(one: float, other: float) -> None:
    """No point lies outside, a single one neither, and steps are round."""
    low, high = min(one, other), max(one, other)
    found = steps(low, high)
    assert found[0] <= low
    assert found[-1] >= high
    assert len(found) > 1
    assert all(first < second for first, second in pairwise(found))
    assert all(f"{value:e}"[0] in "125" for value in found)


@pytest.mark.parametrize(("value", "place"), [(1, 300), (10, 200), (100, 100)])
def test_equal_ratios_are_equal_distances(value: float, place: float) -> None:
    """Logarithmic, and upwards where the length is negative."""
    assert Axis(1, 100, 300, -200).at(value) == pytest.approx(place)


def test_axes_say_what_and_in_which_unit() -> None:
    """Both labels, the title, the panels' names and every number of viewers."""
    found = texts(CHART)
    for label in ("Cost & growth", "viewers of one run", "CPU s", "SSE", "WebSocket", "10", "100", "5,000"):
        assert label in found


def test_every_line_is_in_the_legend_once_ours_first() -> None:
    """Also one that is in both panels."""
    assert CHART.names == ["askstream", "C send loop"]
    assert [text for text in texts(CHART) if text in NAMES] == ["askstream", "C send loop"]


def test_a_line_has_a_mark_at_every_point() -> None:
    """Ours is in two panels with three points each, and once in the legend."""
    ours = [path for path in ElementTree.fromstring(svg(CHART)).iter(f"{SVG}path") if path.get("class") == "m0"]
    assert len(ours) == 7


def test_a_higher_figure_is_drawn_higher() -> None:
    """SVG counts downwards."""
    line = next(p for p in ElementTree.fromstring(svg(CHART)).iter(f"{SVG}path") if p.get("class") == "line l0")
    heights = [float(y) for _, y in re.findall(r"([\d.]+) ([\d.]+)", line.get("d", ""))]
    assert heights == sorted(heights)


def test_a_chart_is_told_in_words_as_well() -> None:
    """For who can't see it."""
    told = ElementTree.fromstring(svg(CHART)).find(f"{SVG}desc")
    assert told is not None
    assert "SSE, askstream: 2 at 10, 1 at 100, 0.3 at 5,000." in (told.text or "")


def test_lines_are_told_apart_without_colours() -> None:
    """By mark and dashes together; and each has a colour for either light."""
    assert len(set(zip(MARKS, DASHES, strict=True))) == len(NAMES) == len(COLOURS)


@pytest.mark.parametrize("transport", TITLES)
def test_everybody_who_is_measured_can_be_drawn(transport: Transport) -> None:
    """Beside those that are measured only where their packages are."""
    assert {server.name for server in contenders(transport, plain=True, bare=True)} < set(NAMES)
    assert {FLOOR_NAME, SSE_STARLETTE.name} < set(NAMES)


@pytest.mark.parametrize("light", [0, 1])
def test_lines_stand_out_from_the_page(light: int) -> None:
    """At least 3:1, as WCAG 1.4.11 wants it of graphics."""
    page = luminance(("#ffffff", "#0d1117")[light])
    for colours in COLOURS:
        line = luminance(colours[light])
        assert (max(line, page) + 0.05) / (min(line, page) + 0.05) >= 3
    assert "prefers-color-scheme:dark" in svg(CHART)


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
