"""Rates: how often something may happen. Pure; times in seconds of any clock that doesn't go back."""

from dataclasses import dataclass


@dataclass(slots=True)
class TokenBucket:
    """`most` at once, `a_second` in the long run. It begins full."""

    most: float
    a_second: float
    _used: float = 0.0
    _at: float = 0.0

    def take(self, now: float) -> bool:
        """Take one token; False if there is none."""
        self._used = self._used_at(now)
        self._at = now
        if self._used + 1 > self.most:
            return False
        self._used += 1
        return True

    def seconds(self, now: float) -> float:
        """Return the time until there is a token."""
        return max(0.0, self._used_at(now) + 1 - self.most) / self.a_second

    def is_full(self, now: float) -> bool:
        """Whether it is as good as a new one."""
        return self._used_at(now) == 0

    def _used_at(self, now: float) -> float:
        return max(0.0, self._used - (now - self._at) * self.a_second)
