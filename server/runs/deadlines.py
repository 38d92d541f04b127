"""How long a run's team may go on: the limits on its time, its silence, and its work for nobody."""

from typing import Protocol

from askstream.server.events import CancelReason
from askstream.server.runs.limits import Limits


class Audience(Protocol):
    """Who watches. `unwatched_since` is when the last viewer left, by the monotonic clock."""

    viewers: int
    unwatched_since: float


class Patience:
    """One stretch of work from the moment `now` on; `worked` are the seconds of the stretches before it.

    While the run waited for its turn or for a human nobody had to watch: that doesn't count. `heard` counts what the
    team has said so far. Times in seconds, of the monotonic clock.
    """

    def __init__(self, limits: Limits, audience: Audience, *, now: float, worked: float, heard: int) -> None:
        self._limits, self._audience = limits, audience
        self._began = self._quiet_since = now
        self._deadline = now + limits.run_seconds - worked
        self._heard = heard

    def look(self, now: float, heard: int) -> CancelReason | float:
        """Why the team has to stop, or in how many seconds to look again. Nothing has to be told when it speaks."""
        if heard != self._heard:
            self._heard, self._quiet_since = heard, now
        left = min(self._deadline, self._quiet_since + self._limits.silence_seconds) - now
        if left <= 0:
            return "timeout"
        orphan_seconds = self._limits.orphan_seconds or float("inf")
        if self._audience.viewers:
            return min(left, orphan_seconds)
        unwatched = max(self._audience.unwatched_since, self._began) + orphan_seconds - now
        return min(left, unwatched) if unwatched > 0 else "orphaned"
