"""Delays are counted in passes and loop iterations, not measured in time."""

import asyncio
from itertools import pairwise
from time import monotonic

import pytest

from askstream.server.bus import Channel
from askstream.server.scheduling import SKIPPED_WRITES, START_ITERATIONS, FanoutScheduler, ReplayGate, StartGate
from tests.conformance.journals import entry


class Passes:
    """Counts how often a viewer that waits for each next event is woken, and the events that it finds."""

    def __init__(self, channel: Channel) -> None:
        self._channel, self.found = channel, list[int]()
        self._cursor = 0

    async def watch(self, last: int) -> None:
        while self._cursor < last:
            await self._channel.wait(self._cursor)
            found = self._channel.read_after(self._cursor) or []
            self.found.append(len(found))
            self._cursor = found[-1].id


async def test_with_few_viewers_each_event_is_sent_at_once() -> None:
    """A pass that costs almost nothing delays no event."""
    channel = Channel("r")
    passes = Passes(channel)
    watching = asyncio.ensure_future(passes.watch(20))
    await asyncio.sleep(0)
    for number in range(1, 21):
        channel.extend([entry(number)])
        for _ in range(3):
            await asyncio.sleep(0)
    await watching
    assert passes.found == [1] * 20


async def test_with_many_viewers_events_that_come_before_a_pass_is_measured_are_sent_together() -> None:
    """A hundred events in one iteration are two passes: the first is sent at once, the others together."""
    written: list[int] = []
    scheduler = FanoutScheduler(lambda: written.append(1) or 1000)
    for _ in range(100):
        scheduler.schedule(1)
    assert len(written) == 1
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert len(written) == 2


async def test_a_long_pass_delays_the_next_one_as_long() -> None:
    """With many viewers a pass is longer than any fixed interval, so its own duration is the delay."""
    channel = Channel("r", viewers=1000)
    seen: list[int] = []

    async def slow_viewer() -> None:
        await channel.wait(0)
        deadline = asyncio.get_running_loop().time() + 0.05
        while asyncio.get_running_loop().time() < deadline:  # as long as a thousand writes
            pass

    async def watch() -> None:
        await channel.wait(1)
        seen.append(channel.last_id)

    slow = asyncio.ensure_future(slow_viewer())
    await asyncio.sleep(0)
    channel.extend([entry(1)])
    watching = asyncio.ensure_future(watch())
    await slow
    for number in range(2, 12):
        await asyncio.sleep(0.001)
        channel.extend([entry(number)])
    assert seen == []
    await watching
    assert seen == [11]


async def test_events_that_come_one_by_one_wait_once_in_a_while() -> None:
    """A delay in which no other event comes gains nothing. As soon as one comes, delays go on."""
    passed = asyncio.Event()

    def costly_pass() -> int:
        end = monotonic() + 0.1
        while monotonic() < end:  # as long as a thousand writes
            pass
        passed.set()
        return 1000

    scheduler = FanoutScheduler(costly_pass)

    async def waits(*events: int) -> bool:
        await asyncio.sleep(0)  # the last pass is measured
        passed.clear()
        for each in events or (1,):
            scheduler.schedule(each)
        at_once = passed.is_set()
        await passed.wait()
        return not at_once

    async with asyncio.timeout(60):
        assert [await waits() for _ in range(2)] == [False, True]
        assert not any([await waits() for _ in range(SKIPPED_WRITES)])
        assert [await waits(1, 1), await waits(2), await waits(), await waits()] == [True, True, True, False]
        assert [await waits(2), await waits()] == [True, True]


async def test_one_replaying_viewer_works_per_loop_iteration_first_come_first_served() -> None:
    """Also if many enter at once, and at once again."""
    gate, worked = ReplayGate(), list[tuple[str, int]]()
    iteration = 0

    async def work(name: str) -> None:
        for _ in range(3):
            await gate.enter()
            worked.append((name, iteration))

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        workers = [group.create_task(work(name)) for name in "abc"]
        while not all(worker.done() for worker in workers):
            await asyncio.sleep(0)
            iteration += 1
    assert [name for name, _ in worked] == list("abc" * 3)
    assert len({at for _, at in worked}) == 9


async def test_a_cancelled_replay_delays_no_other() -> None:
    """Waiting viewers work, and later ones, too."""
    gate = ReplayGate()
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        first, second, third = (group.create_task(gate.enter()) for _ in range(3))
        await asyncio.sleep(0)
        first.cancel()
        second.cancel()
        await third
        await gate.enter()
    assert first.cancelled()
    assert second.cancelled()


class Iterations:
    """Counts the event loop's iterations while it is entered."""

    def __init__(self) -> None:
        self.passed = 0
        self._counting = asyncio.ensure_future(self._count())

    async def __aenter__(self) -> "Iterations":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._counting.cancel()

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(0)
            self.passed += 1


async def test_each_run_starts_with_some_loop_iterations_to_itself() -> None:
    """In the order in which they came; the first doesn't wait."""
    gate = StartGate()
    entered: list[tuple[int, int]] = []

    async def enter(number: int) -> None:
        await gate.enter()
        entered.append((number, iterations.passed))

    async with Iterations() as iterations:
        await asyncio.gather(*(enter(number) for number in range(4)))
    numbers, moments = zip(*entered, strict=True)
    assert numbers == (0, 1, 2, 3)
    assert moments[0] == 0
    assert all(after - before >= START_ITERATIONS for before, after in pairwise(moments))


async def test_no_run_waits_for_a_start_that_was_cancelled() -> None:
    """Cancelled while it waits, or in the iteration in which it enters: the next one still enters."""
    gate = StartGate()
    await gate.enter()
    waiting = [asyncio.ensure_future(gate.enter()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    while not any(each.done() for each in waiting[1:]):
        await asyncio.sleep(0)
        waiting[1].cancel()
    await asyncio.wait_for(waiting[2], 10)
    assert waiting[0].cancelled()


async def test_a_start_may_fail_or_last_long() -> None:
    """There is nothing to release: a run that fails or never ends delays none behind it."""
    gate = StartGate()

    async def begin(*, fail: bool) -> None:
        await gate.enter()
        if fail:
            raise LookupError
        await asyncio.Event().wait()

    endless = asyncio.ensure_future(begin(fail=False))
    with pytest.raises(LookupError):
        await begin(fail=True)
    await asyncio.wait_for(gate.enter(), 10)
    endless.cancel()
