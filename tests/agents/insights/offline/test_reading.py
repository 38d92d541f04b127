"""How questions are read: nothing is dropped, and no text breaks the reading."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from askstream.agents.insights import periods
from askstream.agents.insights.offline import lexicon, words
from askstream.agents.insights.offline.analyst import reply
from askstream.agents.insights.offline.conversation import Act, Say, json_in
from askstream.agents.insights.offline.plan import Plan, in_statements, title, to_text
from tests.agents.insights.offline.facts import plan_of, slots_of

PERIODS = {
    "revenue in March": "2026-03", "revenue in November": "2025-11", "revenue Q3": "2026-Q3", "units in H1": "2026-H1",
    "revenue since May": "2026-05..2026-10", "revenue until March 2025": "2024-11..2025-03",
    "revenue from March to May 2025": "2025-03..2025-05", "revenue from November to March 2026": "2025-11..2026-03",
    "revenue between June and August": "2026-06..2026-08", "revenue last month": "2026-10",
    "revenue last quarter": "2026-Q3", "revenue in the last two quarters": "2026-04..2026-09",
    "revenue last year": "2025", "revenue this year": "2026-01..2026-10", "revenue YTD": "2026-01..2026-10",
    "revenue in the last 90 days": "2026-08-03..2026-10-31", "revenue in the last 3 months": "2026-08..2026-10",
    "revenue in week 1 of 2026": "2025-12-29..2026-01-04", "revenue in CW 34": "2026-08-17..2026-08-23",
    "revenue last week": "2026-10-19..2026-10-25", "revenue on Cyber Monday": "2025-12-01",
    "revenue on Black Friday": "2025-11-28", "on 2026-02-14 revenue": "2026-02-14", "units 3rd of May": "2026-05-03",
    "revenue in the first half of 2025": "2025-H1", "revenue in the last 3 months of 2025": "2025-Q4",
    "revenue in FY 2025": "2025", "revenue yesterday": "2026-10-30", "revenue of all time": "2024-11..2026-10",
}  # fmt: skip


@pytest.mark.parametrize(("question", "period"), PERIODS.items(), ids=PERIODS)
def test_a_period_is_read(path: Path, question: str, period: str) -> None:
    """As people name it; what has begun counts, and ends with the data."""
    assert plan_of(path, question).period == periods.parse(period)


PAIRS = {
    "revenue 2026 vs 2025": ("2026-01..2026-10", "2025-01..2025-10"),
    "compare this year with last year": ("2026-01..2026-10", "2025-01..2025-10"),
    "revenue Q3 against Q2": ("2026-Q3", "2026-Q2"),
    "revenue in Q3 vs last year": ("2026-Q3", "2025-Q3"),
    "revenue in October compared to the same month last year": ("2026-10", "2025-10"),
    "how much did revenue grow in Q1 2026": ("2026-Q1", "2025-Q4"),
    "did revenue fall in October?": ("2026-10", "2026-09"),
    "revenue this quarter vs last quarter": ("2026-10", "2026-07"),
    "revenue growth in Q4": ("2026-10", "2025-10"),
}


@pytest.mark.parametrize(("question", "pair"), PAIRS.items(), ids=PAIRS)
def test_like_is_compared_with_like(path: Path, question: str, pair: tuple[str, str]) -> None:
    """A period that isn't over, with as much of the other."""
    plan = plan_of(path, question)
    assert (plan.period, plan.against) == tuple(map(periods.parse, pair)), plan.reasons


