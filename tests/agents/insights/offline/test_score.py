"""The analyst's score over 78 questions: no answer is wrong. `docs/analyst.md` has the list, and must equal it."""

import sqlite3
from pathlib import Path

import pytest

from tests.agents.insights.offline.analyst_team import Story, ask
from tests.agents.insights.offline.scored import GIVEN, OURS, expected

PAGE = Path(__file__).parents[4] / "docs" / "analyst.md"
ALL = {**GIVEN, **OURS}


def shown(question: str) -> str:
    return question if len(question) < 90 else f"(2,700 characters of talk) … {question[-33:]}"


def outcome(story: Story) -> str:
    """The answer's first lines: the title, which says what was understood, and the figures; or the reason of a no."""
    title, _, rest = story.report.partition("\n\n")
    first = rest.partition("\n\n")[0]
    return f"No: {first}" if title == "# No answer" else f"{title.removeprefix('# ')}. {first}"


def line(question: str, story: Story) -> str:
    cells = (shown(question), outcome(story))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


@pytest.mark.parametrize("question", ALL, ids=shown)
async def test_a_question_is_answered_right_or_gets_a_no(path: Path, data: sqlite3.Connection, question: str) -> None:
    """The figures are those of plain SQL over the tables; a no names its reason and has no chart."""
    right, story = ALL[question], await ask(path, question)
    answer = story.report.partition("## SQL")[0]
    if right.no:
        assert story.report.startswith("# No answer"), answer
        assert right.no in outcome(story)
        assert story.charts == []
    else:
        missing = [value for value in expected(right, data) if value not in answer]
        assert missing == [], answer
    assert line(question, story) in PAGE.read_text(encoding="utf-8"), line(question, story)


def test_the_page_tells_the_score() -> None:
    """How many were answered, and how many got a no."""
    answered = sum(not right.no for right in ALL.values())
    given = [right for right in GIVEN.values() if right.sql and not right.no]
    text = PAGE.read_text(encoding="utf-8")
    assert f"{len(ALL)} questions: {answered} answered right, {len(ALL) - answered} with a no, wrong 0" in text
    assert len(given) >= 16
    assert sum(not right.no for right in OURS.values()) >= 30
    assert text.count("\n| ") - 1 == len(ALL)


async def test_each_title_is_read_back_as_the_same_question(path: Path) -> None:
    """A title says all that was understood: asked again, it gets the same answer."""
    for question in (q for q, right in ALL.items() if not right.no):
        first = await ask(path, question)
        title = first.report.partition("\n")[0].removeprefix("# ").partition(" (no period")[0]
        again = await ask(path, title)
        assert again.report.partition("\n")[0].removeprefix("# ") == title
        queries = [[call.arguments for call in story.calls if call.name == "run_sql"][:1] for story in (first, again)]
        assert queries[0] == queries[1], title
