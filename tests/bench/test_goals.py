"""What was asked for, beside what was measured."""

import re
from pathlib import Path

import pytest

import bench
from bench.goals import GOALS, Goal, named, standing
from bench.report import Row, Table
from bench.servers import FLOOR, OURS


def line(text: str, goal: str) -> list[str]:
    """The cells of a goal's line."""
    [found] = [line for line in text.splitlines() if line.startswith(f"| {GOALS[goal].what} (")]
    return [cell.strip() for cell in found.split("|")[1:-1]]


def test_a_goal_is_met_on_its_limit_and_on_its_good_side() -> None:
    """Costs stay at or below it, rates at or above."""
    cost, rate = Goal(what="", unit="", limit=2), Goal(what="", unit="", limit=2, at_least=True)
    assert [cost.met(value) for value in (1, 2, 2.01)] == [True, True, False]
    assert [rate.met(value) for value in (1.99, 2, 3)] == [False, True, True]


@pytest.mark.parametrize(("sse", "websocket", "met"), [(1.2, 1.3, "yes"), (1.2, 1.4, "**in part**"), (9, 9, "**no**")])
def test_a_goal_is_met_when_all_its_cases_meet_it(sse: float, websocket: float, met: str) -> None:
    """SSE and WebSocket alike."""
    rows = [
        Row("a", {OURS: sse}, goal="rush 100", of="SSE"),
        Row("b", {OURS: websocket}, goal="rush 100", of="WebSocket"),
    ]
    cells = line(standing([Table("", "", rows)]), "rush 100")
    assert cells[1:] == ["≤ 1.3", f"SSE {sse:.3g}; WebSocket {websocket:.3g}", "≤ ×0.23", "", met, ""]


def test_a_fast_machine_meets_a_goal_but_not_beside_the_c_loop() -> None:
    """The limit is as far from the C loop's figure there as ours has to be from its figure here."""
    fast = Row("a", {OURS: 1.2, "peer": 9, FLOOR: 2.5}, goal="rush 100", of="SSE")
    assert line(standing([Table("", "", [fast])]), "rush 100")[4:] == ["×0.48", "yes", "**no**"]
    faster = Row("a", {OURS: 0.5, "peer": 9, FLOOR: 2.5}, goal="rush 100", of="SSE")
    assert line(standing([Table("", "", [faster])]), "rush 100")[4:] == ["×0.2", "yes", "yes"]


def test_what_was_not_measured_says_so() -> None:
    """Neither a goal that nothing was measured for nor one whose server failed counts as met."""
    failed = Row("a", {OURS: None, FLOOR: 2.5}, goal="rush 100", of="SSE")
    text = standing([Table("", "", [failed])])
    assert text.count("not measured") == len(GOALS)


def test_a_loss_of_nothing_is_a_figure() -> None:
    """0 is measured, and met."""
    lossless = Row("a", {OURS: 0.0}, goal="silence", of="SSE")
    assert line(standing([Table("", "", [lossless])]), "silence")[2:] == ["SSE 0", "", "", "yes", ""]


def test_only_goals_have_names() -> None:
    """A case for which nothing was asked is shown without one."""
    assert (named("rush 100"), named("rush 30")) == ("rush 100", "")


def test_every_goal_is_named_by_a_section() -> None:
    """A goal that no section fills would stand there as not measured for ever."""
    sections = "".join(path.read_text() for path in Path(bench.__file__).parent.glob("sections/*.py"))
    words = {word.strip() for word in re.findall(r"[a-z0-9 ]+", sections)}
    case = re.compile(r" (\d+|sse|websocket|memory|sqlite)$")  # put in by the section
    assert not {name for name in GOALS if name not in words and case.sub("", name) not in words}
