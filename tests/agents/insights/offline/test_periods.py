"""Which days a question is about, and the notation for them."""

import contextlib
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askstream.agents.insights import periods
from askstream.agents.insights.offline import mentions
from askstream.agents.insights.periods import Period
from tests.agents.insights.offline.analyst_team import asked

PERIODS = {
    "revenue in March 2026": "2026-03",
    "revenue in march": "2026-03",
    "revenue in november": "2025-11",
    "revenue, Mar 2025": "2025-03",
    "revenue for sept 2025": "2025-09",
    "revenue in Q3": "2026-Q3",
    "revenue in q3 2025": "2025-Q3",
    "revenue in 2025 Q3": "2025-Q3",
    "revenue in the third quarter of 2025": "2025-Q3",
    "revenue in the last quarter of 2025": "2025-Q4",
    "revenue in H1 2026": "2026-H1",
    "revenue in the first half of 2026": "2026-H1",
    "revenue in 2025": "2025",
    "revenue last month": "2026-10",
    "revenue this month": "2026-10",
    "revenue last quarter": "2026-Q3",
    "revenue this quarter": "2026-10",
    "revenue last year": "2025",
    "revenue this year": "2026-01..2026-10",
    "revenue year to date": "2026-01..2026-10",
    "revenue YTD": "2026-01..2026-10",
    "revenue in the last 3 months": "2026-08..2026-10",
    "revenue over the past six months": "2026-05..2026-10",
    "revenue in the last two quarters": "2026-05..2026-10",
    "revenue in the last 90 days": "2026-08-03..2026-10-31",
    "revenue last week": "2026-10-25..2026-10-31",
    "revenue since March": "2026-03..2026-10",
    "revenue since march 2025": "2025-03..2026-10",
    "revenue until march 2025": "2024-11..2025-03",
    "revenue from June to August 2026": "2026-06..2026-08",
    "revenue between june and august 2026": "2026-06..2026-08",
    "revenue from november to february": "2025-11..2026-02",
    "revenue, June - August 2025": "2025-06..2025-08",
    "revenue on 3 October 2026": "2026-10-03",
    "revenue on October 3rd": "2026-10-03",
    "revenue on 2026-10-03": "2026-10-03",
    "revenue in 2026-05": "2026-05",
    "revenue in march last year": "2025-03",
    "revenue of all time": "2024-11..2026-10",
    "revenue in Febuary 2026": "2026-02",
    "revenue in Septmber": "2026-09",
    "revenue lsat month": "2026-10",
    "revenue yesterday": "2026-10-30",
}


@pytest.mark.parametrize(("question", "notation"), PERIODS.items(), ids=PERIODS.keys())
def test_a_period_is_understood(question: str, notation: str) -> None:
    """Counted from the last day of the data."""
    assert asked(question).period == periods.parse(notation)


COMPARED = {
    "Compare Q3 with Q2 2026": ("2026-Q3", "2026-Q2"),
    "revenue in february versus march 2026": ("2026-03", "2026-02"),
    "why did revenue fall from July to August 2025": ("2025-08", "2025-07"),
    "why did revenue fall in February 2026": ("2026-02", "2026-01"),
    "why were sales lower in Q3 than in Q2": ("2026-Q3", "2026-Q2"),
    "October revenue compared with last year": ("2026-10", "2025-10"),
    "compare March 2026 with a year earlier": ("2026-03", "2025-03"),
    "revenue in March 2026 against the same month last year": ("2026-03", "2025-03"),
    "compare revenue in May 2026 year on year": ("2026-05", "2025-05"),
    "compare this month with last month": ("2026-10", "2026-09"),
    "compare this quarter with last quarter": ("2026-10", "2026-07"),
    "compare 2026 to 2025": ("2026-01..2026-10", "2025-01..2025-10"),
    "compare March and April 2026": ("2026-04", "2026-03"),
}


@pytest.mark.parametrize(("question", "expected"), COMPARED.items(), ids=COMPARED.keys())
def test_two_periods_are_understood(question: str, expected: tuple[str, str]) -> None:
    """The later one is the current one, and like is set against like."""
    found = asked(question)
    assert (found.period, found.against) == tuple(map(periods.parse, expected))


def test_relative_periods_are_told_apart_from_today() -> None:
    """Who reads the answer learns from which day it counts."""
    assert (
        "The data ends on 31 October 2026; relative dates count from there." in asked("revenue last month").assumptions
    )
    assert asked("revenue in March 2026").assumptions == ()


def test_may_is_a_month_only_where_one_is_expected() -> None:
    """A verb isn't a month."""
    assert asked("may I see revenue").period == periods.parse("2026-10")
    assert asked("revenue in may").period == periods.parse("2026-05")


def test_what_lies_outside_the_data_is_said() -> None:
    """Wholly outside, or in part."""
    assert asked("revenue in 2019").job == "unknown"
    assert "nothing on 2019" in asked("revenue in 2019").assumptions[0]
    part = asked("revenue in 2024")
    assert part.period == periods.parse("2024-11..2024-12")
    assert "begins with its first day" in part.assumptions[0]


@given(st.dates(date(1990, 1, 1), date(2100, 1, 1)), st.integers(0, 2000))
def test_notation_and_period_are_one(start: date, days: int) -> None:
    """Every period has a notation that gives it back, and so do those beside it."""
    period = Period(start, date.fromordinal(start.toordinal() + days))
    for one in (period, period.before(), period.year_before(), *period.months()):
        assert periods.parse(one.notation) == one
        assert one.label
    assert period.before().end < period.start


@given(st.text(max_size=30))
def test_what_is_no_period_is_refused_with_words(text: str) -> None:
    """With a ValueError, and never with another error."""
    with contextlib.suppress(ValueError):
        assert periods.parse(text).label


def test_last_month_is_the_last_whole_one() -> None:
    """Data that ends within a month doesn't make that month the last one."""
    assert mentions.last_whole("month", date(2026, 10, 30)) == periods.parse("2026-09")
    assert mentions.last_whole("month", date(2026, 10, 31)) == periods.parse("2026-10")
