"""How questions are read: the words, the periods, the names; and that no text at all breaks the reading."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from askstream.agents.insights import periods
from askstream.agents.insights.offline import words
from askstream.agents.insights.offline.analyst import reply
from askstream.agents.insights.offline.conversation import Act, Say
from askstream.agents.insights.offline.dialogue import understand
from askstream.agents.insights.offline.plan import from_text, to_text
from tests.agents.insights.offline.analyst_team import FACTS, ask, asked

# --- jobs, measures, names -------------------------------------------------------------------------------------------

ASKED: dict[str, dict[str, Any]] = {
    "Generate a monthly business report for our sales performance": {"job": "report", "period": "2026-10"},
    "quarterly report": {"job": "report", "period": "2026-Q3"},
    "yearly sales report": {"job": "report", "period": "2025"},
    "how many orders in May 2026": {"job": "figure", "measures": ("orders",)},
    "what were our takings in May 2026": {"job": "figure", "measures": ("revenue",)},
    "unit sales in May": {"job": "figure", "measures": ("units",)},
    "profit margin percentage in May": {"job": "figure", "measures": ("margin_rate",)},
    "margin rate in May": {"job": "figure", "measures": ("margin_rate",)},
    "sales orders in May": {"job": "figure", "measures": ("orders",)},
    "AOV in May": {"job": "figure", "measures": ("average_order",)},
    "how many customers in May": {"job": "figure", "measures": ("customers",)},
    "top 10 products": {"job": "rank", "dimension": "product", "count": 10, "order": "top"},
    "the worst three regions by margin": {"job": "rank", "dimension": "region", "count": 3, "order": "bottom"},
    "best-sellers in May": {"job": "rank", "dimension": "product", "order": "top"},
    "which clients grew fastest this year": {"job": "rank", "dimension": "customer", "order": "growth"},
    "which categories are declining": {"job": "rank", "dimension": "category", "order": "decline"},
    "revenue by region": {"job": "rank", "dimension": "region", "count": 12},
    "top sales reps": {"job": "rank", "dimension": "sales_person"},
    "customers by segment": {"job": "rank", "dimension": "segment", "measures": ("customers",)},
    "revenue by month": {"job": "trend", "grain": "month"},
    "orders per quarter since 2025": {"job": "trend", "grain": "quarter", "measures": ("orders",)},
    "reveneu trend": {"job": "trend", "measures": ("revenue",)},
    "why did margn fall in May": {"job": "why", "measures": ("margin",)},
    "what happened to revenue in May": {"job": "why"},
    "which customers did we lose": {"job": "customers"},
    "new customers this year": {"job": "customers"},
    "churn": {"job": "customers"},
    "stock outs in May": {"job": "stock"},
    "what was sold out in May": {"job": "stock"},
    "forcast revenue": {"job": "forecast", "ahead": 3},
    "revenue next month": {"job": "forecast", "ahead": 1},
    "predict orders for the next 6 months": {"job": "forecast", "ahead": 6, "measures": ("orders",)},
    "what data do you have": {"job": "schema"},
    "help": {"job": "schema"},
    "revenue in the north in May": {"filters": {"region": ("North",)}},
    "northern revenue in May": {"filters": {"region": ("North",)}},
    "revenue of Halo Floor Lamp": {"filters": {"product": ("Halo Floor Lamp",)}},
    "revenue of halvorsen": {"filters": {"customer": ("Halvorsen Retail Group",)}},
    "revenue of Halvorsn Retail": {"filters": {"customer": ("Halvorsen Retail Group",), "segment": ("Retail",)}},
    "turntabel revenue": {"filters": {"product": ("Turntable",)}},
    "revenue of amber": {"filters": {}},
    "marketing spend in May": {"job": "unknown", "missing": ("marketing",)},
    "hello": {"job": "unknown"},
    "compare revenue and profit": {"measures": ("revenue", "margin")},
}


@pytest.mark.parametrize(("question", "expected"), ASKED.items(), ids=ASKED.keys())
def test_a_question_is_understood(question: str, expected: dict[str, Any]) -> None:
    """Synonyms, typing errors of a letter, and names in whole or by their first word."""
    found = asked(question)
    for name, value in expected.items():
        assert getattr(found, name) == (periods.parse(value) if name == "period" else value), name


OPEN = {
    "how are we doing in the north?": ("measure", "period"),
    "how did we do in May 2026?": ("measure",),
    "what was revenue?": ("period",),
    "what was revenue in May 2026?": (),
    "Generate a monthly report": (),
    "top 5 products": (),
}


@pytest.mark.parametrize(("question", "left_open"), OPEN.items(), ids=OPEN.keys())
def test_what_a_question_leaves_open_is_known(question: str, left_open: tuple[str, ...]) -> None:
    """It is data, for whoever would rather ask back; for now the assumption is stated."""
    found = asked(question)
    assert found.ambiguous == left_open
    assert len(found.assumptions) == len(left_open)


FOLLOWED = {
    ("revenue in Q3 2026", "and the quarter before?"): {"period": "2026-Q2", "measures": ("revenue",)},
    ("orders in May 2026", "and in June?"): {"period": "2026-06", "measures": ("orders",)},
    ("orders in May 2026", "and a year earlier?"): {"period": "2025-05", "measures": ("orders",)},
    ("orders in May 2026", "what about the north?"): {"period": "2026-05", "filters": {"region": ("North",)}},
    ("orders in the north in May 2026", "and the south?"): {"filters": {"region": ("South",)}},
    ("why did revenue fall in February 2026", "and margin?"): {"job": "why", "measures": ("margin",)},
    ("top 5 products in 2025", "and by category?"): {"job": "rank", "dimension": "category", "period": "2025"},
    ("revenue in May 2026", "why?"): {"job": "why", "period": "2026-05"},
    ("revenue in May 2026", "Generate a monthly report"): {"job": "report", "period": "2026-10"},
}


@pytest.mark.parametrize(("questions", "expected"), FOLLOWED.items(), ids=["; ".join(q) for q in FOLLOWED])
def test_a_follow_up_keeps_what_it_doesnt_change(questions: tuple[str, ...], expected: dict[str, Any]) -> None:
    """And a question that stands alone takes nothing from the one before."""
    found = asked(*questions)
    for name, value in expected.items():
        assert getattr(found, name) == (periods.parse(value) if name == "period" else value), name


# --- what can't be done ----------------------------------------------------------------------------------------------

# Question: what is said first, and the title of what is answered all the same.
IMPOSSIBLE = {
    "Compare revenue in the Narnia region with the North": (
        "The data knows no region Narnia; it knows Central, East, North, South, West.",
        "# Revenue, October 2026 against September 2026, North",
    ),
    "Revenue of customer Zzyzx in May 2026": ("The data knows no customer Zzyzx", "# That I can't answer"),
    "Delete all orders from the database": ("I only read the data", "# That I can't answer"),
    "Drop all orders": ("I only read the data", "# That I can't answer"),
    "DROP TABLE orders;": ("I only read the data", "# That I can't answer"),
    "UPDATE products SET price = 1": ("I only read the data", "# That I can't answer"),
    "Please insert a new order for 3 lamps": ("I only read the data", "# That I can't answer"),
    "Increase all prices by 10%": ("I only read the data", "# That I can't answer"),
    "Delete all orders and show revenue in May 2026": ("I only read the data", "# Revenue, May 2026"),
    "Revenue on 31 February 2026": ("There is no 31 February 2026: that month has 28 days", "# Revenue, February 2026"),
    "Sales 29 february": ("There is no 29 February 2026", "# Revenue, February 2026"),
    "Revenue on 2026-02-31": ("There is no 31 February 2026: that month has 28 days", "# Revenue, February 2026"),
    "Forecast revenue for the next 40 months": ("The forecast is cut to 12 months", "# Forecast of revenue"),
}


@pytest.mark.parametrize(("question", "told"), IMPOSSIBLE.items(), ids=IMPOSSIBLE.keys())
async def test_what_cant_be_done_is_said_before_what_can(path: Path, question: str, told: tuple[str, str]) -> None:
    """In the plan, and in the first lines of the report; a refusal offers what there is."""
    said, title = told
    story = await ask(path, question)
    first_lines = "\n".join(story.report.splitlines()[:3])
    assert said in story.plan()
    assert first_lines.startswith(title)
    assert said in first_lines
    assert ("I can give" in story.report) == ("can't answer" in title)


POSSIBLE = (
    "Why did sales drop in October?",
    "Increase in orders by region",
    "Give me an update on orders",
    "Create a customer report",
    "Revenue by Region",
    "Top 30 February products",
    "Product Revenue Report",
    "What is the Best Region?",
    "Revenue of customer Amber",
    "Forecast revenue for the next 12 months",
)


@pytest.mark.parametrize("question", POSSIBLE)
def test_what_can_be_done_is_not_refused(question: str) -> None:
    """Words that look like an order to write, a name or a date, and are none."""
    assert asked(question).cannot == ()


# --- any text --------------------------------------------------------------------------------------------------------

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
    "year",
    "earlier",
    "ago",
    "31",
    "february",
    "29",
    "0",
    "99",
    "days",
    "weeks",
    "first",
    "half",
    "fourth",
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
]
phrases = st.lists(st.sampled_from(VOCABULARY), max_size=14).map(" ".join)


@settings(deadline=None)
@given(st.lists(phrases | st.text(max_size=80), min_size=1, max_size=3))
@example(["29 february", "february 29 2025", "29 february 2025 a year earlier"])
@example(["from 31 may to 0 days", "last 999 years", "next 999 years"])
@example(["a year earlier", "and the year before", "and the year before"])
@example(["\ud800", "İstanbul", "ﬁﬂ ½ ²"])
def test_any_text_is_read_and_its_plan_survives_being_said(questions: list[str]) -> None:
    """Reading never raises; what is planned lies within the data; and the plan in words is the plan."""
    found = understand(questions, FACTS)
    said = from_text(to_text(found))
    assert said is not None
    assert all(getattr(said, name) == getattr(found, name) for name in (*ALWAYS, *SOMETIMES.get(found.job, ())))
    if found.job != "unknown":
        assert FACTS.first_day <= found.period.start <= found.period.end <= FACTS.last_day
    if found.against:
        assert found.against.start >= FACTS.first_day
    assert 1 <= found.count <= 50


# What a plan says for every job, and what it says where the job needs it.
ALWAYS = ("job", "measures", "period", "against", "covers", "filters", "assumptions", "missing", "ambiguous", "cannot")
SOMETIMES = {
    "rank": ("dimension", "order", "count"),
    "report": ("grain",),
    "trend": ("grain",),
    "forecast": ("ahead",),
}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool", "x"])},
    optional={
        "content": st.text(max_size=40)
        | st.sampled_from(["You are DataAgent, x", "**Plan**\n\n- Task: forecast", "MORE DATA: x", '{"tables": []}'])
        | json_values,
        "name": st.sampled_from(["user", "PlanningAgent", "DataAgent", ""]) | st.none(),
        "tool_calls": json_values,
        "tool_call_id": st.text(max_size=3),
    },
)


@settings(deadline=None)
@given(st.lists(messages, max_size=8), st.lists(json_values.map(lambda v: {"function": v}), max_size=2))
def test_any_messages_get_a_reply(conversation: list[dict[str, Any]], tools: list[dict[str, Any]]) -> None:
    """What a client may send, in whatever order, ends in words or calls."""
    assert isinstance(reply(conversation, tools), Say | Act)


@given(st.text())
def test_normal_form_holds_only_what_patterns_expect(text: str) -> None:
    """Lower case, single spaces, no accents."""
    plain = words.plain(text)
    assert "  " not in plain.strip()
    assert plain == plain.lower()


# --- words -----------------------------------------------------------------------------------------------------------


def test_a_letter_wrong_is_put_right_and_other_words_are_left() -> None:
    """One letter changed, left out, put in, or swapped; never a word that is right."""
    for wrong in ("revenu", "revnue", "reveneue", "ervenue", "revenux"):
        assert words.corrected(wrong) == "revenue"
    for right in ("event", "clause", "mouth", "stick", "there", "least", "region", "marketing"):
        assert words.corrected(right) == right
