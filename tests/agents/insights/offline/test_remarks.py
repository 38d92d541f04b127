"""The offline analyst obeys remarks on its report, or says why it can't."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from askstream.agents import human
from askstream.agents.insights.offline.conversation import Input, read
from askstream.agents.insights.offline.dialogue import heard, understand
from askstream.agents.insights.offline.evidence import from_markdown
from tests.agents.insights.figures import NORTH, ORDERS, Q3, Q3_YEAR_AGO, REVENUE, euro, key, table, total
from tests.agents.insights.offline.analyst_team import MANY, ORDER, VAGUE, Story, ask


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
    reports = [text for agent, text in story.said if agent == ORDER[-1]]
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
    assert story.order.count(ORDER[0]) == 3
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
    plan = understand([said[0]], MANY)
    found = heard(plan, [Input("remark", said[1])], MANY)
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
    plan = heard(understand([VAGUE], MANY), [Input("silence", "Nobody answered.")], MANY)
    shorter, orders = (heard(plan, [Input("remark", text)], MANY).assumptions for text in ("shorter", "for Q2 2026"))
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
