"""Everything that delays or batches events on purpose, or lets the event loop serve others first.

Every wait between a model's chunk and a viewer's socket is listed in docs/latency.md. The classes here decide about
them; the constants say how long they may be, and why.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

# Writes after which a delay is tried again, once a delay gained nothing: one delay in 17 writes is what it costs to
# notice that events come together again.
SKIPPED_WRITES = 16
# A pass over that many viewers is too cheap to make the next one wait, so its cost is not measured.
FEW_VIEWERS = 32
# AutoGen takes seven loop iterations until the first agent's turn begins. They are counted, not awaited: a team that
# waits for something else, its factory's database say, is no reason to hold others up.
START_ITERATIONS = 8
# What a new run leaves to others before its team is set up, which takes the loop some milliseconds: its first event is
# on its way to the viewer after two iterations. Iterations, not time: on a busy loop the event needs longer as well.
FIRST_EVENT_ITERATIONS = 4


class AdaptiveDelay:
    """Whether one writer should wait for more events before it writes, as Nagle's algorithm does.

    It skips the delay for SKIPPED_WRITES writes after one that gained nothing: events that come one by one, each after
    the last was seen, are then held up once in a while only. Several events at once mean that more will follow.
    """

    _skips = 0

    def should_wait(self, events: int) -> bool:
        """Ask before each write that could wait, with the number of events that it has by now."""
        if events > 1:
            self._skips = 0
        if not self._skips:
            return True
        self._skips -= 1
        return False

    def waited(self, events: int) -> None:
        """Report after a wait how many events it brought together."""
        if events < 2:
            self._skips = SKIPPED_WRITES


@dataclass(slots=True)
class FanoutScheduler:
    """Decides when a channel writes to its viewers: at once, or, with many viewers, when the last pass has paid for
    itself.

    A write to a socket costs ten times what it takes to make its bytes, however many events are in it. So a pass over
    many viewers that cost 5 ms is followed by 5 ms for everything else, and the events of that time are written
    together. `notify` writes to all viewers and returns how many they may be.
    """

    notify: Callable[[], int]
    _free_at: float = 0.0
    _delay: AdaptiveDelay = field(default_factory=AdaptiveDelay)
    _next: asyncio.Handle | None = None
    _events: int = 0  # that came since `_next` was set

    def schedule(self, events: int) -> None:
        """New events are due. `notify` is called now, or within the cost of the last pass."""
        if self._next is not None:
            self._events += events
            return
        wait = self._free_at - monotonic()
        if wait <= 0 or not self._delay.should_wait(events):
            self._pass()
        else:
            self._next, self._events = asyncio.get_running_loop().call_later(wait, self._waited), events

    def _waited(self) -> None:
        self._next = None
        self._delay.waited(self._events)
        self._pass()

    def _pass(self) -> None:
        began = monotonic()
        if self.notify() > FEW_VIEWERS:
            # uvloop writes at the end of the iteration, so the cost of the pass is known in the next one.
            self._next, self._events = asyncio.get_running_loop().call_soon(self._measure, began), 0

    def _measure(self, began: float) -> None:
        now = monotonic()
        self._free_at = now + (now - began)
        self._next = None
        if self._events:
            self.schedule(self._events)


class ReplayGate:
    """Lets one replaying viewer work per loop iteration, first come first served, so that replays can't starve live
    viewers.

    Reading from memory and writing to a client that reads everything never suspends: without the gate a log of 10,000
    events would go out in one piece while every live viewer waits.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def enter(self) -> None:
        """Return when it is the caller's iteration; it may work until it next suspends. Safe to cancel."""
        async with self._lock:
            await asyncio.sleep(0)


class StartGate:
    """Starts runs one after the other, so that many questions at once don't hold up the runs that are speaking.

    AutoGen takes milliseconds to set a team up, in slices between which the event loop turns. Three hundred set-ups at
    once make an iteration of as many slices; one at a time, an iteration has one slice, and all of them take no longer.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def enter(self) -> None:
        """Return when it is the caller's turn, first come first served. Nothing has to be released. Safe to cancel."""
        await self._lock.acquire()
        self._count(START_ITERATIONS)

    def _count(self, left: int) -> None:
        if left:
            asyncio.get_running_loop().call_soon(self._count, left - 1)
        else:
            self._lock.release()
