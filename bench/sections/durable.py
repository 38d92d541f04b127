"""The journal: what it adds to the latency, how much it takes, and how fast a late viewer reads from it."""

import os
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Literal, TypeAlias

from bench import builds, fanout, journal, machine, replays, servers
from bench.contenders import NOISY, TITLES, measured, say
from bench.fanout import Plan
from bench.replays import Replay
from bench.report import Row, Table
from bench.scale import Scale
from bench.servers import FLOOR, OURS, Transport

_MEMORY = "the same, journal in memory"
Kept: TypeAlias = Literal["memory", "sqlite"]
_JOURNALS: Mapping[Kept, str] = {"memory": "memory", "sqlite": "SQLite"}


def commit(scale: Scale) -> Iterator[Table]:
    """The same pace with a journal on disk and with one in memory."""
    result = Table("What durability adds to the latency", "Milliseconds from publish to the viewer's socket")
    for count, plan in scale.durable.items():
        for transport in list(TITLES)[:1] if scale.few else TITLES:
            result.rows += _added(transport, count, plan)
    result.notes.append("A viewer sees an event once it is durable; events that come together are committed together.")
    yield result


def _added(transport: Transport, count: int, plan: Plan) -> Iterator[Row]:
    case = f"{TITLES[transport]}, {fanout.paced_rate(count):.0f} events/s to {count:,} viewers"
    disk = measured(servers.ours(transport), count, plan)
    memory = measured(servers.ours(transport, journal="memory"), count, plan)
    if disk.failure or memory.failure:
        return
    yield Row(f"{case}, p50", {OURS: disk.p50, _MEMORY: memory.p50})
    yield Row(f"{case}, p99", {OURS: disk.p99, _MEMORY: memory.p99})
    added = disk.p50 - memory.p50
    yield Row(f"{case}, added at p50", {OURS: added}, goal="durable", of=f"{TITLES[transport]} {count:,}")
    yield Row(f"{case}, added at p99", {OURS: disk.p99 - memory.p99})


def log(scale: Scale) -> Iterator[Table]:
    """Appends from many runs at once, in this process."""
    say(f"journal, {journal.RUNS} runs")
    found = machine.least_disturbed(partial(journal.appends, scale.appended), [os.getpid()])
    bare = machine.least_disturbed(partial(journal.bare_sqlite, scale.appended), [os.getpid()])
    result = Table(f"Durable events, {journal.RUNS} runs at once", "Events a second", better="more")
    figures = {OURS: found.rate, f"bare SQLite, {journal.RUNS} rows a commit": bare}
    result.rows.append(Row("appended", figures, 0, "journal"))
    result.notes.append(f"CPU {found.cpu:.0f} µs an event; an append takes {found.p50:.1f} ms (p99 {found.p99:.1f}).")
    yield result


def replay(scale: Scale) -> Iterator[Table]:
    """A late viewer, alone and while others watch a live run."""
    speed = Table(f"A late viewer reads {replays.EVENTS:,} events over HTTP", "MB a second", better="more")
    others = Table("Live viewers while late ones read one after another", "Milliseconds from publish to socket")
    try:
        lowest = replays.floor().alone
    except builds.Unmeasurable as problem:
        speed.notes.append(f"{FLOOR} failed: {problem}.")
        lowest = None
    cases: list[tuple[Kept, int, Transport]] = [(kept, *live) for kept in _JOURNALS for live in scale.replay_live]
    for kept, live, transport in cases:
        case = f"from {_JOURNALS[kept]}, {live:,} live {TITLES[transport]} viewers"
        say(f"replay {case}")
        try:
            found = replays.measure(transport, kept, live, scale.replay_seconds)
        except builds.Unmeasurable as problem:
            speed.notes.append(f"{case}: failed, {problem}.")
            continue
        if not any(row.goal == f"replay {kept}" for row in speed.rows):
            speed.rows.append(
                Row(f"from {_JOURNALS[kept]}, alone", {OURS: found.alone, FLOOR: lowest}, 0, f"replay {kept}")
            )
        speed.rows.append(Row(case, {OURS: found.beside}, 0))
        others.rows += _beside(case, found, f"replay p99 {live}", f"{TITLES[transport]} {_JOURNALS[kept]}")
        others.notes.append(f"{case}: {found.replays} replays.")
        if found.noise > machine.QUIET:
            speed.notes.append(NOISY)
    yield from (speed, others)


def _beside(case: str, found: Replay, goal: str, of: str) -> Iterator[Row]:
    without = "the same, without replays"
    yield Row(f"{case}, p50", {OURS: found.p50_beside, without: found.p50})
    yield Row(f"{case}, p99", {OURS: found.p99_beside, without: found.p99}, goal=goal, of=of)
