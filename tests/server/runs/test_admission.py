"""New runs are admitted within the limits of the process and of each principal."""

import asyncio
from typing import Any, cast

import pytest

from askstream.server.events.errors import PrincipalLimit, RateLimited, Refused, TooManyRuns
from askstream.server.rates import TokenBucket
from askstream.server.runs import Answer, Limits, Question, Runs, Sink, Task
from askstream.server.runs.admission import Admission
from tests.server.runs.harness import Harness


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Run:
    def __init__(self, principal: str, *, waits: bool = False) -> None:
        self.principal, self.pending = principal, object() if waits else None


def admission(**limits: Any) -> tuple[Admission, Clock]:
    clock = Clock()
    return Admission(Limits(**limits), clock), clock


def check(made: Admission, principal: str, *runs: Run) -> None:
    made.check(principal, cast(Any, runs))


def test_thirty_starts_a_minute_are_allowed_and_the_next_must_wait() -> None:
    """The refusal says how long; another principal may go on."""
    made, clock = admission()
    for _ in range(30):
        check(made, "ann")
    with pytest.raises(RateLimited) as refused:
        check(made, "ann")
    assert refused.value.retry_after == 2
    check(made, "bob")
    clock.now += 2
    check(made, "ann")
    with pytest.raises(RateLimited):
        check(made, "ann")


def test_a_principal_that_has_gone_leaves_nothing_behind() -> None:
    """Principals may be many in the long run."""
    made, clock = admission()
    for number in range(1000):
        check(made, f"p{number}")
        clock.now += 1
    assert len(made._starts) < 10  # pyright: ignore[reportPrivateUsage]


def test_a_principal_has_eight_active_runs_and_others_have_theirs() -> None:
    """One that waits for a human doesn't count."""
    made, _ = admission()
    runs = [Run("ann") for _ in range(8)]
    with pytest.raises(PrincipalLimit):
        check(made, "ann", *runs)
    check(made, "bob", *runs)
    check(made, "ann", *runs[1:], Run("ann", waits=True))


def test_the_process_has_a_limit_of_its_own() -> None:
    """Also for principals that have none."""
    made, _ = admission(active_runs=2, waiting_runs=3, exempt=frozenset({"anonymous"}))
    check(made, "anonymous", Run("a"), Run("b", waits=True), Run("c", waits=True))
    with pytest.raises(TooManyRuns):
        check(made, "anonymous", Run("a"), Run("b"), Run("c", waits=True))
    with pytest.raises(TooManyRuns):
        check(made, "anonymous", *[Run("a", waits=True) for _ in range(3)])


def test_an_exempt_principal_has_no_limit_of_its_own() -> None:
    made, _ = admission(run_starts=1, principal_runs=1, active_runs=1000, exempt=frozenset({"anonymous"}))
    for number in range(100):
        check(made, "anonymous", *[Run("anonymous")] * number)


def test_a_bucket_never_holds_more_than_its_size() -> None:
    """After any time."""
    bucket = TokenBucket(most=3, a_second=1)
    assert [bucket.take(1e9) for _ in range(4)] == [True, True, True, False]
    assert bucket.seconds(1e9) == 1
    assert not bucket.is_full(1e9 + 2.9)
    assert bucket.is_full(1e9 + 3)


async def test_a_refused_start_leaves_nothing_and_a_joined_run_is_no_start(harness: Harness) -> None:
    """Its session is free; a repeated request with an idempotency key isn't counted."""
    may_end = asyncio.Event()

    async def team(_task: Task, _sink: Sink) -> Answer:
        await may_end.wait()
        return Answer(final_response="", total_messages=0, usage=cast(Any, None), agent_name="A")

    runs: Runs = harness.open(team, run_starts=2)
    asked = Question(text="why?", principal="p", idempotency_key="k", session_id="s1")
    first, _ = await runs.start(asked)
    for _ in range(5):
        assert (await runs.start(asked))[0].run_id == first.run_id
    await runs.start(Question(text="why?", principal="p"))
    with pytest.raises(Refused):
        await runs.start(Question(text="why?", principal="p", session_id="s2"))
    assert not runs._active.busy("p", "s2")  # pyright: ignore[reportPrivateUsage]
    may_end.set()
    await runs.close()
