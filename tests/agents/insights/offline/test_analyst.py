"""The offline analyst at work with the real tools: it finds what happened, and its figures are those of plain SQL."""

import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from askstream.agents.insights.offline.analyst import reply
from askstream.agents.insights.offline.conversation import Say
from askstream.agents.insights.offline.evidence import Evidence, from_markdown, number, to_markdown
from askstream.agents.insights.offline.forecast import forecast
from tests.agents.insights.figures import LINES, REVENUE, euro, revenue, table
from tests.agents.insights.offline.analyst_team import ORDER, ask


def one(data: sqlite3.Connection, query: str) -> Any:
    return data.execute(query).fetchone()[0]


# --- every job -------------------------------------------------------------------------------------------------------


async def test_the_monthly_report_has_all_that_a_report_needs(path: Path, data: sqlite3.Connection) -> None:
    """Figures, a table, charts, findings with their cause, and the SQL behind each figure."""
    story = await ask(path, "Generate a monthly business report for our sales performance")
    now, then, year_ago = (revenue(data, month) for month in ("2026-10", "2026-09", "2025-10"))
    key = {row[0]: row[1:] for row in table(story, "Key figures").rows}
    assert key["Revenue"][:2] == (euro(now), euro(then))
    assert key["Revenue"][3] == f"−{100 * (then - now) / then:.1f}%"
    assert number(key["Orders"][0]) == one(data, "SELECT COUNT(*) FROM orders WHERE ordered_on LIKE '2026-10%'")
    assert number(key["Units"][0]) == one(data, f"SELECT SUM(quantity) {LINES} LIKE '2026-10%'")
    assert euro(year_ago) in story.findings
    assert story.report.startswith("# Monthly sales report: October 2026")
    assert all(name in story.findings for name in ("Halo Floor Lamp", "West", "Halvorsen Retail Group"))
    assert {chart["type"] for chart in story.charts} == {"line", "bar"}
    assert all(f"*{chart['title']}*" in story.report for chart in story.charts)
    assert all(part in story.report for part in ("## Findings", "## Figures", "## SQL behind the figures"))


async def test_a_thought_names_its_period_as_it_is_written(path: Path) -> None:
    """A month keeps its capital letter."""
    story = await ask(path, "What was revenue in March 2026?")
    assert "Revenue of March 2026, and how it came about." in story.thoughts


async def test_the_charts_show_the_figures(path: Path, data: sqlite3.Connection) -> None:
    """What is drawn is what plain SQL gives."""
    story = await ask(path, "Generate a monthly business report")
    course = next(chart for chart in story.charts if chart["type"] == "line")
    assert course["labels"][-1] == "2026-10"
    assert course["series"][0]["values"] == [pytest.approx(revenue(data, month), abs=1) for month in course["labels"]]


async def test_every_sql_in_a_report_runs_and_its_headline_figures_come_out(
    path: Path, data: sqlite3.Connection
) -> None:
    """Whoever copies the SQL gets the figure that is printed."""
    story = await ask(path, "Generate a monthly business report")
    blocks = re.findall(r"```sql\n(.*?)\n```", story.report, re.DOTALL)
    statements = [statement for block in blocks for statement in block.split(";\n\n")]
    results = [data.execute(statement).fetchall() for statement in statements]
    assert len(results) > 10
    assert results[0] == [(pytest.approx(revenue(data, "2026-10"), abs=0.01), pytest.approx(revenue(data, "2026-09"), abs=0.01))]  # fmt: skip  # noqa: E501


async def test_quarterly_and_yearly_reports(path: Path, data: sqlite3.Connection) -> None:
    """The period follows the word; where there is nothing to compare with, that is said."""
    quarter = await ask(path, "quarterly sales report")
    year = await ask(path, "Give me the annual report for 2025")
    expected = one(data, f"SELECT {REVENUE} {LINES} BETWEEN '2026-07-01' AND '2026-09-30'")
    assert quarter.report.startswith("# Quarterly sales report: Q3 2026")
    assert table(quarter, "Key figures").rows[0][1] == euro(expected)
    assert table(year, "Key figures").rows[0][1] == euro(revenue(data, "2025"))
    assert "there is no 2024 to compare with" in year.report


