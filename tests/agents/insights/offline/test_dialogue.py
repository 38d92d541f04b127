"""The analyst in a conversation: follow-ups, a question back, and remarks on its report."""

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from askstream.agents.factory import open_orchestrator
from askstream.agents.insights.offline.analyst import reply
from askstream.agents.insights.offline.conversation import Act, Call, Conversation, Result, Say, read
from askstream.agents.insights.offline.script import Script, play
from askstream.agents.models import ModelSettings
from askstream.server.runs.orchestrator import Answer, Exchange, Inquiry, Reply, Task
from tests.agents.insights.offline.analyst_team import ORDER, VAGUE, Story, ask
from tests.agents.insights.offline.scored import AUDIO, COST, ORDERS, REVENUE, UNITS, of, written
from tests.agents.sample_teams import Recorder

PLANNER, DATA, ANALYST, REPORTER = ORDER
Q1, Q2, Q3 = ("2026-01-01", "2026-03-31"), ("2026-04-01", "2026-06-30"), ("2026-07-01", "2026-09-30")
NORTH, SOUTH = "r.name = 'North'", "r.name = 'South'"
FIRST = "What was revenue in Q3 2026?"

FOLLOWED: dict[tuple[str, ...], tuple[str, str]] = {
    (FIRST, "And the quarter before?"): (of(REVENUE, *Q2), "EUR"),
    (FIRST, "and the month before?"): (of(REVENUE, "2026-06-01", "2026-06-30"), "EUR"),
    (FIRST, "and the year before?"): (of(REVENUE, "2025-07-01", "2025-09-30"), "EUR"),
    (FIRST, "And the quarter before?", "and the one before that?"): (of(REVENUE, *Q1), "EUR"),
    (FIRST, "What about the north?"): (of(REVENUE, *Q3, NORTH), "EUR"),
    (FIRST, "What about the north?", "and the south?"): (of(REVENUE, *Q3, SOUTH), "EUR"),
    (FIRST, "and without the north?"): (of(REVENUE, *Q3, "r.name <> 'North'"), "EUR"),
    (FIRST, "margin?", "What about the west?"): (of(f"{REVENUE} - {COST}", *Q3, "r.name = 'West'"), "EUR"),
    ("Audio revenue in Q3 2026", "what was it in the north?"): (of(REVENUE, *Q3, f"{NORTH} AND {AUDIO}"), "EUR"),
    (FIRST, "and in June?"): (of(REVENUE, "2026-06-01", "2026-06-30"), "EUR"),
    ("Orders in the South in 2025", "exclude Blue Harbour Hotels"): (
        of(ORDERS, "2025-01-01", "2025-12-31", f"{SOUTH} AND c.name <> 'Blue Harbour Hotels'"), "n"
    ),
    ("Orders in the South", "exclude Blue Harbour Hotels"): (
        of(ORDERS, "2026-01-01", "2026-10-31", f"{SOUTH} AND c.name <> 'Blue Harbour Hotels'"), "n"
    ),
    ("top 5 products in 2025", "how many of the first one?"): (
        of(UNITS, "2025-01-01", "2025-12-31", "p.name = 'Halo Floor Lamp'"), "n"
    ),
    ("top 3 products in the North in 2025", "and the revenue of the second one?"): (
        of(REVENUE, "2025-01-01", "2025-12-31", f"{NORTH} AND p.name = 'Ergo Chair'"), "EUR"
    ),
    ("marketing spend", FIRST, "and the south?"): (of(REVENUE, *Q3, SOUTH), "EUR"),
}  # fmt: skip


@pytest.mark.parametrize(("asked", "right"), FOLLOWED.items(), ids=["; ".join(asked) for asked in FOLLOWED])
async def test_a_follow_up_keeps_what_it_doesnt_change(
    path: Path, data: sqlite3.Connection, asked: tuple[str, ...], right: tuple[str, str]
) -> None:
    """Its figure is that of plain SQL."""
    story = await ask(path, *asked)
    assert f"**{written(data.execute(right[0]).fetchone()[0], right[1])}**" in story.answer


