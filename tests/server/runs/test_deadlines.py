"""The limits on a run's work, with time as an argument."""

import pytest

from askstream.server.runs.limits import Limits, RunDeadlines

LIMITS = Limits(run_seconds=100, silence_seconds=30, orphan_seconds=20)


def begun(*, limits: Limits = LIMITS, earlier_seconds: float = 0) -> RunDeadlines:
    return RunDeadlines(limits=limits, began=1000, earlier_seconds=earlier_seconds, emitted_at=1000, emitted=0)


def check(
    deadlines: RunDeadlines, now: float, emitted: int, *, viewers: int = 1, unwatched_since: float = 0
) -> str | float:
    return deadlines.check(now, emitted=emitted, viewers=viewers, unwatched_since=unwatched_since)


def test_silence_ends_a_run_and_each_event_breaks_it() -> None:
    """It counts from the last check that found a new event, and checks are no more frequent than needed."""
    deadlines = begun()
    assert check(deadlines, 1000, 0) == 20  # the limit for orphans: the last viewer may leave at any time
    assert check(deadlines, 1029, 0) == 1
    assert check(deadlines, 1029.5, 1) == 20
    assert check(deadlines, 1059, 1) == 0.5
    assert check(deadlines, 1059.5, 1) == "timeout"


@pytest.mark.parametrize(("earlier_seconds", "most"), [(0, 100), (60, 40)])
def test_the_total_time_counts_however_many_events_come(earlier_seconds: float, most: float) -> None:
    """Earlier stretches of work count, too."""
    deadlines = begun(earlier_seconds=earlier_seconds)
    assert check(deadlines, 1000 + most - 1, 1) == 1
    assert check(deadlines, 1000 + most, 2) == "timeout"


def test_a_run_that_nobody_watches_ends() -> None:
    """The time counts from the last viewer's end, or from the start of the work: before it nobody had to watch."""
    deadlines = begun()
    assert check(deadlines, 1019, 0, viewers=0, unwatched_since=500) == 1
    assert check(deadlines, 1020, 0, viewers=0, unwatched_since=500) == "orphaned"
    assert check(deadlines, 1020, 0, viewers=0, unwatched_since=1010) == 10
    assert check(deadlines, 1029, 0) == 1
    assert check(deadlines, 1030, 0) == "timeout"


def test_an_orphan_may_go_on_if_the_operator_sets_no_limit() -> None:
    """Then only the other two limits are checked."""
    deadlines = begun(limits=Limits(run_seconds=100, silence_seconds=30, orphan_seconds=None))
    assert check(deadlines, 1000, 0, viewers=0) == 30