FIGURES = {
    "What was revenue in March 2026?": f"SELECT {REVENUE} {LINES} LIKE '2026-03%'",
    "turnover last quarter": f"SELECT {REVENUE} {LINES} BETWEEN '2026-07-01' AND '2026-09-30'",
    "How many orders did we get in may?": "SELECT COUNT(*) FROM orders WHERE ordered_on LIKE '2026-05%'",
    "units sold between june and august 2026": f"SELECT SUM(quantity) {LINES} BETWEEN '2026-06-01' AND '2026-08-31'",
    "profit this year": "SELECT SUM(quantity * (unit_price * (1 - discount) - unit_cost))"
    f" {LINES} BETWEEN '2026-01-01' AND '2026-10-31'",
    "orders in the last 90 days": "SELECT COUNT(*) FROM orders WHERE ordered_on > '2026-08-02'",
    "reveneu in Septmber 2025": f"SELECT {REVENUE} {LINES} LIKE '2025-09%'",
    "sales of Halo Floor Lamp in H1 2026": f"SELECT {REVENUE} {LINES} BETWEEN '2026-01-01' AND '2026-06-30'"
    " AND product_id = (SELECT product_id FROM products WHERE name = 'Halo Floor Lamp')",
    "revenue from Halvorsen in 2025": f"SELECT {REVENUE} {LINES} LIKE '2025%' AND customer_id = 1",
}


@pytest.mark.parametrize(("question", "query"), FIGURES.items(), ids=FIGURES.keys())
async def test_a_figure_is_that_of_plain_sql(path: Path, data: sqlite3.Connection, question: str, query: str) -> None:
    """Any measure, any period, of whomever."""
    story = await ask(path, question)
    assert table(story, "Key figures").column(table(story, "Key figures").columns[1])[0] == round(one(data, query))
    assert story.charts


async def test_two_periods_are_compared(path: Path, data: sqlite3.Connection) -> None:
    """Both stand side by side, the later one first."""
    found = table(await ask(path, "Compare Q2 with Q3 2026"), "Key figures")
    assert found.columns[1:3] == ("Q3 2026", "Q2 2026")
    spans = (("2026-07-01", "2026-09-30"), ("2026-04-01", "2026-06-30"))
    values = tuple(euro(one(data, f"SELECT {REVENUE} {LINES} BETWEEN '{a}' AND '{b}'")) for a, b in spans)
    assert found.rows[0][1:3] == values


RANKS = {
    "Top 5 products by units in 2026": ("p.name", "SUM(l.quantity)", "DESC", 5, "2026"),
    "worst three categories by revenue in Q1 2026": (
        "k.name",
        "SUM(l.quantity * l.unit_price * (1 - l.discount))",
        "",
        3,
        "2026-0[123]",
    ),
    "best sales people by orders in 2025": ("s.name", "COUNT(DISTINCT o.order_id)", "DESC", 5, "2025"),
    "bottom 2 regions by margin in August 2026": (
        "r.name",
        "SUM(l.quantity * (l.unit_price * (1 - l.discount) - l.unit_cost))",
        "",
        2,
        "2026-08",
    ),
}


@pytest.mark.parametrize(("question", "asked"), RANKS.items(), ids=RANKS.keys())
async def test_the_order_is_that_of_plain_sql(
    path: Path, data: sqlite3.Connection, question: str, asked: tuple[str, str, str, int, str]
) -> None:
    """Top and bottom, of products, categories, people and regions."""
    name, value, direction, count, when = asked
    expected = data.execute(
        f"""SELECT {name} FROM orders o JOIN order_lines l USING (order_id) JOIN customers c USING (customer_id)
        JOIN regions r ON r.region_id = c.region_id JOIN sales_people s ON s.sales_person_id = o.sales_person_id
        JOIN products p USING (product_id) JOIN categories k USING (category_id)
        WHERE o.ordered_on GLOB '{when}*' GROUP BY {name} ORDER BY {value} {direction} LIMIT {count}"""
    ).fetchall()
    found = [call for call in (await ask(path, question)).calls if call.name == "run_sql"][0]  # noqa: RUF015
    assert [row[0] for row in found.result["rows"]] == [row[0] for row in expected]