async def test_a_figure_becomes_a_list_a_cause_or_a_pie(path: Path) -> None:
    """Of the same period and part."""
    listed = await ask(path, "revenue in the North in May 2026", "by product")
    assert listed.report.startswith("# Products by revenue in the North, May 2026")
    why = await ask(path, "revenue in the North in May 2026", "why?")
    assert why.report.startswith("# Why revenue in the North changed, May 2026 compared with April 2026")
    pie = await ask(path, "revenue by category in 2025", "as a pie chart")
    assert [chart["type"] for chart in pie.charts] == ["pie"]
    compared = await ask(path, FIRST, "compare with last year")
    assert compared.report.startswith("# Revenue, Q3 2026 compared with Q3 2025")


@pytest.mark.parametrize(
    ("first", "then", "reason"),
    [
        ("revenue in May 2026", "as a pie chart", "A pie shows the shares of a whole"),
        ("revenue in May 2026", "how many of the first one", "which one"),
        ("revenue in May 2026", "and in purple?", "“purple”"),
        ("best product in 2025", "how much did we sell of it in May 2025?", "what “it” is"),
        ("revenue in May 2026", "and in 2019?", "There is nothing on 2019"),
    ],
)
async def test_a_follow_up_that_cant_be_followed_gets_a_no(path: Path, first: str, then: str, reason: str) -> None:
    """Not the question before once more."""
    story = await ask(path, first, then)
    assert story.report.startswith("# No answer")
    assert reason in story.report


async def test_a_question_of_its_own_takes_nothing_from_the_one_before(path: Path) -> None:
    """Neither its period nor its part."""
    story = await ask(path, "orders in the South in May 2025", "What is our revenue since May?")
    assert story.report.startswith("# Revenue, May to October 2026")


# --- the question back ---------------------------------------------------------------------------


async def test_it_asks_back_only_who_can_answer(path: Path) -> None:
    """Once, and with its choices; else it assumes, and says so."""
    asked = await ask(path, VAGUE, answer="revenue, last quarter", asks=True)
    assert asked.order[:3] == [PLANNER, PLANNER, DATA]
    prompt = asked.said[0][1].splitlines()[-1]
    assert prompt.startswith("ASK USER: Which figure of the North do you mean: 1) revenue")
    silent = await ask(path, VAGUE)
    assert silent.order == list(ORDER)
    assert "No period was named: the last month is taken" in silent.report


ASKED = [VAGUE, "How is Halvorsen doing?", "Tell me about Halo Floor Lamp", "retail performance"]
NOT_ASKED = [
    "How are we doing?",
    "Report for the north",
    "What was revenue in the north?",
    "Top 5 products in the north",
    "hello",
]


@pytest.mark.parametrize("question", ASKED + NOT_ASKED)
async def test_it_asks_where_a_sensible_analyst_would(path: Path, question: str) -> None:
    """Of a part of the business, if neither a measure nor a kind of answer is named."""
    story = await ask(path, question, answer="revenue", asks=True)
    assert ("ASK USER:" in story.said[0][1]) == (question in ASKED)


ANSWERS: dict[str, tuple[str, str]] = {
    "revenue, last quarter": (of(REVENUE, *Q3, NORTH), "EUR"),
    "1, Q2 2026": (of(REVENUE, *Q2, NORTH), "EUR"),
    "Option 4 for the third quarter": (of(f"{REVENUE} - {COST}", *Q3, NORTH), "EUR"),
    "Units in Q3, and in the south": (of(UNITS, *Q3, SOUTH), "n"),
    "5, September 2026": (of(ORDERS, "2026-09-01", "2026-09-30", NORTH), "n"),
}


@pytest.mark.parametrize(("answer", "right"), ANSWERS.items(), ids=ANSWERS)
async def test_the_answer_is_planned_with(
    path: Path, data: sqlite3.Connection, answer: str, right: tuple[str, str]
) -> None:
    """By word or by number; the figures are those of plain SQL."""
    story = await ask(path, VAGUE, answer=answer, asks=True)
    assert written(data.execute(right[0]).fetchone()[0], right[1]) in story.answer


async def test_when_nobody_answers_the_report_says_what_was_assumed(path: Path) -> None:
    """It isn't asked again, with or without names on the messages; neither after an answer that doesn't help."""
    for named in (True, False):
        story = await ask(path, VAGUE, named=named, asks=True)
        assert story.report.startswith("# Monthly sales report in the North, October 2026")
        assert "Nobody answered which figure was meant" in story.report
        assert sum("ASK USER:" in text for _, text in story.said) == 1
    story = await ask(path, VAGUE, answer="whatever you think", asks=True)
    assert "The answer named no figure that I know" in story.report


