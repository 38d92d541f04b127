"""How much is measured: in a few minutes, or in full."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench import tokens
from bench.fanout import Plan
from bench.servers import Transport


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """`viewers` of one run, each number with its plan; `runs` with a viewer each. `few` leaves out some peers.

    `idle_seconds` is for how long `waiting` viewers are left alone, `durable` the numbers of viewers whose latency is
    taken with and without a journal on disk, `replay_live` those who watch during replays, `stalled` how many events
    one of 20 viewers does not read, after at most so many, in about so many seconds, that all of them read.
    `overhead` is how many runs at once, and in how many rounds; `asked` how many first events are awaited. Sections to
    `leave_out` are measured when they are asked for.
    """

    few: bool
    viewers: Mapping[int, Plan]
    runs: Mapping[int, Plan]
    waiting: int
    idle_seconds: float
    durable: Mapping[int, Plan]
    replay_live: Sequence[tuple[int, Transport]]
    replay_seconds: float
    stalled: int
    stalled_before: tuple[int, float]
    appended: int
    times: int
    writing: tokens.Load
    rushed: tokens.Load
    overhead: tuple[int, int]
    asked: int
    profile_seconds: float
    leave_out: Sequence[str] = ()


_BRIEF = Plan(seconds=0.6, rushes=1, single_seconds=0.4, paced_seconds=1.2)
QUICK = Scale(
    few=True,
    viewers={100: _BRIEF, 1000: _BRIEF},
    runs={1000: Plan(seconds=0, paced_seconds=1.5, rate=10)},
    waiting=5000,
    idle_seconds=3,
    durable={100: Plan(seconds=0, paced_seconds=2)},
    replay_live=((100, "sse"),),
    replay_seconds=2,
    stalled=5_000,
    stalled_before=(45_000, 3),
    appended=40,
    times=3,
    writing=tokens.Load(runs=50, pieces=60, pause=0.05),
    rushed=tokens.Load(runs=1, pieces=8000, pause=0),
    overhead=(3, 1),
    asked=50,
    profile_seconds=1.5,
    leave_out=("where",),
)

_LONG = Plan(seconds=1.2, rushes=2, single_seconds=0.6, paced_seconds=4, patience=3)
# With 5,000 viewers a slow server takes seconds for a few events.
_VAST = Plan(seconds=0.8, rushes=1, single_seconds=0.4, paced_seconds=5)
_RUNS = Plan(seconds=0, paced_seconds=3, rate=10, patience=3)
_PACED = Plan(seconds=0, paced_seconds=6, patience=3)
FULL = Scale(
    few=False,
    viewers={10: _LONG, 100: _LONG, 1000: _LONG, 5000: _VAST},
    runs={1: _RUNS, 10: _RUNS, 100: _RUNS, 1000: _RUNS},
    waiting=5000,
    idle_seconds=20,
    durable={100: _PACED, 1000: _PACED},
    replay_live=((100, "sse"), (1000, "websocket")),
    replay_seconds=4,
    stalled=60_000,
    stalled_before=(45_000, 7),
    appended=200,
    times=7,
    writing=tokens.Load(runs=300, pieces=200, pause=0.05),
    rushed=tokens.Load(runs=1, pieces=20_000, pause=0),
    overhead=(10, 3),
    asked=300,
    profile_seconds=4,
)