async def test_customers_gained_and_lost(path: Path, data: sqlite3.Connection) -> None:
    """The large one that left heads the list; who has been silent for less than 60 days isn't in it."""
    story = await ask(path, "Which customers did we gain and lose this year?")
    lost = table(story, "Customers lost, January to October 2026")
    last = {row[0]: row[1] for row in data.execute(
        "SELECT c.name, MAX(ordered_on) FROM orders JOIN customers c USING (customer_id) GROUP BY 1"
    )}  # fmt: skip
    assert lost.rows[0][0] == "Halvorsen Retail Group"
    assert all("2026-01-01" <= last[row[0]] <= "2026-09-01" for row in lost.rows)
    expected = sum("2026-01-01" <= day <= "2026-09-01" for day in last.values())
    assert f"{expected} lost" in story.findings


async def test_stock_outs_and_what_they_cost(path: Path, data: sqlite3.Connection) -> None:
    """The days, and the sales of the four weeks before, scaled to them."""
    story = await ask(path, "Which products were out of stock in October 2026?")
    weeks = "BETWEEN '2026-09-04' AND '2026-10-01' AND product_id = 1"
    missed = one(data, f"SELECT {REVENUE} {LINES} {weeks}") / 28 * 26
    assert "**Halo Floor Lamp** was out of stock for 26 days from 2 October 2026" in story.findings
    assert euro(missed) in story.findings


async def test_a_trend_by_month(path: Path, data: sqlite3.Connection) -> None:
    """Every month once; what stands out is told."""
    story = await ask(path, "Trend of revenue by month since January 2025")
    course = table(story, "Month by month")
    assert len(course.rows) == 22
    assert course.rows[0] == ("2025-01", euro(revenue(data, "2025-01")))
    assert "highest in December 2025" in story.findings


async def test_a_forecast_says_how_it_was_made_and_how_far_it_may_be_off(path: Path, data: sqlite3.Connection) -> None:
    """Method and error are told, and both can be checked."""
    story = await ask(path, "Forecast revenue for the next three months")
    months = [row[0] for row in data.execute("SELECT DISTINCT substr(ordered_on, 1, 7) FROM orders ORDER BY 1")]
    past = [revenue(data, month) for month in months]
    growth = sum(past[-3:]) / sum(past[-15:-12])
    found = table(story, "Forecast of revenue")
    assert [row[0] for row in found.rows] == ["November 2026", "December 2026", "January 2027"]
    assert number(found.rows[0][1]) == pytest.approx(past[-12] * growth, rel=1e-4)
    assert "Method: the same month of the year before" in story.findings
    assert "Error: " in story.findings


async def test_what_data_there_is(path: Path) -> None:
    """Tables, what can be measured, and how far it reaches."""
    report = (await ask(path, "What data do you have?")).report
    assert all(words in report for words in ("order_lines", "Gross margin", "2026-10-31", "### What can be measured"))


NOT_KNOWN = {
    "What did we spend on marketing in March?": "There is no data on marketing.",
    "What was revenue in 2019?": "there is nothing on 2019",
    "Tell me a joke": "I did not understand",
    "": "I did not understand",
}


@pytest.mark.parametrize(("question", "told"), NOT_KNOWN.items(), ids=NOT_KNOWN.keys())
async def test_what_it_cant_do_it_says_and_offers_what_it_can(path: Path, question: str, told: str) -> None:
    """No figure is made up, and no chart drawn."""
    story = await ask(path, question)
    assert told in story.report
    assert "Generate a monthly sales report" in story.report
    assert "€" not in story.report
    assert story.charts == []


async def test_what_is_assumed_is_told(path: Path) -> None:
    """An open question is answered, with what was taken for granted."""
    story = await ask(path, "How are we doing in the north?")
    assert "No measure was named" in story.report
    assert "No period was named: taken as October 2026" in story.report
    assert "- Left open: measure, period" in story.plan()


# --- conversations ---------------------------------------------------------------------------------------------------


