"""What is measured is whole: every viewer has seen every event, or there is no figure."""

from pathlib import Path

import pytest

from bench import builds, fanout, servers
from bench.fanout import Plan
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


@pytest.mark.parametrize("peer", [servers.STREAMING, servers.WEBSOCKETS], ids=lambda peer: peer.name)
def test_peers_are_measured_in_the_same_way(peer: Server) -> None:
    """None of them loses anything at this size."""
    outcome = fanout.measure(peer, 5, PLAN)
    assert not outcome.failure
    assert outcome.cpu > 0


@pytest.mark.parametrize(
    ("fault", "told"), [("skip", "gaps"), ("repeat", "repeats"), ("close", "closed"), ("none", "")]
)
def test_a_server_that_loses_or_repeats_an_event_gets_no_figure(fault: str, told: str) -> None:
    """The generator's own proof: one event amiss among hundreds is noticed, and the failure says what it was."""
    outcome = fanout.measure(faulty(fault), 5, Plan(seconds=0.01, rushes=1))
    assert told in outcome.failure
    assert bool(outcome.failure) == bool(fault != "none")
    assert (outcome.cpu > 0) == (fault == "none")
