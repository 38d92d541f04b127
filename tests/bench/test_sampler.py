"""Whose time a sample is."""

import pytest

from bench.sampler import OTHER, ROOMS, room, shares

LOOP = "run (/usr/lib/python3.11/asyncio/runners.py:118)"
WRITE = "write (/project/transports/relay.py:40)"


@pytest.mark.parametrize(
    ("stack", "path"),
    [
        (f"{LOOP};{WRITE}", "/transports/"),
        (f"{LOOP};{WRITE};dumps (/usr/lib/python3.11/json/__init__.py:231)", "/transports/"),
        (f"{WRITE};emit (/usr/lib/python3.11/logging/__init__.py:1100)", "/logging/"),
        (LOOP, "/asyncio/"),
    ],
)
def test_a_sample_is_of_the_innermost_room(stack: str, path: str) -> None:
    """What the standard library does counts for who called it; what nobody of ours did is the event loop's."""
    assert room(stack) == ROOMS[path]


def test_what_is_in_no_room_is_other() -> None:
    """Nothing is left out of the hundred percent."""
    assert room("main (<string>:1)") == OTHER
    found = shares([f"thread (7): Main;{LOOP};{WRITE} 3", "thread (7): Main;main (<string>:1) 1"], {7: 1.0})
    assert found == {ROOMS["/transports/"]: 75, OTHER: 25}


def test_a_thread_weighs_what_it_spent() -> None:
    """One that waits for work is seen as often as one that works, and took no time."""
    found = shares([f"thread (7): Main;{WRITE} 9", "thread (8): worker;wait (<string>:1) 9"], {7: 3.0, 8: 1.0, 9: 5.0})
    assert found == {ROOMS["/transports/"]: 75, OTHER: 25}
