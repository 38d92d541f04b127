"""A follow-up goes to a team that has the earlier exchanges, as many as fit."""

import pytest

from askstream.agents.checkpoint import ExternalMessage
from askstream.agents.memory import ANSWER_CHARACTERS, MEMORY_CHARACTERS, first_checkpoint, remembered
from askstream.server.runs.orchestrator import Exchange, Task

UNDERSTOOD = "**Understood as.** Revenue, October."


def exchange(number: int, *, size: int = 10) -> Exchange:
    return Exchange(question=f"Q{number}", answer=f"A{number}".ljust(size, "."))


def only(answer: str) -> str:
    return remembered([Exchange(question="?", answer=answer)], "R")[1].text


def test_the_question_comes_last() -> None:
    """After the earlier ones with their answers, oldest first; only the question is new."""
    history = (exchange(1, size=2), exchange(2, size=2))
    begun = first_checkpoint(Task(run_id="r", session_id="s", question="And now?", history=history), "R")
    assert [(said.source, said.text) for said in begun.unheard] == [
        ("user", "Q1"),
        ("R", "A1"),
        ("user", "Q2"),
        ("R", "A2"),
        ("user", "And now?"),
    ]
    assert begun.remembered == begun.skipped == 4


def test_without_a_past_there_is_the_question_alone() -> None:
    begun = first_checkpoint(Task(run_id="r", session_id="s", question="Why?"), "R")
    assert begun.unheard == (ExternalMessage(source="user", text="Why?"),)
    assert begun.remembered == 0


def test_the_oldest_are_forgotten_first() -> None:
    """Whole exchanges are dropped, so that no answer is left without its question."""
    told = remembered([exchange(i, size=ANSWER_CHARACTERS) for i in range(1, 9)], "R")
    assert [said.text[:2] for said in told] == ["Q6", "A6", "Q7", "A7", "Q8", "A8"]
    assert sum(len(said.text) for said in told) <= MEMORY_CHARACTERS


def test_the_last_exchange_always_fits() -> None:
    """Also with the longest question that the server accepts, 4,000 characters, and a long answer."""
    told = remembered([Exchange(question="q" * 4_000, answer="a" * 100_000)], "R")
    assert len(told) == 2
    assert len(told[1].text) <= ANSWER_CHARACTERS


def test_a_short_answer_stays_as_it_is() -> None:
    """With its SQL, in which a follow-up may change one place."""
    answer = f"# T\n\nText\n\n## SQL\n\n```sql\nSELECT 1\n```\n\n{UNDERSTOOD}"
    assert only(answer) == answer


def test_a_long_answer_goes_without_its_sql() -> None:
    """Its beginning stays, and so does its end, which says how the question was understood."""
    sql = "```sql\nSELECT 1\n```\n\n" * 400
    assert only(f"# T\n\nText\n\n## SQL behind the figures\n\n{sql}{UNDERSTOOD}").startswith("# T\n\nText\n\n[...]\n\n")
    assert only(f"# T\n\nText\n\n## SQL behind the figures\n\n{sql}{UNDERSTOOD}").endswith(f"\n\n{UNDERSTOOD}")


@pytest.mark.parametrize("answer", ["line\n" * 2_000, "x" * 9_000, f"{'y' * 5_000}\n\n{'z' * 5_000}", "\n" * 9_000])
def test_any_long_answer_is_bounded(answer: str) -> None:
    """It is cut at the end of a line, if it has lines, and marked."""
    short = only(answer)
    assert len(short) <= ANSWER_CHARACTERS
    assert "[...]" in short
    assert "lin\n" not in short
