"""What is measured is whole: every viewer has seen every event, or there is no figure."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bench import builds, fanout, machine, replays, servers
from bench.fanout import Plan
from bench.generator import Seen
from bench.servers import Server, Transport

FAULTY = Path(__file__).with_name("faulty.py")
PLAN = Plan(seconds=0.01, rushes=1, single_seconds=0.01, paced_seconds=0.1)


@pytest.fixture(autouse=True, scope="module")
def generator() -> None:
    """The generator and the floor are compiled on first use."""
    try:
        builds.program("viewers")
        builds.program("floor")
    except builds.Missing as problem:
        pytest.skip(str(problem))


def faulty(fault: str) -> Server:
    like = servers.floor()
    return Server(
        name=fault,
        transport="sse",
        command=lambda port, _: servers.python(str(FAULTY), str(port), fault),
        prepare=like.prepare,
    )


@pytest.mark.parametrize(("transport", "runs"), [("sse", 1), ("websocket", 5)])
def test_our_own_server_is_measured_over_both_transports(transport: Transport, runs: int) -> None:
    """The real process; its viewers watch one run together, or a run each, and miss nothing; no figure is missing."""
    outcome = fanout.measure(servers.ours(transport), 5, PLAN, runs=runs)
    assert not outcome.failure
    assert min(outcome.cpu, outcome.rate, outcome.single_cpu, outcome.paced_cpu, outcome.p50, outcome.p99) > 0


def peer(server: Server) -> Callable[[], Server]:
    return lambda: server


@pytest.mark.parametrize(
    ("find", "runs"),
    [
        pytest.param(peer(servers.STREAMING), 1, id="StreamingResponse"),
        pytest.param(peer(servers.SEND_TEXT), 5, id="send_text"),
        pytest.param(peer(servers.WEBSOCKETS), 5, id="websockets"),
        pytest.param(peer(servers.BARE), 1, id="bare"),
        pytest.param(peer(servers.BARE), 5, id="bare, a run each"),
        pytest.param(servers.floor, 5, id="C"),
    ],
)
def test_peers_are_measured_in_the_same_way(find: Callable[[], Server], runs: int) -> None:
    """None of them loses anything at this size, be it of one run or of one each."""
    outcome = fanout.measure(find(), 5, PLAN, runs=runs)
    assert not outcome.failure
    assert min(outcome.cpu, outcome.p50) > 0


def test_our_plain_way_is_another_one() -> None:
    """The same server, told not to write to its connections itself."""
    assert servers.has_plain_way()
    plain = servers.ours("sse", plain=True)
    assert plain.name != servers.ours("sse").name
    assert not fanout.measure(plain, 2, Plan(seconds=0.01, rushes=1)).failure


def test_late_viewers_read_all_of_a_run_while_others_watch() -> None:
    """Each of them gets every event once, in order, or the generator ends with an error."""
    found = replays.measure("sse", "sqlite", live=3, seconds=0.5)
    assert found.replays > 0
    assert min(found.alone, found.beside, found.p99, found.p99_beside) > 0


def test_a_viewer_that_stalls_is_told_of_or_catches_up() -> None:
    """Nothing is lost in silence: ours keeps all of it, on disk."""
    found = fanout.stall(servers.ours("sse"), 3, 500, before=(100, 1))
    assert (found.caught_up, found.lost_in_silence) == (1.0, 0.0)
    assert min(found.rate, found.alone) > 0


@pytest.mark.parametrize(
    ("fault", "told"), [("skip", "gaps"), ("repeat", "repeats"), ("close", "closed"), ("none", "")]
)
def test_a_server_that_loses_or_repeats_an_event_gets_no_figure(fault: str, told: str) -> None:
    """The generator's own proof: one event amiss among hundreds is noticed, and the failure says what it was."""
    outcome = fanout.measure(faulty(fault), 5, Plan(seconds=0.01, rushes=1))
    assert told in outcome.failure
    assert bool(outcome.failure) == bool(fault != "none")
    assert (outcome.cpu > 0) == (fault == "none")


@pytest.mark.parametrize(
    ("each", "once", "events"), [(1e-4, 0.0, 15_000), (0.0, 3.0, 8), (1e-9, 0.0, 20_000)], ids=["fast", "slow", "free"]
)
def test_a_run_is_as_long_as_it_should_be(each: float, once: float, events: int) -> None:
    """A fast server gets the events of its time, up to the most; a slow one as few as tell anything."""

    def rush(events: int) -> Seen:
        return Seen(delivered=0, seconds=once + each * events, busy=0)

    assert fanout.events_of(rush, 5000, 1.5) == pytest.approx(events, rel=0.1)


@pytest.mark.parametrize(
    ("noises", "best", "runs"),
    [([0.0, 0.01], 0, 2), ([0.5, 0.05, 0.2, 0.01], 3, 4), ([0.5, 0.4, 0.3, 0.2, 0.3], 3, 5)],
    ids=["quiet", "two were quiet", "none was"],
)
def test_the_least_disturbed_run_counts(
    monkeypatch: pytest.MonkeyPatch, noises: list[float], best: int, runs: int
) -> None:
    """Not the best figure: until two were quiet, or five are done."""
    done = iter(range(10))
    told = iter(noises)

    class Load:
        def others_since(self, _before: object) -> float:
            return next(told)

    def load(*_pids: int) -> Load:
        return Load()

    monkeypatch.setattr(machine, "load", load)
    assert machine.least_disturbed(lambda: next(done), (1, 2)) == best
    assert next(done) == runs