FILTERS: dict[str, dict[str, Any]] = {
    "revenue in the north": {"only": {"region": ("North",)}},
    "northern revenue without Audio": {"only": {"region": ("North",)}, "without": {"category": ("Audio",)}},
    "revenue except Halvorsen and Blue Harbour": {
        "without": {"customer": ("Halvorsen Retail Group", "Blue Harbour Hotels")}
    },
    "units of turntabels": {"only": {"product": ("Turntable",)}},
    "units of the region North": {"only": {"region": ("North",)}},
    "revenue excluding Lighting in the North": {"only": {"region": ("North",)}, "without": {"category": ("Lighting",)}},
    "orders without Halvorsen in the East": {
        "only": {"region": ("East",)},
        "without": {"customer": ("Halvorsen Retail Group",)},
    },
    "revenue in the North and South but not Lighting": {
        "only": {"region": ("North", "South")},
        "without": {"category": ("Lighting",)},
    },
    "which customers in Retail did not buy Audio": {
        "only": {"segment": ("Retail",)},
        "lacking": {"category": ("Audio",)},
    },
}


@pytest.mark.parametrize(("question", "expected"), FILTERS.items(), ids=FILTERS)
def test_names_are_read_with_what_is_left_out(path: Path, question: str, expected: dict[str, Any]) -> None:
    """In whole, by a word, with a letter wrong; "and" continues what came before."""
    plan = plan_of(path, question)
    assert {name: getattr(plan, name) for name in expected} == expected, plan.reasons


REFUSED = {
    "revenue by region in the purple month": "“purple month”",
    "sales excluding furniture": "“excluding furniture”",
    "why did the top 5 products fall": "can't combine a cause with",
    "forecast revenue by region": "can't combine a forecast with a breakdown",
    "report without weekends on Mondays": "“without”",
    "revenue in Q3 Q2": "more than one period",
    "North in Q3 and South in Q2 revenue": "several periods",
    "revenue in the North and orders in the South": "several measures",
    "top products by margin and revenue": "one measure at a time",
    "profit margin in euros": "euros",
    "revenue by day": "name a shorter period",
    "the customers who bought the most without the South not": "“not”",
    "revenue from Narnia": "“narnia”",
    "top 5 products in May as a pie of the moon": "moon",
    "orders by region as a pie chart by month": "one thing at a time",
    "share of margin rate from Audio": "no shares",
    "orders with discount": "belong together",
    "how many products do we have": "I count orders",
    "weekly report": "reports by month",
    "what will revenue be in December": "what follows the data",
    "stock value": "“value”",
    "share of customers from Retail in Q3": "which figure the share is",
    "compare Halo and Lumen by month": "one name after the other",
}


@pytest.mark.parametrize(("question", "reason"), REFUSED.items(), ids=REFUSED)
def test_what_isnt_used_is_a_reason_for_a_no(path: Path, question: str, reason: str) -> None:
    """A word that nothing reads, or a slot that the answer wouldn't show."""
    plan = plan_of(path, question)
    assert plan.job == "no", title(plan)
    assert reason in " ".join(plan.reasons)


def test_no_word_is_dropped_without_trace(path: Path) -> None:
    """One unknown word anywhere in a question gives a no."""
    for question in ("revenue in May 2026", "top 5 products in the North", "why did margin fall in August 2025"):
        parts = question.split()
        for place in range(len(parts) + 1):
            spoilt = " ".join([*parts[:place], "zebra", *parts[place:]])
            assert plan_of(path, spoilt).job == "no", spoilt


@pytest.mark.parametrize("word", ["not", "without", "never", "by", "per", "if", "than", "except", "unless", "ago"])
def test_a_word_that_could_turn_the_question_round_is_no_filler(word: str) -> None:
    """They must be read, or be named in a no."""
    assert word not in lexicon.FILLERS


VOCABULARY = [
    "revenue",
    "sales",
    "orders",
    "margin",
    "profit",
    "why",
    "report",
    "compare",
    "top",
    "bottom",
    "5",
    "products",
    "customers",
    "regions",
    "north",
    "Halvorsen",
    "last",
    "this",
    "next",
    "month",
    "quarter",
    "year",
    "Q3",
    "H1",
    "2026",
    "2025",
    "1999",
    "march",
    "may",
    "since",
    "until",
    "from",
    "to",
    "between",
    "and",
    "versus",
    "the",
    "before",
    "a",
    "earlier",
    "31",
    "february",
    "29",
    "0",
    "99",
    "days",
    "weeks",
    "first",
    "half",
    "growth",
    "stock",
    "forecast",
    "data",
    "by",
    "per",
    "how",
    "are",
    "we",
    "doing",
    "in",
    "of",
    ";",
    "-",
    "/",
    "%",
    "'",
    ".",
    ",",
    "without",
    "not",
    "bought",
    "weekends",
    "week",
    "34",
    "average",
    "median",
    "share",
    "above",
    "30",
    "as",
    "pie",
    "chart",
    "one",
    "best",
    "worst",
    "day",
]
phrases = st.lists(st.sampled_from(VOCABULARY), max_size=14).map(" ".join)


