"""The offline analyst takes follow-ups: what one doesn't change comes from the question before."""

import sqlite3
from pathlib import Path

import pytest

from askstream.agents.insights import periods
from askstream.agents.insights.offline.conversation import read
from askstream.agents.insights.offline.dialogue import understand
from tests.agents.insights.figures import (
    JUNE,
    MARGIN,
    NORTH,
    ORDERS,
    Q1,
    Q2,
    Q3,
    Q3_YEAR_AGO,
    REVENUE,
    UNITS,
    euro,
    key,
    table,
    total,
)
from tests.agents.insights.offline.analyst_team import MANY, ask

FOLLOWED: dict[tuple[str, ...], tuple[str, tuple[str, str], str]] = {
    ("And the quarter before?",): (REVENUE, Q2, ""),
    ("and the previous quarter?",): (REVENUE, Q2, ""),
    ("and the month before?",): (REVENUE, JUNE, ""),
    ("and the year before?",): (REVENUE, Q3_YEAR_AGO, ""),
    ("And the quarter before?", "and the one before that?"): (REVENUE, Q1, ""),
    ("What about the north?",): (REVENUE, Q3, NORTH),
    ("What about the north?", "and the quarter before?"): (REVENUE, Q2, NORTH),
    ("What about the north?", "and the south?"): (REVENUE, Q3, "AND r.name = 'South'"),
    ("and without the north?",): (REVENUE, Q3, "AND r.name <> 'North'"),
    ("margin?", "What about the west?"): (MARGIN, Q3, "AND r.name = 'West'"),
}


@pytest.mark.parametrize(("asked", "expected"), FOLLOWED.items(), ids=["; ".join(q) for q in FOLLOWED])
async def test_a_follow_up_gives_the_figure_of_plain_sql(
    path: Path, data: sqlite3.Connection, asked: tuple[str, ...], expected: tuple[str, tuple[str, str], str]
) -> None:
    """What it doesn't say is that of the question before."""
    assert key(await ask(path, "What was revenue in Q3 2026?", *asked))[1] == euro(total(data, *expected))


async def test_the_same_for_another_measure(path: Path, data: sqlite3.Connection) -> None:
    """Of the same period, compared with the same one."""
    row = key(await ask(path, "What was revenue in Q3 2026?", "same for units"))
    assert row[:3] == ("Units", f"{total(data, UNITS, Q3):,.0f}", f"{total(data, UNITS, Q2):,.0f}")


async def test_that_is_compared_with_last_year(path: Path, data: sqlite3.Connection) -> None:
    """The quarter with the same one of the year before, and not with the whole year."""
    found = table(await ask(path, "What was revenue in Q3 2026?", "compare that with last year"), "Key figures")
    assert found.columns[1:3] == ("Q3 2026", "Q3 2025")
    assert found.rows[0][1:3] == (euro(total(data, REVENUE, Q3)), euro(total(data, REVENUE, Q3_YEAR_AGO)))


def test_a_period_of_last_year_is_compared_with_the_year_before_it() -> None:
    """Not with the year that it lies in."""
    found = understand(["revenue in December 2025", "compare that with last year"], MANY)
    assert (found.period, found.against) == (periods.parse("2025-12"), periods.parse("2024-12"))


async def test_and_by_product_lists_the_same_figure(path: Path, data: sqlite3.Connection) -> None:
    """Measure, period and part of the question before."""
    story = await ask(path, "What were orders in the north in Q3 2026?", "and by product?")
    found = table(story, "Products by orders, Q3 2026")
    for name, value, *_ in found.rows[:3]:
        assert float(value) == total(data, ORDERS, Q3, f"{NORTH} AND p.name = '{name}'")
    assert len(found.rows) == 12


async def test_why_asks_for_the_cause_of_the_figure_before(path: Path) -> None:
    """And the cause is found."""
    story = await ask(path, "What was revenue in February 2026?", "why?")
    assert "Halvorsen Retail Group" in story.findings
    assert "- From the question before: the measure, the period" in story.plan()


async def test_an_exchange_of_question_and_report_is_enough(path: Path, data: sqlite3.Connection) -> None:
    """A session hands on no more than those: what was answered and remarked in between is read from the report."""
    first = await ask(path, "How are we doing in the north?", answer="orders, Q3 2026", remarks=["use units instead"])
    messages = [
        {"role": "system", "content": "You are PlanningAgent, x"},
        {"role": "user", "name": "user", "content": "How are we doing in the north?"},
        {"role": "user", "name": "ReportAgent", "content": first.report},
        {"role": "user", "name": "user", "content": "and the quarter before?"},
    ]
    conversation = read(messages)
    found = understand(conversation.questions, MANY, conversation.reports)
    assert (found.measures, found.period.notation, found.filters) == (("units",), "2026-Q2", {"region": ("North",)})


WHOLE = [
    "What was revenue in June 2026?",
    "Top 5 products",
    "Now generate a monthly report",
    "How are we doing?",
    "Which customers did we lose this year?",
    "Why did revenue fall in February 2026?",
    "What data do you have?",
    "now forecast revenue for the next 6 months",
]


@pytest.mark.parametrize("question", WHOLE)
def test_a_whole_question_takes_nothing_from_the_one_before(question: str) -> None:
    """It is understood as if it were the first."""
    assert understand(["orders in the north in May 2026", question], MANY) == understand([question], MANY)


def test_what_was_not_understood_is_passed_over() -> None:
    """The last question that was, is the one that a follow-up leans on."""
    found = understand(["revenue in Q3 2026", "tell me a joke", "and the quarter before?"], MANY)
    assert (found.job, found.period.notation) == ("figure", "2026-Q2")
