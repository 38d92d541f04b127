"""The limits on a run's work, with time as an argument."""

from dataclasses import dataclass

import pytest

from askstream.server.runs.deadlines import Patience
from askstream.server.runs.limits import Limits

LIMITS = Limits(run_seconds=100, silence_seconds=30, orphan_seconds=20)


@dataclass
class Room:
    viewers: int = 1
    unwatched_since: float = 0


def patience(room: Room, *, limits: Limits = LIMITS, worked: float = 0) -> Patience:
    return Patience(limits, room, now=1000, worked=worked, heard=0)


def test_silence_ends_a_run_and_each_word_breaks_it() -> None:
    """It is counted from the last look that found something new, and nobody looks more often than needed."""
    looks = patience(Room())
    assert looks.look(1000, 0) == 20  # the orphan rule's: the last viewer may leave at any time
    assert looks.look(1029, 0) == 1
    assert looks.look(1029.5, 1) == 20
    assert looks.look(1059, 1) == 0.5
    assert looks.look(1059.5, 1) == "timeout"


@pytest.mark.parametrize(("worked", "most"), [(0, 100), (60, 40)])
def test_the_whole_time_counts_however_much_is_said(worked: float, most: float) -> None:
    """Earlier stretches of work included."""
    looks = patience(Room(), worked=worked)
    assert looks.look(1000 + most - 1, 1) == 1
    assert looks.look(1000 + most, 2) == "timeout"


def test_a_run_that_nobody_watches_ends() -> None:
    """From when the last viewer left, or from when the work began: before that nobody had to watch."""
    room = Room(viewers=0, unwatched_since=500)
    looks = patience(room)
    assert looks.look(1019, 0) == 1
    assert looks.look(1020, 0) == "orphaned"
    room.unwatched_since = 1010
    assert looks.look(1020, 0) == 10
    room.viewers = 1
    assert looks.look(1029, 0) == 1
    assert looks.look(1030, 0) == "timeout"


def test_an_orphan_may_go_on_where_the_operator_says_so() -> None:
    """With no limit on work for nobody there is nothing to look for but the other two."""
    looks = patience(Room(viewers=0), limits=Limits(run_seconds=100, silence_seconds=30, orphan_seconds=None))
    assert looks.look(1000, 0) == 30