@settings(deadline=None)
@given(phrases | st.text(max_size=80))
@example("from 31 may to 0 days last 999 years next 999 years")
@example("29 february february 29 2025 a year earlier")
@example("\ud800 İstanbul ﬁﬂ ½ ²")
def test_any_text_ends_in_a_plan_that_survives_being_said(path: Path, question: str) -> None:
    """Reading never raises; a plan lies within the data; and its JSON is the plan."""
    plan = plan_of(path, question)
    assert in_statements([to_text(plan)]) == plan
    if plan.job != "no":
        assert plan.covers.start <= plan.period.start <= plan.period.end <= plan.covers.end
        assert plan.against is None or plan.against.start >= plan.covers.start
        assert 0 <= plan.count <= 50


@settings(deadline=None, max_examples=60)
@given(phrases)
def test_any_title_is_read_back(path: Path, question: str) -> None:
    """Asked again as its title says it, a question is the same one."""

    def core(plan: Plan) -> tuple[Any, ...]:
        return (
            plan.job,
            plan.measures,
            plan.period,
            plan.against,
            plan.only,
            plan.without,
            plan.by,
            plan.limit,
            plan.days,
        )

    plan = plan_of(path, question)
    if plan.job != "no":
        assert core(plan_of(path, title(plan))) == core(plan), title(plan)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool", "x"])},
    optional={
        "content": st.text(max_size=40)
        | st.sampled_from(["You are DataAgent, x", "**Plan**\n\n```json\n{}\n```", '{"tables": []}'])
        | json_values,
        "name": st.sampled_from(["user", "PlanningAgent", "DataAgent", ""]) | st.none(),
        "tool_calls": json_values,
        "tool_call_id": st.text(max_size=3),
    },
)


@settings(deadline=None)
@given(st.lists(messages, max_size=8), st.lists(json_values.map(lambda v: {"function": v}), max_size=2))
def test_any_messages_get_a_reply(conversation: list[dict[str, Any]], tools: list[dict[str, Any]]) -> None:
    """Whatever a client sends, in whatever order, ends in words or calls."""
    assert isinstance(reply(conversation, tools), Say | Act)


def test_a_letter_wrong_is_put_right_and_other_words_are_left(path: Path) -> None:
    """One letter changed, left out, put in, or swapped; never a word that is right. The answer says what was read."""
    known = frozenset({"revenue", "region", "price", "market"})
    for wrong in ("revenu", "revnue", "reveneue", "ervenue", "revenux"):
        assert words.corrected(f" {wrong} ", known) == (" revenue ", {wrong: "revenue"})
    for right in ("event", "prince", "there", "least", "marketing"):
        assert words.corrected(f" {right} ", known)[0].strip() == right
    assert plan_of(path, "reveneu in May").notes[0] == "“reveneu” was read as “revenue”"


def test_statements_without_values_have_none() -> None:
    """Neither prose nor half an object."""
    for text in ("hello", "**Plan**\n\n```json\n{\n```", "```json\n[1]\n```", ""):
        assert json_in(text) == {}
        assert in_statements([text]) is None


def test_names_and_slots_are_found_together(path: Path) -> None:
    """A name that has a word of the grammar in it is a name."""
    slots = slots_of(path, "revenue of Halvorsen Retail Group and Standing Desk Mat")
    assert [one.name for one in slots.named] == ["Halvorsen Retail Group", "Standing Desk Mat"]
    assert slots.left == []
