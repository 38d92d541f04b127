"""The offline analyst in a conversation: follow-ups, a question back, and remarks on its report; figures those of plain
SQL, and no text at all that leaves a run without a report."""

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from askstream.agents.factory import open_orchestrator
from askstream.agents.insights import periods
from askstream.agents.insights.offline.analyst import reply
from askstream.agents.insights.offline.clarity import is_needed
from askstream.agents.insights.offline.conversation import Input, Say
from askstream.agents.insights.offline.dialogue import heard, understand
from askstream.agents.insights.offline.plan import from_report, from_text, in_a_line, to_text
from askstream.agents.insights.offline.understanding import Understanding
from askstream.agents.models import ModelSettings
from askstream.server.runs.orchestrator import Answer, Exchange, Inquiry, Reply, Task
from tests.agents.insights.figures import MARGIN, NORTH, OCTOBER, ORDERS, Q2, Q3, REVENUE, UNITS, euro, key, total
from tests.agents.insights.offline.analyst_team import MANY, ORDER, VAGUE, Story, ask
from tests.agents.sample_teams import Recorder

PLANNER, DATA, ANALYST, REPORTER = ORDER


# --- the question back -----------------------------------------------------------------------------------------------


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
    assert is_needed(understand([question], MANY)) == (question in ASKED)


def test_a_follow_up_is_never_asked_back() -> None:
    """What it leaves open, the question before has said."""
    assert not is_needed(understand(["revenue in May 2026", "what about the north?"], MANY))


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
        assert MANY.first_day <= plan.period.start <= plan.period.end <= MANY.last_day


@example("revenue in Q3 2026", "orders", ["orders stock"])
@settings(deadline=None)
@given(st.sampled_from(FIRST), texts, st.lists(texts, max_size=3))
@example(VAGUE, "\ud800", ["\ud800 ½", "“”" * 300, "a. " * 100])
@example("revenue in Q3 2026", "only", ["shorter orders region", "why and shorter orders region"])
@example("revenue by month", "", ["compare with 29 February", "by region by product", "without the north"])
def test_any_answer_and_any_remark_end_in_a_plan(question: str, answer: str, remarks: list[str]) -> None:
    """Never an error; what can't be followed is named, and every remark has some effect that is told."""
    plan = understand([question, answer], MANY)
    survives(plan)
    plan = heard(understand([question], MANY), [Input("answer", answer)], MANY) if question == VAGUE else plan
    survives(plan)
    for remark in remarks:
        plan = heard(plan, [Input("remark", remark)], MANY)
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
        assert understand([first, then], MANY).period == periods.parse(notation)
