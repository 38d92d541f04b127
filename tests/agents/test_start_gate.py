"""Runs that come together begin one after the other."""

import asyncio
from itertools import pairwise

import pytest

from askstream.agents.start_gate import TURNS, Turnstile


class Turns:
    """Counts the turns of the event loop, while anybody is inside."""

    def __init__(self) -> None:
        self.passed = 0
        self._counting = asyncio.ensure_future(self._count())

    async def __aenter__(self) -> "Turns":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._counting.cancel()

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(0)
            self.passed += 1


async def test_each_has_some_turns_of_the_loop_to_itself() -> None:
    """In the order in which they came; the first waits for nobody."""
    turnstile = Turnstile()
    entered: list[tuple[int, int]] = []

    async def enter(number: int) -> None:
        await turnstile.enter()
        entered.append((number, turns.passed))

    async with Turns() as turns:
        await asyncio.gather(*(enter(number) for number in range(4)))
    numbers, moments = zip(*entered, strict=True)
    assert numbers == (0, 1, 2, 3)
    assert moments[0] == 0
    assert all(after - before >= TURNS for before, after in pairwise(moments))


async def test_nobody_waits_for_one_that_gave_up() -> None:
    """Cancelled before its turn, or in the very moment in which it comes: the next one enters all the same."""
    turnstile = Turnstile()
    await turnstile.enter()
    waiting = [asyncio.ensure_future(turnstile.enter()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    while not any(each.done() for each in waiting[1:]):
        await asyncio.sleep(0)
        waiting[1].cancel()
    await asyncio.wait_for(waiting[2], 10)
    assert waiting[0].cancelled()


async def test_who_enters_may_fail_or_take_long() -> None:
    """There is nothing to give back: what becomes of a run is nothing to those behind it."""
    turnstile = Turnstile()

    async def begin(*, fail: bool) -> None:
        await turnstile.enter()
        if fail:
            raise LookupError
        await asyncio.Event().wait()

    endless = asyncio.ensure_future(begin(fail=False))
    with pytest.raises(LookupError):
        await begin(fail=True)
    await asyncio.wait_for(turnstile.enter(), 10)
    endless.cancel()
