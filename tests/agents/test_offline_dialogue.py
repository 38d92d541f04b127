"""The offline analyst in a conversation: follow-ups, a question back, and remarks on its report; figures those of plain
SQL, and no text at all that leaves a run without a report."""

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agents import human, periods, warehouse
from agents.assembly import open_orchestrator
from agents.models import ModelSettings
from agents.offline.analyst import reply
from agents.offline.clarity import is_needed
from agents.offline.conversation import Input, Say, read
from agents.offline.dialogue import heard, understand
from agents.offline.evidence import Evidence, from_markdown
from agents.offline.names import Facts
from agents.offline.plan import from_report, from_text, in_a_line, to_text
from agents.offline.understanding import Understanding
from server.runs.orchestrator import Answer, Exchange, Inquiry, Reply, Task
from tests.agents.analyst_team import ORDER, Story, ask
from tests.agents.stage import Recorder

PLANNER, DATA, ANALYST, REPORTER = ORDER
FACTS = Facts(
    date(2024, 11, 1),
    date(2026, 10, 31),
    {
        "region": ("Central", "East", "North", "South", "West"),
        "category": ("Audio", "Kitchen"),
        "product": (*(f"Shelf {n}" for n in range(20)), "Halo Floor Lamp"),
        "customer": (*(f"Shop {n}" for n in range(20)), "Halvorsen Retail Group"),
        "sales_person": ("Claire Moreau", "Hugo Lambert"),
        "segment": ("Hospitality", "Retail"),
    },
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("data") / "warehouse.db"
    warehouse.build(made)
    return made


@pytest.fixture
def data(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path)
    yield connection
    connection.close()


REVENUE = "SUM(l.quantity * l.unit_price * (1 - l.discount))"
MARGIN = "SUM(l.quantity * (l.unit_price * (1 - l.discount) - l.unit_cost))"
ORDERS, UNITS = "COUNT(DISTINCT o.order_id)", "SUM(l.quantity)"
TABLES = """FROM orders o JOIN order_lines l USING (order_id) JOIN customers c USING (customer_id)
    JOIN regions r ON r.region_id = c.region_id JOIN products p USING (product_id)"""
Q1, Q2, Q3 = ("2026-01-01", "2026-03-31"), ("2026-04-01", "2026-06-30"), ("2026-07-01", "2026-09-30")
JUNE, Q3_YEAR_AGO = ("2026-06-01", "2026-06-30"), ("2025-07-01", "2025-09-30")
OCTOBER = ("2026-10-01", "2026-10-31")


def total(data: sqlite3.Connection, value: str, days: tuple[str, str], extra: str = "") -> float:
    """Written over the tables themselves, without the view that the tools use."""
    query = f"SELECT {value} {TABLES} WHERE o.ordered_on BETWEEN ? AND ? {extra}"
    return float(data.execute(query, days).fetchone()[0])


def euro(value: float) -> str:
    return f"€{value:,.0f}"


def table(story: Story, title: str) -> Evidence:
    return next(found for found in from_markdown(story.report) if found.title == title)


def key(story: Story) -> tuple[str, ...]:
    return table(story, "Key figures").rows[0]


# --- follow-ups ------------------------------------------------------------------------------------------------------

NORTH = "AND r.name = 'North'"
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
    found = understand(["revenue in December 2025", "compare that with last year"], FACTS)
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
    found = understand(conversation.questions, FACTS, conversation.reports)
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
    assert understand(["orders in the north in May 2026", question], FACTS) == understand([question], FACTS)


def test_what_was_not_understood_is_passed_over() -> None:
    """The last question that was, is the one that a follow-up leans on."""
    found = understand(["revenue in Q3 2026", "tell me a joke", "and the quarter before?"], FACTS)
    assert (found.job, found.period.notation) == ("figure", "2026-Q2")


# --- the question back -----------------------------------------------------------------------------------------------

VAGUE = "How are we doing in the north?"


async def test_a_vague_question_about_a_part_is_asked_back_once(path: Path) -> None:
    """One line with the choices, and nothing after it; then the planner plans."""
    story = await ask(path, VAGUE, answer="revenue, last quarter")
    asked = [text for _, text in story.said if "ASK USER:" in text]
    assert len(asked) == 1
    prompt = asked[0].splitlines()[-1]
    assert prompt.startswith("ASK USER: ")
    assert all(words in prompt for words in ("the North", "1) revenue", "4) gross margin", "last quarter (Q3 2026)"))
    assert story.order[:3] == [PLANNER, PLANNER, DATA]


ASKED = [
    VAGUE,
    "How is Halvorsen doing?",
    "What about the west?",
    "Tell me about Halo Floor Lamp",
    "retail performance",
]
NOT_ASKED = [
    "How are we doing?",
    "Report for the north",
    "What was revenue in the north?",
    "Why did the north fall?",
    "Top 5 products in the north",
    "Forecast for the north",
    "Which customers in the north did we lose?",
    "What was out of stock in Audio?",
    "Compare the north with last year",
    "marketing in the north",
    "hello",
]


@pytest.mark.parametrize("question", ASKED + NOT_ASKED)
def test_it_asks_where_a_sensible_analyst_would(question: str) -> None:
    """Of a part of the business, where neither a measure nor a kind of answer is named."""
    assert is_needed(understand([question], FACTS)) == (question in ASKED)


def test_a_follow_up_is_never_asked_back() -> None:
    """What it leaves open, the question before has said."""
    assert not is_needed(understand(["revenue in May 2026", "what about the north?"], FACTS))


ANSWERS: dict[str, tuple[tuple[str, str], str, tuple[str, str], str]] = {
    "revenue, last quarter": (("Revenue", "€"), REVENUE, Q3, NORTH),
    "1, Q2 2026": (("Revenue", "€"), REVENUE, Q2, NORTH),
    "the second": (("Orders", ""), ORDERS, OCTOBER, NORTH),
    "orders": (("Orders", ""), ORDERS, OCTOBER, NORTH),
    "Option 4 for the third quarter": (("Gross margin", "€"), MARGIN, Q3, NORTH),
    "Units in Q3, and in the south": (("Units", ""), UNITS, Q3, "AND r.name = 'South'"),
}


@pytest.mark.parametrize(("answer", "expected"), ANSWERS.items(), ids=ANSWERS.keys())
async def test_the_answer_is_planned_with(
    path: Path, data: sqlite3.Connection, answer: str, expected: tuple[tuple[str, str], str, tuple[str, str], str]
) -> None:
    """By word or by number; the figures are those of plain SQL."""
    (label, sign), value, days, extra = expected
    row = key(await ask(path, VAGUE, answer=answer))
    assert row[:2] == (label, f"{sign}{total(data, value, days, extra):,.0f}")


def notes(story: Story) -> str:
    return story.report.split("## Assumptions")[1].split("\n## ")[0]


async def test_what_the_answer_leaves_open_is_assumed(path: Path) -> None:
    """Stated in the report: of an answer in part, and of one that doesn't help at all."""
    part = await ask(path, VAGUE, answer="revenue")
    assert "No period was named: taken as October 2026" in notes(part)
    assert "No measure" not in notes(part)
    none = await ask(path, VAGUE, answer="whatever you think")
    assert "The answer named neither a figure nor a period that I know." in notes(none)
    assert "No measure was named" in notes(none)


@pytest.mark.parametrize("named", [True, False])
async def test_when_nobody_answers_the_report_says_what_was_assumed(path: Path, named: bool) -> None:
    """And it isn't asked again."""
    story = await ask(path, VAGUE, named=named)
    assert story.report.startswith("# Monthly sales report: October 2026, North")
    assert "Nobody answered which figure and which period were meant." in notes(story)
    assert sum("ASK USER:" in text for _, text in story.said) == 1


async def test_all_of_them_is_the_report(path: Path) -> None:
    """The last choice, by number and in words."""
    by_number = await ask(path, VAGUE, answer="5, Q2 2026")
    in_words = await ask(path, VAGUE, answer="all of them for Q2 2026")
    assert by_number.report == in_words.report
    assert by_number.report.startswith("# Quarterly sales report: Q2 2026, North")


async def test_an_answer_may_ask_for_another_kind_of_report(path: Path) -> None:
    """A list, say, of the same part."""
    story = await ask(path, VAGUE, answer="top 3 products in Q3")
    assert story.report.startswith("# Products by revenue, Q3 2026, North")


# --- remarks ---------------------------------------------------------------------------------------------------------


async def reviewed(path: Path, *remarks: str, question: str = "What was revenue in Q3 2026?") -> Story:
    return await ask(path, question, remarks=remarks)


def changed(story: Story) -> str:
    return next((line for line in story.report.splitlines() if line.startswith("**Changed as you asked.**")), "")


async def test_presentation_is_changed_without_fetching_anything_again(path: Path) -> None:
    """Shorter, without the SQL, without tables, without charts; all other words stay."""
    before = await ask(path, "What was revenue in Q3 2026?")
    for remark, gone, told in (
        ("Without the SQL, please.", "```sql", "Without the SQL."),
        ("leave out the table", "| --- |", "Without the tables."),
        ("no charts", "Charts: ", "Without the charts."),
        ("shorter", "```sql", "Without details."),
    ):
        story = await reviewed(path, remark)
        assert gone in before.report
        assert gone not in story.report
        assert changed(story).endswith(told)
        assert euro(1466503) in story.report
        assert len(story.calls) == len(before.calls)


async def test_a_short_report_is_much_shorter_and_keeps_the_answer(path: Path) -> None:
    """The first findings of a report with many."""
    long = await ask(path, "Generate a monthly report")
    short = await reviewed(path, "too long, make it shorter", question="Generate a monthly report")
    assert len(short.report) < len(long.report) / 4
    assert long.report.split("**In short.**")[1].split("\n")[0] in short.report
    assert short.report.split("## Findings")[1].split("###")[0].count("\n- ") <= 4


async def test_another_measure_is_fetched(path: Path, data: sqlite3.Connection) -> None:
    """Of the same period; in a report it comes first, and the other one goes."""
    story = await reviewed(path, "use orders instead of revenue")
    assert key(story)[:2] == ("Orders", f"{total(data, ORDERS, Q3):,.0f}")
    assert changed(story).endswith("Orders instead of revenue.")
    report = await reviewed(path, "use orders instead of revenue", question="Generate a monthly report")
    assert [row[0] for row in table(report, "Key figures").rows][:3] == ["Orders", "Units", "Gross margin"]
    assert "Regions by orders" in report.report


async def test_another_comparison_a_part_and_a_breakdown(path: Path, data: sqlite3.Connection) -> None:
    """Three remarks one after the other, each on top of the one before."""
    story = await reviewed(path, "compare with last year", "only the north", "by region")
    then, now = (total(data, REVENUE, days) for days in (Q3_YEAR_AGO, Q3))
    reports = [text for agent, text in story.said if agent == REPORTER]
    first, second = (next(e for e in from_markdown(text) if e.title == "Key figures") for text in reports[1:3])
    assert first.rows[0][1:3] == (euro(now), euro(then))
    assert second.rows[0][1] == euro(total(data, REVENUE, Q3, NORTH))
    assert "**Changed as you asked.** Only North." in reports[2]
    regions = {row[0]: row[1] for row in table(story, "Regions by revenue, Q3 2026").rows}
    assert len(regions) == 5
    assert regions["South"] == euro(total(data, REVENUE, Q3, "AND r.name = 'South'"))


async def test_a_forecast_is_added(path: Path) -> None:
    """Beside all that was there, with its method and error; and it can go again."""
    question = "Why did revenue fall in October 2026?"
    story = await reviewed(path, "add a forecast", question=question)
    assert "Halo Floor Lamp" in story.findings
    assert table(story, "Forecast of revenue").rows[0][0] == "November 2026"
    assert "Method: " in story.findings
    assert changed(story).endswith("With a forecast as well.")
    again = await reviewed(path, "add a forecast", "without the forecast", question=question)
    assert "Forecast of revenue" not in again.report


async def test_a_proof_is_not_asked_for_again_after_a_remark(path: Path) -> None:
    """Who went back for the stock knows it: the second report takes four turns, and proves its cause."""
    story = await reviewed(path, "without the SQL", question="Why did revenue fall in October 2026?")
    assert story.order[-4:] == list(ORDER)
    assert story.order.count(PLANNER) == 3
    assert "It was out of stock from 2 October 2026" in story.findings


async def test_what_cant_be_followed_is_said(path: Path) -> None:
    """Beside what can; and nothing else in the report changes."""
    before = await ask(path, "What was revenue in Q3 2026?")
    story = await reviewed(path, "Make it rhyme!")
    assert "**Not followed.** “Make it rhyme”: I work by rules" in story.report
    assert story.report.split("**In short.**")[1] == before.report.split("**In short.**")[1]
    both = await reviewed(path, "use margin, and in French")
    assert changed(both).endswith("Gross margin instead of revenue.")
    assert "“in French”" in both.report
    assert "Not followed" not in (await reviewed(path, "use margin")).report


REFUSED = {
    ("revenue in Q3 2026", "only 2019"): "there is nothing on 2019",
    ("revenue in Q3 2025", "against 2024"): "there is no Q3 2024 to compare with",
    ("revenue in Q3 2026", "without Halvorsen"): "too many to be named",
    ("revenue in Q3 2026", "use revenue"): "does that already",
    ("stock outs in May 2026", "only the north"): "an answer of this kind can't show that",
    ("stock outs in May 2026", "use orders"): "an answer of this kind can't show that",
    ("top 5 products", "add orders"): "an answer of this kind can't show that",
    ("revenue in Q3 2026", human._NO_REMARK): "There was no remark",  # pyright: ignore[reportPrivateUsage]
    ("hello", "shorter"): "an answer of this kind can't show that",
    ("revenue in Q3 2026", ""): "There was no remark",
}


@pytest.mark.parametrize(("said", "reason"), REFUSED.items(), ids=["; ".join(said) for said in REFUSED])
def test_no_change_is_claimed_that_the_report_cant_show(said: tuple[str, str], reason: str) -> None:
    """The reason is told, and the plan stays."""
    plan = understand([said[0]], FACTS)
    found = heard(plan, [Input("remark", said[1])], FACTS)
    assert reason in " ".join(found.refused)
    assert found.changed == ()
    assert (found.job, found.measures, found.period, found.filters) == (
        plan.job,
        plan.measures,
        plan.period,
        plan.filters,
    )


def test_what_was_assumed_stays_assumed_after_a_remark() -> None:
    """As far as the remark didn't settle it."""
    plan = heard(understand([VAGUE], FACTS), [Input("silence", "Nobody answered.")], FACTS)
    shorter, orders = (heard(plan, [Input("remark", text)], FACTS).assumptions for text in ("shorter", "for Q2 2026"))
    assert shorter == plan.assumptions
    assert [note.partition(":")[0] for note in orders] == ["No measure was named"]


async def test_a_database_of_its_own_takes_no_remark(tmp_path: Path) -> None:
    """Said plainly, and the report comes again."""
    own = tmp_path / "own.db"
    connection = sqlite3.connect(own)
    connection.executescript("CREATE TABLE ships (name TEXT);")
    connection.close()
    story = await ask(own, "What was revenue?", remarks=["shorter"])
    assert "**Not followed.**" in story.report
    assert "ships" in story.report


def test_a_remark_is_one_only_after_a_report() -> None:
    """Else it is a question, as it stands; and "nobody answered" is one where nothing was asked."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "You are PlanningAgent, x"},
        {"role": "user", "name": "user", "content": "REVIEW: revenue in May"},
        {"role": "user", "name": "user", "content": "Nobody answered, so what was revenue?"},
    ]
    conversation = read(messages)
    assert (len(conversation.questions), conversation.inputs) == (2, ())


# --- with the team ---------------------------------------------------------------------------------------------------


async def test_the_team_asks_obeys_and_remembers(path: Path, data: sqlite3.Connection) -> None:
    """The real team over the wire, its state saved and loaded at each word of a person: question, answer, report,
    remark, report, approval; then a follow-up in the same session, of which only the report is left."""
    question, follow_up = VAGUE, "and the quarter before?"
    async with open_orchestrator(model=ModelSettings(), data=path.parent, warehouse=path) as team:
        replies: list[Any] = ["orders, Q3 2026", {"approve": False, "remark": "use revenue instead"}, {"approve": True}]
        task = Task(run_id="1", session_id="s", question=question, review=True)
        outcome = await team.run(task, Recorder())
        for value in replies:
            assert isinstance(outcome, Inquiry)
            outcome = await team.run(replace(task, checkpoint=outcome.state, reply=Reply(value=value)), Recorder())
        assert isinstance(outcome, Answer)
        assert euro(total(data, REVENUE, Q3, NORTH)) in outcome.final_response
        assert "**Changed as you asked.** Revenue instead of orders." in outcome.final_response
        history = (Exchange(question=question, answer=outcome.final_response),)
        later = await team.run(Task(run_id="2", session_id="s", question=follow_up, history=history), Recorder())
    assert isinstance(later, Answer)
    assert later.final_response.startswith("# Revenue, Q2 2026 against Q1 2026, North")
    assert euro(total(data, REVENUE, Q2, NORTH)) in later.final_response


# --- any text --------------------------------------------------------------------------------------------------------

WORDS = """
shorter without with the sql table chart forecast add use orders revenue margin instead of rather than only not
north south Halvorsen all regions everywhere by region product compare last year quarter before previous 2019 Q2
why it fell that same and but , . ; ! 1 the second 5 all top 3 trend month in French REVIEW: ASK USER: | * ` #
- Assumed: Nobody answered **Understood as.** · out stock lost customers
"""
texts = st.lists(st.sampled_from([*WORDS.split(), "\n"]), max_size=12).map(" ".join) | st.text(max_size=60)
FIRST = ["revenue in Q3 2026", VAGUE, "Generate a monthly report", "top 5 products", "revenue by month", "hello",
         "forecast revenue", "stock outs", "churn", "why did margin fall", "what data do you have", ""]  # fmt: skip


def survives(plan: Understanding) -> None:
    """The plan in words is the plan, and so is the line in a report, but for what was assumed and changed."""
    said = from_text(to_text(plan))
    assert said is not None
    assert to_text(said) == to_text(plan)
    assert said.changed == plan.changed
    assert said.refused == plan.refused
    told = from_report(f"# x\n\n{in_a_line(plan)}")
    assert told is not None
    assert in_a_line(told) == in_a_line(plan)
    if plan.job != "unknown":
        assert FACTS.first_day <= plan.period.start <= plan.period.end <= FACTS.last_day


@settings(deadline=None)
@given(st.sampled_from(FIRST), texts, st.lists(texts, max_size=3))
@example(VAGUE, "\ud800", ["\ud800 ½", "“”" * 300, "a. " * 100])
@example("revenue by month", "", ["compare with 29 February", "by region by product", "without the north"])
def test_any_answer_and_any_remark_end_in_a_plan(question: str, answer: str, remarks: list[str]) -> None:
    """Never an error; what can't be followed is named, and every remark has some effect that is told."""
    plan = understand([question, answer], FACTS)
    survives(plan)
    plan = heard(understand([question], FACTS), [Input("answer", answer)], FACTS) if question == VAGUE else plan
    survives(plan)
    for remark in remarks:
        plan = heard(plan, [Input("remark", remark)], FACTS)
        survives(plan)
        assert plan.changed or plan.refused


@settings(deadline=None, max_examples=10)
@given(st.sampled_from(FIRST), texts, texts)
async def test_any_answer_and_any_remark_end_in_a_report(path: Path, question: str, answer: str, remark: str) -> None:
    """With the real tools, all four roles: the last word is a report that says what became of the remark."""
    story = await ask(path, question, answer=answer, remarks=[remark])
    assert story.order[-1] == REPORTER
    assert story.report.startswith("# ")
    assert "**Changed as you asked.**" in story.report or "**Not followed.**" in story.report


def test_the_planner_never_asks_twice() -> None:
    """Not even where its question stands and no answer can be told from the messages."""
    schema = '{"tables": []}'
    call = {"id": "1", "type": "function", "function": {"name": "describe_schema", "arguments": "{}"}}
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "You are PlanningAgent, x"},
        {"role": "user", "name": "user", "content": VAGUE},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": schema},
        {"role": "assistant", "content": "ASK USER: which?"},
    ]
    match reply(messages, [{"function": {"name": "describe_schema"}}]):
        case Say(text):
            assert "ASK USER:" not in text
        case other:
            raise AssertionError(other)


def test_periods_before_are_counted_from_the_period_in_question() -> None:
    """A month or a quarter before, whatever the length of the period at hand."""
    for first, then, notation in (
        ("revenue in October 2026", "and the quarter before?", "2026-Q3"),
        ("revenue in Q3 2026", "and the month before?", "2026-06"),
        ("revenue in August 2026", "and the month before?", "2026-07"),
        ("revenue in H1 2026", "and the half before?", "2025-H2"),
        ("revenue this year", "and the year before?", "2025-01..2025-10"),
    ):
        assert understand([first, then], FACTS).period == periods.parse(notation)
