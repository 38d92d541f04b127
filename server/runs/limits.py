"""The limits of runs, and the deadlines of a team. Most limits are settings."""

from dataclasses import dataclass

from askstream.server.events import CancelReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Times in seconds, sizes in bytes."""

    active_runs: int = 64
    # Runs that wait for a human.
    waiting_runs: int = 1000
    # Active runs, and starts a minute, of one principal that isn't in `exempt`.
    principal_runs: int = 8
    run_starts: int = 30
    exempt: frozenset[str] = frozenset()
    # Agents' messages without a human's answer in between: it stops a runaway.
    messages: int = 40
    # Agents' messages in a run in which a human has answered.
    conversation_messages: int = 400
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
    had to watch. `silent` is set when silence was the reason to stop. Times in seconds of the monotonic clock.
    """

    limits: Limits
    began: float
    earlier_seconds: float
    silent: bool = False

    def seconds(self, now: float) -> float:
        """The time that the team has been at work."""
        return self.earlier_seconds + now - self.began

    def pause(self, now: float) -> None:
        """The team waits for a human, in memory. Call `resume` before the next `check`."""
        self.earlier_seconds = self.seconds(now)
        self.began = now

    def resume(self, now: float) -> None:
        """The wait is over. It counts for nothing."""
        self.began = now

    def check(
        self, now: float, *, last_sign: float, watched: bool, viewers: int, unwatched_since: float
    ) -> CancelReason | float:
        """Return the reason to stop the team, or the seconds until the next check. Events need no earlier check.

        `last_sign` is the time of the team's last event. `watched`: a call that limits its silence itself is in
        progress, so the run's own limit doesn't count. `unwatched_since` is the time at which the last viewer left.
        """
        left = self.began + self.limits.run_seconds - self.earlier_seconds - now
        silence = self.limits.silence_seconds
        if not watched:
            silence += max(last_sign, self.began) - now
        orphan_seconds = self.limits.orphan_seconds or float("inf")
        unwatched = orphan_seconds if viewers else max(unwatched_since, self.began) + orphan_seconds - now
        if min(left, silence) <= 0:
            self.silent = left > 0
            return "timeout"
        return min(left, silence, unwatched) if unwatched > 0 else "orphaned"
