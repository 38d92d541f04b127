"""Joining: what it saves is counted in passes, not measured in time."""

import asyncio

import pytest

from askstream.server.bus import Channel, pace
from askstream.server.scheduling import AT_ONCE
from tests.conformance.journals import entries, entry


class Passes:
    """Counts how often a viewer who waits for each next event is told, and what it finds."""

    def __init__(self, channel: Channel) -> None:
        self._channel, self.found = channel, list[int]()
        self._cursor = 0

    async def watch(self, last: int) -> None:
        while self._cursor < last:
            await self._channel.wait(self._cursor)
            found = self._channel.after(self._cursor) or []
            self.found.append(len(found))
            self._cursor = found[-1].id


async def test_the_first_event_after_quiet_goes_at_once_and_what_outruns_the_writes_goes_together() -> None:
    """A hundred events in a row are two passes: nobody is woken a hundred times, and nobody waits for the first."""
    channel = Channel("r")
    passes = Passes(channel)
    watching = asyncio.ensure_future(passes.watch(100))
    await asyncio.sleep(0)
    channel.extend([entry(1)])
    for _ in range(3):
        await asyncio.sleep(0)
    assert passes.found == [1]
    for number in range(2, 101):
        channel.extend([entry(number)])
        await asyncio.sleep(0)
    await watching
    assert sum(passes.found) == 100
    assert len(passes.found) <= 20  # a machine that stalls in between may end a spell early, but not each


async def test_a_pass_that_takes_long_makes_the_next_one_wait_as_long() -> None:
    """With many viewers a pass outlasts any fixed tick; only its own cost says what can be joined."""
    channel = Channel("r", viewers=1000)
    told: list[int] = []

    async def slow_viewer() -> None:
        await channel.wait(0)
        deadline = asyncio.get_running_loop().time() + 0.05
        while asyncio.get_running_loop().time() < deadline:  # what a thousand writes would take
            pass

    async def watch() -> None:
        await channel.wait(1)
        told.append(channel.last_id)

    slow = asyncio.ensure_future(slow_viewer())
    await asyncio.sleep(0)
    channel.extend([entry(1)])
    watching = asyncio.ensure_future(watch())
    await slow
    for number in range(2, 12):
        await asyncio.sleep(0.001)
        channel.extend([entry(number)])
    assert told == []
    await watching
    assert told == [11]


async def test_events_that_come_one_by_one_wait_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing comes while they wait: they outrun no write. As soon as something does, waiting goes on."""
    monkeypatch.setattr(pace, "JOIN_SECONDS", 0.3)
    told = asyncio.Event()
    paced = pace.Pace(lambda: told.set() or 1)

    async def waits(*events: int) -> bool:
        told.clear()
        for each in events or (1,):
            paced.due(each)
        at_once = told.is_set()
        await told.wait()
        return not at_once

    async with asyncio.timeout(20):
        assert [await waits() for _ in range(2)] == [False, True]
        assert not any([await waits() for _ in range(AT_ONCE)])
        assert [await waits(1, 1), await waits(2), await waits(), await waits()] == [True, True, True, False]
        assert [await waits(2), await waits()] == [True, True]


async def test_events_that_become_durable_together_are_a_sign_that_more_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the last wait brought nothing."""
    monkeypatch.setattr(pace, "JOIN_SECONDS", 0.3)
    channel = Channel("r")

    async def waits(first: int, last: int) -> bool:
        news = asyncio.ensure_future(channel.wait(first - 1))
        await asyncio.sleep(0)
        channel.extend(entries(first, last))
        for _ in range(2):
            await asyncio.sleep(0)
        at_once = news.done()
        await news
        return not at_once

    async with asyncio.timeout(20):
        assert [await waits(number, number) for number in (1, 2, 3)] == [False, True, False]
        assert await waits(4, 5)
