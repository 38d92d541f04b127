"""The report: one page, its figures those of plain SQL one by one, and the SQL behind each."""

import sqlite3
from pathlib import Path

import pytest

from tests.agents.insights.offline.analyst_team import Story, ask
from tests.agents.insights.offline.scored import COST, ORDERS, REVENUE, UNITS, of, written

QUESTION = "Generate a monthly business report for our sales performance"
NOW, BEFORE, YEAR_AGO = (("2026-10-01", "2026-10-31"), ("2026-09-01", "2026-09-30"), ("2025-10-01", "2025-10-31"))
MEASURES = {
    "Revenue": (REVENUE, "EUR"), "Orders": (ORDERS, "n"), "Units": (UNITS, "n"),
    "Gross margin": (f"{REVENUE} - {COST}", "EUR"),
}  # fmt: skip
PARTS = {
    "Halo Floor Lamp": "p.name = 'Halo Floor Lamp'", "West": "r.name = 'West'",
    "Halvorsen Retail Group": "c.name = 'Halvorsen Retail Group'",
}  # fmt: skip


@pytest.fixture
async def story(path: Path) -> Story:
    return await ask(path, QUESTION)


def value(data: sqlite3.Connection, measure: str, days: tuple[str, str], extra: str = "1") -> float:
    return float(data.execute(of(measure, *days, extra)).fetchone()[0] or 0)


def moved(now: float, then: float, unit: str) -> str:
    size = written(abs(now - then), unit)
    share = 100 * (now - then) / then
    sign = "−" if now < then else "+"
    return f"{sign}{size} ({sign}{abs(share):.1f} %)"


async def test_the_first_sentence_has_the_figure_and_its_largest_cause(story: Story) -> None:
    """It says something."""
    headline = story.report.split("\n\n")[1]
    assert headline.startswith("Revenue fell by €42,266 (−8.0 %), from €525,164 in September 2026 to €482,897")
    assert "Mainly Halo Floor Lamp (−€34,914). It was out of stock from 2 October 2026" in headline


async def test_four_figures_have_their_changes_on_month_and_year(story: Story, data: sqlite3.Connection) -> None:
    """Each is that of plain SQL."""
    lines = [line for line in story.answer.splitlines() if line.startswith("| ")]
    rows = {row[0]: row[1:] for row in ([cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines)}
    for name, (measure, unit) in MEASURES.items():
        now, before, year = (value(data, measure, days) for days in (NOW, BEFORE, YEAR_AGO))
        assert rows[name] == [written(now, unit), moved(now, before, unit), moved(now, year, unit)]


async def test_one_chart_for_the_course_and_one_for_the_causes(story: Story, data: sqlite3.Connection) -> None:
    """The causes with what they moved on both; the values are those of plain SQL."""
    course, causes = story.charts
    assert (course["type"], causes["type"]) == ("line", "bar")
    assert course["labels"][-1] == "2026-10"
    for month, shown in zip(course["labels"], course["series"][0]["values"], strict=True):
        assert shown == pytest.approx(value(data, REVENUE, (f"{month}-01", f"{month}-31")))
    assert [one["name"] for one in causes["series"]] == ["Change on September 2026", "Change on October 2025"]
    assert causes["labels"][-1] == "Everything else"
    tests = {**PARTS, "Everything else": " AND ".join(f"NOT {test}" for test in PARTS.values())}
    assert set(causes["labels"]) == set(tests)
    for series, then in zip(causes["series"], (BEFORE, YEAR_AGO), strict=True):
        for name, shown in zip(causes["labels"], series["values"], strict=True):
            expected = value(data, REVENUE, NOW, tests[name]) - value(data, REVENUE, then, tests[name])
            assert shown == pytest.approx(expected)


async def test_each_finding_has_a_cause_and_its_size(story: Story, data: sqlite3.Connection) -> None:
    """On the month and on the year, everything else included."""
    findings = story.answer.partition("## Findings")[2]
    on_month, on_year = findings.split("**Against October 2025**")
    for text, then, names in ((on_month, BEFORE, ["Halo Floor Lamp"]), (on_year, YEAR_AGO, list(PARTS))):
        tests = {name: PARTS[name] for name in names}
        tests["Everything else"] = " AND ".join(f"NOT {test}" for test in tests.values())
        for name, test in tests.items():
            change = value(data, REVENUE, NOW, test) - value(data, REVENUE, then, test)
            line = next(line for line in text.splitlines() if name in line)
            assert f"{'−' if change < 0 else '+'}{written(abs(change), 'EUR')}" in line


async def test_it_ends_with_what_to_look_at_next(story: Story) -> None:
    """In questions that it answers."""
    closing = next(part for part in story.answer.split("\n\n") if part.startswith("**Next.**"))
    assert "West, Halo Floor Lamp" in closing or "Halo Floor Lamp, West" in closing
    assert "“Revenue of Halo Floor Lamp by month”" in closing


async def test_it_takes_few_tool_calls_and_stays_one_page(story: Story) -> None:
    """At most 25, and some 40 lines without the SQL."""
    assert len(story.calls) <= 25
    assert len(story.answer.splitlines()) < 45


async def test_each_figure_has_its_sql(story: Story, data: sqlite3.Connection) -> None:
    """The SQL in the report gives the figures again: key figures, causes, everything else."""
    names = [part.strip("*") for part in story.report.partition("## SQL")[2].split("\n\n") if part.startswith("**")]
    assert names[:3] == ["Key figures", "Revenue by month", "What moved"]
    blocks = [block.partition("\n```")[0] for block in story.report.split("```sql\n")[1:]]
    rows = [row for block in blocks for sql in block.split(";\n\n") for row in data.execute(sql).fetchall()]
    cells = {round(cell, 2) for row in rows for cell in row if isinstance(cell, int | float)}
    figures = [482897, 525164, 565, 9302, 4754, 39668, 79253, 46363]
    for figure in figures:
        assert any(round(cell) == figure for cell in cells), figure


async def test_quarterly_yearly_and_filtered_reports(path: Path, data: sqlite3.Connection) -> None:
    """The period follows the word; where there is nothing to compare with, that is said."""
    quarter = await ask(path, "quarterly sales report")
    assert quarter.report.startswith("# Quarterly sales report, Q3 2026")
    assert written(value(data, REVENUE, ("2026-07-01", "2026-09-30")), "EUR") in quarter.answer
    year = await ask(path, "Give me the annual report for 2025")
    assert written(value(data, REVENUE, ("2025-01-01", "2025-12-31")), "EUR") in year.answer
    assert "There is nothing to compare with" in year.answer
    north = await ask(path, "report for the North in Q2 2026")
    assert north.report.startswith("# Quarterly sales report in the North, Q2 2026")
    assert len(north.calls) <= 25


async def test_a_forecast_says_how_it_was_made_and_how_far_it_may_be_off(path: Path, data: sqlite3.Connection) -> None:
    """Method and error are told, and both can be checked."""
    story = await ask(path, "Forecast revenue for the next three months")
    months = [row[0] for row in data.execute("SELECT DISTINCT substr(ordered_on, 1, 7) FROM orders ORDER BY 1")]
    past = [value(data, REVENUE, (f"{month}-01", f"{month}-31")) for month in months]
    growth = sum(past[-3:]) / sum(past[-15:-12])
    assert f"November 2026: **{written(past[-12] * growth, 'EUR')}**" in story.answer
    assert "Method: the same month of the year before" in story.answer
    assert "Error: " in story.answer
