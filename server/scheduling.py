"""Rules that delay or batch events on purpose, or let the event loop serve others first.

docs/latency.md lists every wait between a model's chunk and a viewer's socket, with its reason and its bound.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

# Writes without a delay after a delay that gained nothing. One delay in 17 writes is the cost of noticing that events
# come together again.
SKIPPED_WRITES = 16
# A pass over so few viewers is too cheap to make the next one wait, so its cost is not measured.
FEW_VIEWERS = 32
# AutoGen and the runner need ten loop iterations until the first agent's turn begins. They are counted, not awaited:
# a team that waits for something else, such as its factory's database, must not delay others.
START_ITERATIONS = 11
# Iterations that a new run waits before its team is set up, which blocks the loop for milliseconds: its first event is
# on its way to the viewer after two. Iterations, not time: on a busy loop the event needs longer as well.
FIRST_EVENT_ITERATIONS = 4


class AdaptiveDelay:
    """Adaptive Nagle: decides whether one writer waits for more events before it writes.

    It skips the delay for SKIPPED_WRITES writes after a delay that gained nothing, so that events that come one by one
    are rarely delayed. Several events at once mean that more will follow.
    """

    _skips = 0

    def should_wait(self, events: int) -> bool:
        """Call before each write that could wait, with the number of its events so far."""
        if events > 1:
            self._skips = 0
        if not self._skips:
            return True
        self._skips -= 1
        return False

    def waited(self, events: int) -> None:
        """Call after a wait, with the number of events that it joined."""
        if events < 2:
            self._skips = SKIPPED_WRITES


@dataclass(slots=True)
class FanoutScheduler:
    """Decides when a channel writes to its viewers: at once, or, with many viewers, after a pause as long as the last
    pass.

    A write to a socket costs ten times as much as making its bytes, for any number of events. So a pass over many
    viewers that cost 5 ms is followed by 5 ms for everything else, and the events of that time are written together.
    `notify` writes to all viewers and returns at most how many there are.
    """

    notify: Callable[[], int]
    _free_at: float = 0.0
    _delay: AdaptiveDelay = field(default_factory=AdaptiveDelay)
    _next: asyncio.Handle | None = None
    _events: int = 0  # that came since `_next` was set

    def schedule(self, events: int) -> None:
        """Call `notify` for new events, now or after at most the duration of the last pass."""
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
            # Plain connections send in the next iteration: only then is the cost of the pass known.
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
        """Return in an iteration of the caller's own; it may work until it next suspends. Safe to cancel."""
        async with self._lock:
            await asyncio.sleep(0)


class StartGate:
    """Starts runs one after the other, so that many questions at once don't delay the runs that are streaming.

    AutoGen needs milliseconds to set a team up, a slice in each of several loop iterations. Three hundred set-ups at
    once make an iteration of 300 slices; one at a time, an iteration has one slice, and all of them need no more time.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def enter(self) -> None:
        """Return when the caller may start, first come first served. Nothing has to be released. Safe to cancel."""
        await self._lock.acquire()
        self._count(START_ITERATIONS)

    def _count(self, left: int) -> None:
        if left:
            asyncio.get_running_loop().call_soon(self._count, left - 1)
        else:
            self._lock.release()
