"""The limits of runs, and the deadlines of a team. Most limits are settings."""

from dataclasses import dataclass

from askstream.server.events import CancelReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Times in seconds, sizes in bytes."""

    active_runs: int = 64
    messages: int = 40
    run_seconds: float = 900
    silence_seconds: float = 120
    event_bytes: int = 256 * 1024
    log_events: int = 10_000
    log_bytes: int = 16 * 1024 * 1024
    input_seconds: float = 600
    # None: a run without viewers goes on to its end.
    orphan_seconds: float | None = 300
    # Runs that may wait in one session's queue.
    queued: int = 8
    # transports/PROTOCOL.md, promise 4: a cancelled run has ended by then, whatever its tools do.
    cancel_seconds: float = 5


@dataclass(slots=True, kw_only=True)
class RunDeadlines:
    """The deadlines of one stretch of work, which starts at `began`: total time, silence, and time without viewers.

    `earlier_seconds` is the sum of the stretches before it. Waiting for a session slot or a human doesn't count: nobody
    had to watch. `emitted` is the number of the team's events at `emitted_at`. Times in seconds of the monotonic clock.
    """

    limits: Limits
    began: float
    earlier_seconds: float
    emitted_at: float
    emitted: int

    def check(self, now: float, *, emitted: int, viewers: int, unwatched_since: float) -> CancelReason | float:
        """Return the reason to stop the team, or the seconds until the next check. Events need no earlier check.

        `unwatched_since` is the time at which the last viewer left.
        """
        if emitted != self.emitted:
            self.emitted, self.emitted_at = emitted, now
        ends_at = self.began + self.limits.run_seconds - self.earlier_seconds
        left = min(ends_at, self.emitted_at + self.limits.silence_seconds) - now
        orphan_seconds = self.limits.orphan_seconds or float("inf")
        unwatched = orphan_seconds if viewers else max(unwatched_since, self.began) + orphan_seconds - now
        if left <= 0:
            return "timeout"
        return min(left, unwatched) if unwatched > 0 else "orphaned"
