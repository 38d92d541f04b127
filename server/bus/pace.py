"""When viewers are told: at once after a quiet spell; while events outrun the writes, several together.

A write costs ten times what it takes to make the bytes, whether it carries one event or fifty. So what becomes due
during a pass over the viewers waits for the next pass, which begins when the last one took so long again. Events that
come one by one, each after the pass before, outrun nothing: they wait once in a while, to see whether that has changed.
"""

import asyncio
from collections.abc import Callable
from time import monotonic

from askstream.server.scheduling import Joining

# Nobody sees a delay of that length, and a run of 100 events a second never meets it.
JOIN_SECONDS = 0.002


class Pace:
    """Calls `do`, which tells so many viewers, no later than JOIN_SECONDS or the last call's cost after `due`."""

    __slots__ = ("_came", "_do", "_free_at", "_joining", "_timer")

    # A pass over so few takes less than JOIN_SECONDS: it need not be measured.
    SMALL = 32

    def __init__(self, do: Callable[[], int]) -> None:
        self._do = do
        self._free_at = 0.0
        self._joining = Joining()
        self._timer: asyncio.TimerHandle | None = None
        self._came = 0  # events that the timer's pass will tell

    def due(self, events: int) -> None:
        """There are so many events more to tell."""
        if self._timer is not None:
            self._came += events
            return
        now = monotonic()
        wait = self._free_at - now
        if wait <= 0 or not self._joining.pays(events):
            self._pass(now)
        else:
            self._timer, self._came = asyncio.get_running_loop().call_later(wait, self._waited), events

    def _waited(self) -> None:
        self._timer = None
        self._joining.waited(self._came)
        self._pass(monotonic())

    def _pass(self, began: float) -> None:
        self._free_at = began + JOIN_SECONDS
        if self._do() > self.SMALL:
            # uvloop writes at the end of a turn: what the pass has cost is known in the next one.
            asyncio.get_running_loop().call_soon(self._rested, began)

    def _rested(self, began: float) -> None:
        now = monotonic()
        self._free_at = max(self._free_at, now + (now - began))
