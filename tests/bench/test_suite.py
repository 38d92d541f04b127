"""A section or a server that fails loses none of the other figures."""

from collections.abc import Iterator

import pytest

from bench import contenders, fanout, suite
from bench.builds import Unmeasurable
from bench.fanout import Outcome, Plan
from bench.report import Row, Table
from bench.scale import FULL, QUICK, Scale
from bench.servers import FLOOR, OURS, STREAMING

SSE, WEBSOCKET = ("sse", 100), ("websocket", 100)


@pytest.mark.parametrize("problem", [Unmeasurable("no compiler"), ValueError("odd")])
def test_a_section_that_fails_keeps_what_it_had(problem: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tables so far stay, and the reason is told."""

    def half(_: Scale) -> Iterator[Table]:
        yield Table("Cost", "Seconds")
        raise problem

    monkeypatch.setattr(suite, "SECTIONS", {"half": half})
    section = suite.measured("half", QUICK)
    assert [table.title for table in section.tables] == ["Cost"]
    assert str(problem) in section.failure


def test_a_server_that_breaks_is_an_outcome_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it was: the others go on."""

    def broken(*_: object, **__: object) -> Outcome:
        raise OSError("gone")

    monkeypatch.setattr(fanout, "measure", broken)
    assert contenders.measured(STREAMING, 1, Plan(seconds=1)).failure == "OSError: gone"


def test_a_row_has_a_figure_of_each_who_gave_one_ours_first() -> None:
    """Ours keeps its place when it failed, so that no peer's figure is taken for it; the goal goes with the row."""
    found: contenders.Outcomes = {
        ("sse", 100): {OURS: Outcome(failure="x"), "peer": Outcome(cpu=3), FLOOR: Outcome(cpu=2)}
    }
    table = contenders.table(found, "Cost", "Seconds", {"": lambda o: o.cpu}, goals={"": "rush"})
    assert table.rows == [Row("SSE, 100 viewers", {OURS: None, "peer": 3, FLOOR: 2}, 2, "rush 100", "SSE")]
    assert contenders.notes(found) == [f"{OURS}, SSE, 100: failed, x."]


def test_curves_have_a_line_for_each_who_was_measured_twice() -> None:
    """In the order of x, and without what failed."""
    found: contenders.Outcomes = {
        ("sse", 100): {OURS: Outcome(cpu=2), "peer": Outcome(cpu=9)},
        ("sse", 10): {OURS: Outcome(cpu=1), "peer": Outcome(failure="x")},
    }
    [panel] = contenders.curves(found, lambda o: o.cpu)
    assert [(line.name, list(line.points)) for line in panel.series] == [(OURS, [(10, 1), (100, 2)])]


def test_growth_is_the_far_end_beside_the_near_one() -> None:
    """1 is flat; whoever lacks an end is left out."""
    found: contenders.Outcomes = {
        ("sse", 10): {OURS: Outcome(cpu=2), "peer": Outcome(cpu=9)},
        ("sse", 5000): {OURS: Outcome(cpu=1), "other": Outcome(cpu=9)},
    }
    table = contenders.growth(found, "Growth", "flat viewers", (10, 5000), lambda o: o.cpu)
    assert [(row.case, row.figures, row.goal) for row in table.rows] == [("SSE", {OURS: 0.5}, "flat viewers")]


def test_a_full_run_reaches_every_number_that_a_goal_names() -> None:
    """100, 1,000 and 5,000 viewers, both ends of the curves, 300 runs that write, 60,000 events to one who stalls."""
    assert {10, 100, 1000, 5000} <= FULL.viewers.keys()
    assert {1, 1000} <= FULL.runs.keys()
    assert set(FULL.durable) == {live for live, _ in FULL.replay_live} == {100, 1000}
    assert (FULL.waiting, FULL.stalled, FULL.writing.runs) == (5000, 60_000, 300)
