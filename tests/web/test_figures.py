"""Results of tools on the page: tables, values and charts."""

from typing import Any

import pytest
from playwright.sync_api import Page

pytestmark = pytest.mark.browser

SHOW = """async (value) => {
  const { show } = await import('/values.js');
  const node = show(value);
  document.body.replaceChildren(node);
  const cells = (row) => [...row.cells].map((cell) => cell.textContent);
  return { text: node.textContent, html: node.outerHTML, rows: [...node.querySelectorAll('tr')].map(cells) };
}"""

DRAW = """async (chart) => {
  const { readChart } = await import('/chart-spec.js');
  const { chartFigure } = await import('/chart.js');
  const sheet = document.createElement('style');
  sheet.textContent = ':root{--series-0:#0000ff;--muted:#000;--line:#ccc} .plot{width:600px} .ring{width:100px}';
  const figure = chartFigure(readChart({ chart }));
  document.body.replaceChildren(sheet, figure);
  await new Promise((resolve) => setTimeout(resolve, 200));
  const canvas = figure.querySelector('canvas');
  const pixels = canvas?.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data ?? [];
  let blue = 0;
  for (let i = 0; i < pixels.length; i += 4) {
    if (pixels[i] === 0 && pixels[i + 2] === 255 && pixels[i + 3] === 255) blue += 1;
  }
  const slices = [...figure.querySelectorAll('.slice')].map((slice) => slice.getAttribute('stroke-dasharray'));
  return { blue, slices: slices.map(parseFloat), text: figure.textContent };
}"""


def chart(kind: str, labels: list[str], values: list[float | None]) -> dict[str, Any]:
    return {
        "type": kind,
        "title": "Revenue",
        "labels": labels,
        "series": [{"name": "Revenue", "values": values}],
        "unit": "EUR",
    }


@pytest.mark.parametrize(
    "value",
    [
        {"columns": ["month", "revenue"], "rows": [["May", 1234.5], ["June", None]], "truncated": False},
        {"rows": [{"month": "May", "revenue": 1234.5}, {"month": "June"}]},
        [{"month": "May", "revenue": 1234.5}, {"month": "June", "revenue": None}],
        '[{"month": "May", "revenue": 1234.5}, {"month": "June"}]',
    ],
)
def test_rows_of_every_shape_become_a_table(blank: Page, value: Any) -> None:
    """Columns with rows, lists of objects, and either as text become a table with formatted figures."""
    assert blank.evaluate(SHOW, value)["rows"] == [["month", "revenue"], ["May", "1,234.5"], ["June", ""]]


def test_values_stay_text(blank: Page) -> None:
    """Names, cells and SQL are never read as HTML."""
    html = "<img src=x onerror=alert(1)>"
    shown = blank.evaluate(SHOW, {html: [{html: html}], "sql": f"SELECT '{html}'", "more": {"deep": {"er": [html]}}})
    assert "<img" not in shown["html"]
    assert shown["text"].count(html) == 5


def test_a_long_table_is_shown_a_hundred_rows_at_a_time(blank: Page) -> None:
    """A button shows the rest, and names how many there are."""
    assert len(blank.evaluate(SHOW, [{"n": n} for n in range(250)])["rows"]) == 101
    blank.get_by_role("button", name="Show 100 more rows of 250").click()
    blank.get_by_role("button", name="Show 50 more rows of 250").click()
    assert blank.locator("tr").count() == 251
    assert blank.get_by_role("button").count() == 0


def test_bars_are_as_long_as_their_values(blank: Page) -> None:
    """Half the value has half the pixels: bars start at zero."""
    full = blank.evaluate(DRAW, chart("bar", ["a", "b"], [100, 100]))["blue"]
    half = blank.evaluate(DRAW, chart("bar", ["a", "b"], [100, 50]))["blue"]
    assert full > 1000
    assert half / full == pytest.approx(0.75, abs=0.03)


def test_bars_with_long_names_and_lines_are_drawn(blank: Page) -> None:
    """Every chart draws on its canvas, even if figures are missing or negative."""
    assert blank.evaluate(DRAW, chart("bar", ["A long category name", "Another long name"], [100, -50]))["blue"] > 1000
    assert blank.evaluate(DRAW, chart("line", ["a", "b", "c"], [1, None, 3]))["blue"] > 10
    assert blank.evaluate(DRAW, chart("line", ["a", "b", "c"], [1, 2, 3]))["blue"] > 200


def test_shares_add_up_to_the_ring(blank: Page) -> None:
    """A quarter of the whole is a quarter of the ring; with a negative share it is drawn as bars."""
    drawn = blank.evaluate(DRAW, chart("pie", ["a", "b"], [25, 75]))
    assert drawn["slices"] == pytest.approx([0.25 * 251.33, 0.75 * 251.33], abs=0.01)
    assert "25%" in drawn["text"]
    assert blank.evaluate(DRAW, chart("pie", ["a", "b"], [25, -75]))["slices"] == []
