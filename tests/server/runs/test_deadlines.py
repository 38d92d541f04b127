"""The limits on a run's work, with time as an argument."""

import pytest

from askstream.server.runs.limits import Limits, RunDeadlines

LIMITS = Limits(run_seconds=100, silence_seconds=30, orphan_seconds=20)


def begun(*, limits: Limits = LIMITS, earlier_seconds: float = 0) -> RunDeadlines:
    return RunDeadlines(limits=limits, began=1000, earlier_seconds=earlier_seconds)


def check(
    deadlines: RunDeadlines,
    now: float,
    last_sign: float,
    *,
    watched: bool = False,
    viewers: int = 1,
    unwatched_since: float = 0,
) -> str | float:
    return deadlines.check(now, last_sign=last_sign, watched=watched, viewers=viewers, unwatched_since=unwatched_since)


def test_silence_is_counted_from_the_last_sign_of_life() -> None:
    """From its own moment, not from the check that noticed it."""
    deadlines = begun()
    assert check(deadlines, 1000, 900) == 20  # the orphan rule's: the last viewer may leave at any time
    assert check(deadlines, 1029, 900) == 1
    assert check(deadlines, 1029.5, 1001) == 1.5
    assert not deadlines.silent
    assert check(deadlines, 1031, 1001) == "timeout"
    assert deadlines.silent


def test_a_call_with_its_own_limit_on_silence_may_take_longer() -> None:
    """The run's limit counts again after the call."""
    deadlines = begun()
    assert check(deadlines, 1090, 1000, watched=True) == 10
    assert check(deadlines, 1090, 1000) == "timeout"
    assert check(deadlines, 1100, 1000, watched=True) == "timeout"
    assert not deadlines.silent


@pytest.mark.parametrize(("earlier_seconds", "most"), [(0, 100), (60, 40)])
def test_the_total_time_counts_however_many_events_come(earlier_seconds: float, most: float) -> None:
    """Earlier stretches of work count, too."""
    deadlines = begun(earlier_seconds=earlier_seconds)
    assert check(deadlines, 1000 + most - 1, 999 + most) == 1
    assert check(deadlines, 1000 + most, 1000 + most) == "timeout"


def test_a_run_that_nobody_watches_ends() -> None:
    """The time counts from the last viewer's end, or from the start of the work: before it nobody had to watch."""
    deadlines = begun()
    assert check(deadlines, 1019, 1000, viewers=0, unwatched_since=500) == 1
    assert check(deadlines, 1020, 1000, viewers=0, unwatched_since=500) == "orphaned"
    assert check(deadlines, 1020, 1000, viewers=0, unwatched_since=1010) == 10
    assert check(deadlines, 1029, 1000) == 1
    assert check(deadlines, 1030, 1000) == "timeout"


def test_an_orphan_may_go_on_if_the_operator_sets_no_limit() -> None:
    """Then only the other two limits are checked."""
    deadlines = begun(limits=Limits(run_seconds=100, silence_seconds=30, orphan_seconds=None))
    assert check(deadlines, 1000, 1000, viewers=0) == 30


def test_a_wait_for_a_human_counts_for_nothing() -> None:
    """The work before it counts, and silence begins anew after it."""
    deadlines = begun(limits=Limits(run_seconds=100, silence_seconds=30, orphan_seconds=20))
    assert check(deadlines, 1015, 1000) == 15
    deadlines.pause(1015)
    assert deadlines.seconds(1015) == 15
    deadlines.resume(5000)
    assert deadlines.seconds(5000) == 15
    assert check(deadlines, 5000, 1000) == 20
    assert check(deadlines, 5010, 1000, viewers=0, unwatched_since=1000) == 10
    assert check(deadlines, 5020, 1000, viewers=0, unwatched_since=1000) == "orphaned"
    assert check(deadlines, 5030, 1000) == "timeout"
    assert check(deadlines, 5084, 5060) == 1
    assert check(deadlines, 5085, 5085) == "timeout"
