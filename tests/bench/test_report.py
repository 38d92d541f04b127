"""Figures as tables, their JSON, and the goals that they are compared with."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import bench
from bench import report
from bench.__main__ import SECTIONS, measured
from bench.fanout import Scope
from bench.machine import Unmeasurable
from bench.report import BEGIN, END, GOALS, PAGE, Goal, Results, Row, Section, Table, markdown, ratio, standing
from bench.servers import BARE, OURS, PLAIN, SEND_TEXT, SSE_STARLETTE


def line(rows: list[Row], goal: Goal) -> list[str]:
    """Return the cells of a goal's line."""
    text = standing(rows).splitlines()[2:]
    return [cell.strip() for cell in text[GOALS.index(goal)].split("|")[1:-1]]


def goal(key: str, peer: str) -> Goal:
    [found] = [goal for goal in GOALS if (goal.key, goal.peer) == (key, peer)]
    return found


@pytest.mark.parametrize(("times", "shown"), [(0.25, "×0.25"), (1.5, "×1.5"), (23, "×23"), (0.0033, "×0.0033")])
def test_a_ratio_has_two_digits(times: float, shown: str) -> None:
    """Below 1 means that ours needs less."""
    assert ratio(times) == shown


def test_a_table_has_figures_and_ratios_and_leaves_out_what_was_not_measured() -> None:
    """The first column is ours. A peer without a figure stays blank, and so does a ratio to nothing."""
    rows = [Row("a", {"us": 2, "x": 4}), Row("b", {"us": 1, "y": 0.5}), Row("c", {"us": None, "x": 3})]
    text = markdown(Table("Cost", "Seconds", rows, ["Noisy.", "Noisy."]))
    assert "| | us | x | y |" in text
    assert "| a | 2.00 | 4.00 (×0.50) |  |" in text
    assert "| b | 1.00 |  | 0.50 (×2.0) |" in text
    assert "| c |  | 3.00 |  |" in text
    assert text.count("- Noisy.") == 1
    assert "less is better" in text


def test_a_table_of_shares_has_no_ratios() -> None:
    """A profile has no peers to compare with."""
    text = markdown(Table("Shares", "Percent", [Row("a", {"us": 20, "x": 40}, 0)], better=""))
    assert "| a | 20 | 40 |" in text
    assert "better" not in text


# ---- goals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ours", "met"), [(1.9, "yes"), (2.0, "yes"), (2.1, "**no**")])
def test_a_goal_is_a_ratio_to_a_peer_of_the_same_row(ours: float, met: str) -> None:
    """It is met on its limit. The same row may have a goal for each of its peers."""
    row = Row("", {OURS: ours, BARE.name: 1.0, SSE_STARLETTE.name: 1.0}, goal="lonely 1000", of="SSE")
    assert line([row], goal("lonely 1000", BARE.name))[1:] == [
        f"≤ ×2.0 {BARE.name}", f"SSE {ratio(ours)}", met,
    ]  # fmt: skip
    assert line([row], goal("lonely 1000", SSE_STARLETTE.name))[3] == "**no**"


def test_a_goal_is_met_in_part_when_some_of_its_cases_meet_it() -> None:
    """Each case is shown; one without the peer is ignored."""
    rows = [Row("", {OURS: ms}, goal="meanwhile", of=of) for of, ms in (("empty", 50.0), ("used", 150.0))]
    assert line(rows, goal("meanwhile", ""))[2:] == ["empty 50 ms; used 150 ms", "**in part**"]
    alone = Row("", {OURS: 1.0}, goal="lonely 1000", of="WebSocket")
    assert line([alone], goal("lonely 1000", BARE.name))[2] == "not measured"


def test_a_rate_must_be_at_least_its_goal() -> None:
    """More is better there."""
    assert [Goal(key="", what="", limit=2, at_least=True).is_met(value) for value in (1.99, 2, 3)] == [
        False,
        True,
        True,
    ]


def test_the_plain_way_has_a_goal_of_its_own() -> None:
    """Its figure is compared, and not that of our direct way."""
    row = Row("", {OURS: 0.1, PLAIN: 3.0, SEND_TEXT.name: 2.0}, goal="rush 100", of="WebSocket")
    assert line([row], goal("rush 100", SEND_TEXT.name))[2:] == ["WebSocket ×1.5", "**no**"]


def test_a_loss_of_nothing_is_a_figure_and_a_failure_is_none() -> None:
    """0 is measured and meets the goal; a server that failed meets no goal."""
    assert line([Row("", {OURS: 0.0}, goal="stalled lost", of="SSE")], goal("stalled lost", ""))[2:] == [
        "SSE 0 %",
        "yes",
    ]
    assert line([Row("", {OURS: None}, goal="stalled lost")], goal("stalled lost", ""))[2] == "not measured"
    assert standing([]).count("not measured") == len(GOALS)


def test_every_goal_is_named_by_a_section() -> None:
    """A goal that no section fills would never be measured."""
    sections = "".join(path.read_text() for path in Path(bench.__file__).parent.glob("sections/*.py"))
    words = {word.strip() for word in re.findall(r"[a-zA-Z0-9 ]+", sections)}
    by_case = re.compile(r"^lonely (?=p)| (\d+|memory|SQLite)$")  # put in by the section
    assert not {
        goal.key for goal in GOALS if goal.key not in words and by_case.sub("", by_case.sub("", goal.key)) not in words
    }


# ---- what is kept ------------------------------------------------------------------------------------------


def found() -> Results:
    table = Table("Cost", "Seconds", [Row("a", {OURS: 2, "x": None}, 1, "idle", "SSE")], ["Noisy."])
    return Results("a machine", {"one": Section([table, Table("Nothing", "")]), "two": Section(failure="no compiler")})


def test_writing_keeps_the_text_around_the_figures(tmp_path: Path) -> None:
    """Only the text between the marks is replaced, also the second time. Empty tables are left out."""
    page = tmp_path / "RESULTS.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for _ in range(2):
        report.write(found(), page, tmp_path / "figures" / "figures.json")
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith(f"{END}\nafter\n")
    assert text.count("### Cost") == 1
    assert "old" not in text
    assert "Nothing" not in text
    assert "Measured on a machine." in text
    assert "SSE 2 % of a core" in text
    assert "`two` is not complete: no compiler" in text
    assert report.load(tmp_path / "figures" / "figures.json") == found()
    assert not report.load(tmp_path / "none.json").sections


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    """An error is better than overwritten text."""
    path = tmp_path / "RESULTS.md"
    path.write_text("only words\n")
    with pytest.raises(ValueError, match="expected the lines"):
        report.write(found(), path, tmp_path / "figures" / "figures.json")
    assert path.read_text() == "only words\n"
    assert not (tmp_path / "figures").exists()


def test_the_projects_own_page_has_the_marks_and_names_every_section() -> None:
    """`dev.py bench --write` finds the place of the figures, and a reader finds all sections."""
    text = PAGE.read_text()
    assert text.count(BEGIN) == text.count(END) == 1
    assert all(f"`{name}`" in text for name in SECTIONS)


@pytest.mark.parametrize("problem", [Unmeasurable("no compiler"), ValueError("odd")])
def test_a_section_that_fails_keeps_its_tables(problem: Exception) -> None:
    """The tables before the failure stay, with the reason."""

    def half(_: Scope) -> Iterator[Table]:
        yield Table("Cost", "Seconds")
        raise problem

    section = measured("half", half, Scope())
    assert [table.title for table in section.tables] == ["Cost"]
    assert str(problem) in section.failure
