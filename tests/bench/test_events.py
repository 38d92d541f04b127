"""The generator's limits on what may be published, and the events that follow them."""

import asyncio
from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from askstream.server.events import decode
from bench.events import Allowance, envelope


async def allowed(allowance: Allowance, most: int, part: int = 0) -> list[int]:
    """Return the numbers that come without waiting."""
    found: list[int] = []
    numbers = allowance.numbers(part)
    try:
        while len(found) < most:
            async with asyncio.timeout(0.05):
                found.append(await anext(numbers))
    except TimeoutError:
        pass
    await numbers.aclose()
    return found


@given(st.lists(st.integers(min_value=0, max_value=50)))
def test_an_allowance_is_understood_however_its_bytes_are_cut(cuts: list[int]) -> None:
    """No limit is lost between two reads, and HTTP's bytes around it are skipped."""
    wire = b"10\r\nupto 0000003.00\n\r\n10\r\nupto 0000007.00\n\r\n"
    places = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]

    async def fed() -> list[int]:
        allowance = Allowance()
        for start, end in pairwise(places):
            allowance.feed(wire[start:end])
        return await allowed(allowance, most=7)

    assert asyncio.run(fed()) == list(range(7))


async def test_nothing_is_published_beyond_the_allowance() -> None:
    """A publisher waits at the limit, and goes on once it is raised."""
    allowance = Allowance()
    allowance.feed(b"upto 0000002.00\n")
    assert await allowed(allowance, most=9) == [0, 1]
    numbers = allowance.numbers()
    waiting = asyncio.ensure_future(anext(numbers))
    await asyncio.wait({waiting})
    assert [waiting.result(), await anext(numbers)] == [0, 1]
    third = asyncio.ensure_future(anext(numbers))
    _, held_back = await asyncio.wait({third}, timeout=0.05)
    assert held_back
    allowance.feed(b"upto 0000003.00\n")
    assert await asyncio.wait_for(third, 5) == 2


async def test_runs_take_turns_within_a_tick() -> None:
    """The first parts may publish before the others; the next whole limit lets the others follow."""
    allowance = Allowance()
    allowance.feed(b"upto 0000001.03\n")
    assert [await allowed(allowance, most=9, part=part) for part in (0, 2, 3)] == [[0, 1], [0, 1], [0]]
    allowance.feed(b"upto 0000002.00\n")
    assert await allowed(allowance, most=9, part=3) == [0, 1]


def test_peers_send_the_events_of_our_server() -> None:
    """The peers' event is one of ours, of about 300 bytes: all servers have the same load."""
    line = orjson.dumps(envelope(4))
    event = decode(line)
    assert (event.id, event.event_type, event.message.count("^")) == (5, "agent_thinking", 1)
    assert 280 < len(line) < 320


@pytest.mark.parametrize("number", [0, 9_999_999])
def test_the_mark_has_a_fixed_width(number: int) -> None:
    """The generator reads time and number at fixed places."""
    message = str(envelope(number)["event"]["message"])
    assert message[0] == "^"
    assert message[1:20].isdigit()
    assert message[20:29] == f".{number:07d} "