# --- remarks -------------------------------------------------------------------------------------


def changed(story: Story) -> str:
    return next((line for line in story.report.splitlines() if line.startswith("**Changed as you asked.**")), "")


@pytest.mark.parametrize(
    ("remark", "gone"),
    [("Without the SQL, please.", "```sql"), ("leave out the table", "| --- |"), ("no charts", "Charts: "),
     ("too long, make it shorter", "```sql")],
)  # fmt: skip
async def test_presentation_is_changed_without_fetching_anything_again(path: Path, remark: str, gone: str) -> None:
    """All other words stay."""
    question = "Why did revenue fall in October 2026?"
    before, story = await ask(path, question), await ask(path, question, remarks=[remark])
    assert gone in before.report
    assert gone not in story.report
    assert changed(story)
    assert "out of stock from 2 October 2026" in story.report
    assert len(story.calls) <= len(before.calls)


async def test_a_remark_changes_the_answer(path: Path, data: sqlite3.Connection) -> None:
    """Another measure, comparison, part and breakdown, one on top of the other."""
    remarks = ["use orders instead of revenue", "compare with last year", "only the north", "by product"]
    story = await ask(path, FIRST, remarks=remarks)
    reports = [text for agent, text in story.said if agent == REPORTER]
    titles = [text.partition("\n")[0] for text in reports]
    assert titles[1:] == [
        "# Orders, Q3 2026",
        "# Orders, Q3 2026 compared with Q3 2025",
        "# Orders in the North, Q3 2026 compared with Q3 2025",
        "# Products by orders in the North, Q3 2026",
    ]
    assert f"**{data.execute(of(ORDERS, *Q3)).fetchone()[0]:,}**" in reports[1]


@pytest.mark.parametrize(
    ("question", "remark", "reason"),
    [
        (FIRST, "Make it rhyme!", "rhyme"),
        (FIRST, "only 2019", "There is nothing on 2019"),
        (FIRST, "use revenue", "does that already"),
        (FIRST, "", "no remark"),
        ("stock outs in May 2026", "only the north", "can't"),
        ("hello", "by region", "no answer to change"),
    ],
)
async def test_no_change_is_claimed_that_the_report_doesnt_show(
    path: Path, question: str, remark: str, reason: str
) -> None:
    """The report gives the reason, and its answer stays."""
    before, story = await ask(path, question), await ask(path, question, remarks=[remark])
    assert "**Not followed.**" in story.report
    assert reason in story.report
    assert not changed(story)
    assert before.report.partition("\n")[0] == story.report.partition("\n")[0]


async def test_the_team_asks_obeys_and_remembers(path: Path, data: sqlite3.Connection) -> None:
    """The real team over the wire, its state saved and loaded at each word of a person: question, answer, report,
    remark, report, approval; then a follow-up in the same session, of which only the report is left."""
    async with open_orchestrator(model=ModelSettings(), data=path.parent, warehouse=path) as team:
        replies: list[Any] = ["orders, Q3 2026", {"approve": False, "remark": "use revenue instead"}, {"approve": True}]
        task = Task(run_id="1", session_id="s", question=VAGUE, review=True)
        outcome = await team.run(task, Recorder())
        for value in replies:
            assert isinstance(outcome, Inquiry)
            outcome = await team.run(replace(task, checkpoint=outcome.state, reply=Reply(value=value)), Recorder())
        assert isinstance(outcome, Answer)
        assert f"€{data.execute(of(REVENUE, *Q3, NORTH)).fetchone()[0]:,.0f}" in outcome.final_response
        history = (Exchange(question=VAGUE, answer=outcome.final_response),)
        later = await team.run(
            Task(run_id="2", session_id="s", question="and the quarter before?", history=history), Recorder()
        )
    assert isinstance(later, Answer)
    assert later.final_response.startswith("# Revenue in the North, Q2 2026")


# --- any text ------------------------------------------------------------------------------------

