"""The pauses of a model call whose server is away. Pure: time and chance are arguments."""

from dataclasses import dataclass

from askstream.agents.model_errors import Absence

# Seconds. A server that restarts is back within a few; the pauses then grow, so that it isn't called all the time.
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 8.0
# Runs that lost the same server must not all come back at the same moment.
SPREAD = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitPolicy:
    """The maximum of seconds that a call waits for a model that is away, and of its repetitions; None: no limit."""

    seconds: float = 60.0
    retries: int | None = None


@dataclass(slots=True)
class Waits:
    """The pauses of one call."""

    policy: WaitPolicy
    since: float | None = None  # when it failed first
    count: int = 0

    def next(self, absent: Absence, now: float, chance: float = 1.0) -> float | None:
        """Seconds until the next try, or None if there must be none. The last try comes when the time is over."""
        self.since = now if self.since is None else self.since
        left = self.since + self.policy.seconds - now
        if left <= 0 or absent.retry_after > left or self.count == self.policy.retries:
            return None
        pause = min(FIRST_PAUSE * 2 ** min(self.count, 16), LONGEST_PAUSE) * (1 - SPREAD * (1 - chance))
        self.count += 1
        return min(max(pause, absent.retry_after), left)
