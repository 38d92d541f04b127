"""Cursors."""

import pytest

from askstream.server.events.cursor import parse, place


def test_the_next_id_is_new_an_earlier_one_is_seen_a_later_one_leaves_a_gap() -> None:
    """The three places of an event for a viewer that has seen everything up to 7."""
    assert [place(7, event_id) for event_id in (6, 7, 8, 9)] == ["seen", "seen", "new", "gap"]


@pytest.mark.parametrize("text", ["0", "7", "999999999999999999"])
def test_a_cursor_is_a_whole_number(text: str) -> None:
    """Every number that fits every journal is accepted."""
    assert parse(text) == int(text)


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0", "1e3", " 1", "٣", "²", "9" * 19, "latest", "\0"])
def test_anything_else_is_no_cursor(text: str) -> None:
    """Digits of other scripts are none: `int` would accept them, another journal might not."""
    assert parse(text) is None