async def test_a_follow_up_question_takes_from_the_one_before(path: Path, data: sqlite3.Connection) -> None:
    """Same measure, the quarter before; then the same of another region."""
    before = await ask(path, "What was revenue in Q3 2026?", "And the quarter before?")
    north = await ask(path, "What was revenue in Q3 2026?", "And the quarter before?", "What about the north?")
    quarter = one(data, f"SELECT {REVENUE} {LINES} BETWEEN '2026-04-01' AND '2026-06-30'")
    region = one(data, f"SELECT {REVENUE} {LINES} BETWEEN '2026-04-01' AND '2026-06-30' AND customer_id IN"
                       " (SELECT customer_id FROM customers WHERE region_id = 1)")  # fmt: skip
    assert table(before, "Key figures").rows[0][1] == euro(quarter)
    assert table(north, "Key figures").rows[0][1] == euro(region)


async def test_it_works_without_names_on_the_messages(path: Path) -> None:
    """Some providers refuse the field: the texts themselves tell who speaks."""
    question = "Why did revenue fall in October 2026?"
    assert (await ask(path, question, named=False)).said == (await ask(path, question)).said


async def test_the_same_messages_give_the_same_reply(path: Path) -> None:
    """A pure function: no memory between two calls."""
    question = "Generate a monthly business report"
    assert (await ask(path, question)).said == (await ask(path, question)).said


async def test_a_database_of_its_own_is_described_and_nothing_more(tmp_path: Path) -> None:
    """Rules can't answer for a schema that they don't know; what there is, they tell."""
    own = tmp_path / "own.db"
    connection = sqlite3.connect(own)
    connection.executescript("CREATE TABLE ships (name TEXT); INSERT INTO ships VALUES ('Ada'), ('Bo');")
    connection.close()
    story = await ask(own, "What was revenue last month?")
    assert "another schema" in story.report
    assert "| ships | 2 | name |" in story.report
    assert "OPENAI_API_KEY" in story.report
    assert story.charts[0]["series"] == [{"name": "Rows", "values": [2.0]}]


async def test_a_database_that_cant_be_read_ends_in_words(tmp_path: Path) -> None:
    """The run comes to its end, and says why there is nothing."""
    story = await ask(tmp_path / "missing.db", "What was revenue last month?")
    assert "can't be opened" in story.report
    assert story.order == list(ORDER)


def test_agents_of_another_team_hear_what_it_is() -> None:
    """It doesn't pretend to be a model."""
    for messages in (
        [{"role": "system", "content": "You are a poet."}, {"role": "user", "content": "Write a poem."}],
        [{"role": "user", "content": "Write a poem."}],
        [],
    ):
        match reply(messages):
            case Say(text):
                assert "rules, not a language model" in text
            case other:
                raise AssertionError(other)


@pytest.mark.parametrize("role", ORDER)
def test_any_role_without_tools_still_ends_in_words(role: str) -> None:
    """A team that left out a tool, or a plan, gets an answer and no loop."""
    match reply([{"role": "system", "content": f"You are {role}, x"}, {"role": "user", "content": "revenue in May"}]):
        case Say(text):
            assert text
        case other:
            raise AssertionError(other)


# --- parts -----------------------------------------------------------------------------------------------------------


def test_evidence_comes_back_from_its_markdown() -> None:
    """What one agent writes, the next one reads whole: pipes, several statements, prose."""
    evidence = [
        Evidence(
            "A", "Two lines\nof prose.", ("Name", "Value"), (("a | b", "€1"), ("c", "–")), "SELECT 1;\n\nSELECT '|'"
        ),
        Evidence("B", "Only prose."),
    ]
    assert from_markdown("**Data**\n\n" + "\n\n".join(map(to_markdown, evidence))) == evidence


def test_a_forecast_of_a_plain_season_is_exact() -> None:
    """A year that repeats, doubled, is foretold without error."""
    year = [float(n) for n in range(10, 22)]
    found = forecast([*year, *(2 * value for value in year)], 3)
    assert found is not None
    assert found.values == pytest.approx((40.0, 44.0, 48.0))
    assert found.error_percent == pytest.approx(0)


def test_too_short_a_past_gives_no_forecast() -> None:
    """What can't be tested isn't told."""
    assert forecast([1.0, 2.0, 3.0, 4.0], 1) is None