WORDS = [
    "shorter",
    "without",
    "with",
    "the",
    "sql",
    "table",
    "chart",
    "add",
    "use",
    "orders",
    "revenue",
    "margin",
    "instead",
    "of",
    "rather",
    "only",
    "not",
    "north",
    "south",
    "Halvorsen",
    "by",
    "region",
    "product",
    "compare",
    "last",
    "year",
    "quarter",
    "before",
    "2019",
    "Q2",
    "why",
    "it",
    "that",
    "same",
    "and",
    "but",
    ",",
    ".",
    "1",
    "the",
    "second",
    "5",
    "all",
    "top",
    "3",
    "month",
    "in",
    "French",
    "REVIEW:",
    "ASK",
    "USER:",
    "|",
    "*",
    "`",
    "#",
    "-",
    "Nobody",
    "answered",
    "pie",
    "of",
    "first",
    "one",
]
texts = st.lists(st.sampled_from([*WORDS, "\n"]), max_size=12).map(" ".join) | st.text(max_size=60)
QUESTIONS = [FIRST, VAGUE, "Monthly report", "top 5 products", "revenue by month", "hello", "forecast revenue",
             "stock outs", "why did margin fall", "what data do you have", ""]  # fmt: skip


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(QUESTIONS), texts, texts)
async def test_any_follow_up_and_any_remark_end_in_a_report(path: Path, question: str, more: str, remark: str) -> None:
    """With the real tools, all four roles: the last word is a report that says what became of the remark."""
    story = await ask(path, question, more, answer=more, remarks=[remark], asks=True)
    assert story.order[-1] == REPORTER
    assert story.report.startswith("# ")
    assert "**Changed as you asked.**" in story.report or "**Not followed.**" in story.report


# --- the messages --------------------------------------------------------------------------------


async def test_it_works_without_names_on_the_messages(path: Path) -> None:
    """Some providers refuse the field: the texts themselves tell who speaks. Equal messages get equal answers."""
    question = "Why did revenue fall in October 2026?"
    assert (await ask(path, question, named=False)).said == (await ask(path, question)).said


async def test_a_database_of_its_own_is_described_and_nothing_more(tmp_path: Path) -> None:
    """Rules can't answer for a schema that they don't know; one that can't be read ends in words as well."""
    own = tmp_path / "own.db"
    connection = sqlite3.connect(own)
    connection.executescript("CREATE TABLE ships (name TEXT); INSERT INTO ships VALUES ('Ada'), ('Bo');")
    connection.close()
    story = await ask(own, "What was revenue last month?")
    assert "| ships | 2 | name |" in story.report
    assert "OPENAI_API_KEY" in story.report
    assert "can't be opened" in (await ask(tmp_path / "missing.db", "What was revenue?")).report


def test_agents_of_another_team_hear_what_it_is() -> None:
    """It doesn't pretend to be a model; a role without tools still ends in words."""
    poet = [{"role": "system", "content": "You are a poet."}, {"role": "user", "content": "Write a poem."}]
    for messages in (poet, poet[1:], []):
        assert "rules, not a language model" in said(messages)
    for role in ORDER:
        assert said(
            [{"role": "system", "content": f"You are {role}, x"}, {"role": "user", "content": "revenue in May"}]
        )


def said(messages: list[dict[str, str]]) -> str:
    match reply(messages):
        case Say(text):
            return text
        case other:
            raise AssertionError(other)


def test_results_belong_to_the_last_question_and_errors_have_their_code() -> None:
    """A figure from before isn't taken for one of now."""
    call = {"id": "1", "function": {"name": "run_sql", "arguments": '{"query": "x"}'}}
    refused = '{"error": {"code": "sql_timeout", "message": "m"}}'
    before = [
        {"role": "system", "content": "You are DataAgent, x"},
        {"role": "user", "content": "first", "name": "user"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": refused},
    ]
    assert [result.error for result in read(before).results.values()] == ["sql_timeout"]
    later = read([*before, {"role": "user", "content": "second", "name": "user"}])
    assert (later.questions, later.results) == (["first", "second"], {})


def test_a_script_is_played_up_to_the_call_without_a_result() -> None:
    """It asks for what is missing, and ends with its statement."""

    def script() -> Script:
        results = yield Act("one", (Call("a", {}), Call("b", {})))
        return " ".join(str(result.data.get("n", result.error)) for result in results)

    known: dict[str, Result] = {}
    step: Callable[[], Any] = lambda: play(script(), Conversation(results=known, tools=frozenset("a")))  # noqa: E731
    assert step() == Act("one", (Call("a", {}),))
    known[Call("a", {}).key] = Result(data={"n": 1})
    assert step() == Say("1 no_tool")
