"""Admits new runs, within the limits of the process and of each principal."""

from collections.abc import Callable, Collection
from math import ceil
from time import monotonic

from askstream.server.events.errors import PrincipalLimit, RateLimited, TooManyRuns
from askstream.server.rates import TokenBucket
from askstream.server.runs.limits import Limits
from askstream.server.runs.run import Run

# Seconds after which a refused client should retry. A run takes from a few seconds to minutes.
BUSY_RETRY = 5
MINUTE = 60.0


class Admission:
    """`check` counts a start that it admits, also if the run then can't begin: its journal may be the reason."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = monotonic) -> None:
        self._limits, self._clock = limits, clock
        self._starts: dict[str, TokenBucket] = {}

    def check(self, principal: str, runs: Collection[Run]) -> None:
        """`runs` are the active ones. Raises TooManyRuns, PrincipalLimit and RateLimited."""
        limits = self._limits
        if len(runs) >= min(limits.active_runs, limits.waiting_runs):
            _check_process(limits, runs)
        if principal in limits.exempt:
            return
        if sum(run.pending is None and run.principal == principal for run in runs) >= limits.principal_runs:
            raise PrincipalLimit(
                f"{limits.principal_runs} of your runs are active; wait for one to end.", retry_after=BUSY_RETRY
            )
        self._count_start(principal)

    def _count_start(self, principal: str) -> None:
        now, most = self._clock(), self._limits.run_starts
        bucket = self._starts.setdefault(principal, TokenBucket(most, most / MINUTE))
        if not bucket.take(now):
            raise RateLimited(f"You may start {most} runs a minute.", retry_after=ceil(bucket.seconds(now)))
        for name in [name for name, other in self._starts.items() if other.is_full(now)]:
            del self._starts[name]  # a principal that has gone leaves nothing behind


def _check_process(limits: Limits, runs: Collection[Run]) -> None:
    waiting = sum(run.pending is not None for run in runs)
    if len(runs) - waiting >= limits.active_runs:
        raise TooManyRuns(f"All {limits.active_runs} places for active runs are taken.", retry_after=BUSY_RETRY)
    if waiting >= limits.waiting_runs:
        raise TooManyRuns(f"{limits.waiting_runs} runs wait for a human already.", retry_after=BUSY_RETRY)
