"""A measurement is complete: every viewer has received every event, or there is no figure."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import fanout, machine, servers
from bench.fanout import Plan, Seen
from bench.machine import Unmeasurable
from bench.sections import journal, teams, viewers
from bench.servers import FLOOR, Checkout, Server, Transport
from bench.writers import delays

FAULTY = Path(__file__).with_name("faulty.py")
PLAN = Plan(seconds=0.01, single_seconds=0.01, paced_seconds=0.1)


@pytest.fixture(autouse=True, scope="module")
def generator() -> None:
    """The generator and the floor are compiled on first use."""
    try:
        machine.program("viewers")
        machine.program("floor")
    except Unmeasurable as problem:
        pytest.skip(str(problem))


def faulty(fault: str) -> Server:
    return Server(
        name=fault,
        command=lambda port, _: [sys.executable, str(FAULTY), str(port), fault],
        prepare=FLOOR.prepare,
    )


@pytest.mark.parametrize(("transport", "runs"), [("sse", 1), ("websocket", 5)])
def test_our_own_server_is_measured_over_both_transports(transport: Transport, runs: int) -> None:
    """The real process; its viewers watch one run together, or a run each, and miss nothing; no figure is missing."""
    outcome = fanout.measure(servers.ours(transport), 5, PLAN, runs=runs)
    assert not outcome.failure
    assert {"rush", "single", "paced", "p50", "p99", "connect", "connect CPU", "memory"} <= set(outcome.figures)
    assert min(outcome.figures[name] for name in ("rush", "single", "paced", "p50", "p99", "connect")) > 0


@pytest.mark.parametrize(
    ("server", "runs"),
    [
        (servers.STREAMING, 1),
        (servers.SEND_TEXT, 5),
        (servers.BROADCAST, 5),
        (servers.BARE, 1),
        (servers.BARE, 5),
        (FLOOR, 5),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_peers_are_measured_in_the_same_way(server: Server, runs: int) -> None:
    """None of them loses an event at this size, with one run or a run for each viewer."""
    outcome = fanout.measure(server, 5, PLAN, runs=runs)
    assert not outcome.failure
    assert min(outcome.figures["rush"], outcome.figures["p50"]) > 0


def test_our_plain_connections_are_measured_too() -> None:
    """Plain ASGI is the same server, without direct writes."""
    plain = servers.ours("sse", plain=True)
    assert plain.name != servers.ours("sse").name
    assert not fanout.measure(plain, 2, Plan(seconds=0.01)).failure


def test_late_viewers_read_all_of_a_run_while_others_watch() -> None:
    """Each of them gets every event once, in order, or the generator ends with an error."""
    alone, quiet, beside, _noise = journal.replays("sse", "sqlite", 3, 0.5)
    assert min(alone, quiet.p99_ms, beside.p99_ms, beside.replay_mb_s) > 0


def test_a_viewer_that_stalls_catches_up() -> None:
    """It loses nothing: our server keeps all events on disk."""
    found = viewers.stall(servers.ours("sse"), 3, 500, seconds_before=0.1)
    assert not found.failure
    assert found.figures["lost"] == 0.0
    assert min(found.figures["rate"], found.figures["undisturbed"]) > 0


def test_every_piece_of_a_models_text_arrives_on_both_ways() -> None:
    """Over HTTP and in process. A piece that does not arrive is an error, not a cheaper run."""
    shape = teams.Shape(runs=2, agents=2, pieces=10, pause=0.001)
    for cost in teams.compared([servers.here()], shape, rounds=1).values():
        assert cost.cpu > 0
        assert 0 < cost.p50 <= cost.p99
    with pytest.raises(Unmeasurable, match="39 pieces arrived of 40"):
        shape.cost(1.0, 39, 1.0, 1.0)


def test_a_delay_is_from_the_mark_to_now() -> None:
    """Each piece of a text counts once."""
    now = time.monotonic_ns()
    found = delays(f"^{now - 10**9:019d} ^{now - 2 * 10**9:019d} ")
    assert found == pytest.approx([1000, 2000], abs=500)


def test_a_checkout_without_an_environment_is_refused(tmp_path: Path) -> None:
    """The error says what was expected. An old checkout, without the package, starts its server by its old name."""
    with pytest.raises(Unmeasurable, match=r"\.venv/bin/python"):
        Checkout("other", tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").touch()
    assert Checkout("other", tmp_path).serve()(1, tmp_path)[1:4] == ["-m", "server", "serve"]
    assert servers.here().serve()(1, tmp_path)[1:4] == ["-m", "askstream.server", "serve"]


@pytest.mark.parametrize(
    ("fault", "reason"), [("skip", "gaps"), ("repeat", "repeats"), ("close", "closed"), ("none", "")]
)
def test_a_server_that_loses_or_repeats_an_event_gets_no_figure(fault: str, reason: str) -> None:
    """The generator notices one faulty event among hundreds, and names the fault."""
    outcome = fanout.measure(faulty(fault), 5, Plan(seconds=0.01))
    assert reason in outcome.failure
    assert bool(outcome.failure) == bool(fault != "none")
    assert ("rush" in outcome.figures) == (fault == "none")


@pytest.mark.parametrize(
    ("each", "once", "events"), [(1e-4, 0.0, 15_000), (0.0, 3.0, 8), (1e-9, 0.0, 20_000)], ids=["fast", "slow", "free"]
)
def test_a_run_lasts_about_as_long_as_planned(each: float, once: float, events: int) -> None:
    """A fast server gets the events of its time, up to a maximum; a slow one as few as make sense."""

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
    """It isn't the best figure. Runs repeat until two were quiet, or five are done."""
    done = iter(range(10))
    measured = iter(noises)

    def with_noise(measure: Callable[[], int], *_pids: int) -> tuple[int, float]:
        return measure(), next(measured)

    monkeypatch.setattr(machine, "with_noise", with_noise)
    assert machine.least_disturbed(lambda: next(done), 1, 2) == (best, noises[best])
    assert next(done) == runs
