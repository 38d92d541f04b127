"""The limits of a run, and the deadlines of its team. Defaults are the contract's, section 6; each is a setting."""

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
    # None: a run that nobody watches goes on to its end.
    orphan_seconds: float | None = 300
    # Runs that wait for their turn in one session.
    queued: int = 8
    # Contract section 5, promise 4: a cancelled run has ended by then, whatever its tools do.
    cancel_seconds: float = 5


@dataclass(slots=True, kw_only=True)
class RunDeadlines:
    """One stretch of work from the moment `began` on: its limits on time, on silence, and on work for nobody.

    `earlier_seconds` is the sum of the stretches before it. Time in which the run waited for its slot or for a human
    doesn't count: nobody had to watch. `emitted` counts what the team had emitted at `emitted_at`.
    Times in seconds, of the monotonic clock.
    """

    limits: Limits
    began: float
    earlier_seconds: float
    emitted_at: float
    emitted: int

    def check(self, now: float, *, emitted: int, viewers: int, unwatched_since: float) -> CancelReason | float:
        """Why the team has to stop, or after how many seconds to check again. An event in between changes nothing.

        `unwatched_since` is when the last viewer left.
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
