"""Thousands of viewers that only wait: how long they take to come, and what they take then."""

from collections.abc import Iterator
from dataclasses import replace

from bench.contenders import TITLES, Outcomes, contenders, floor, measured, notes
from bench.fanout import Outcome, Plan
from bench.report import Row, Table
from bench.scale import Scale
from bench.servers import FLOOR, OURS, Transport


def waiting(scale: Scale) -> Iterator[Table]:
    count = scale.waiting
    lowest = floor(count, Plan(seconds=0))
    found: Outcomes = {(transport, count): _outcomes(scale, transport) for transport in TITLES}
    memory = Table(f"A viewer that only waits, one of {count:,}", "KB of the server's own memory")
    connect = Table(f"Opening {count:,} viewers", "Seconds")
    idle = Table(f"{count:,} viewers waiting", "Percent of a core")
    for (transport, _), outcomes in found.items():
        case = TITLES[transport]
        figures = {name: outcome.memory_kb or None for name, outcome in outcomes.items()}
        memory.rows.append(Row(case, figures, 1, f"waiting {transport}", case))
        times = {name: o.connect_seconds or None for name, o in {**outcomes, FLOOR: lowest}.items()}
        connect.rows.append(Row(case, times, 2, "connect", case))
        idle.rows.append(Row(case, {OURS: outcomes[OURS].idle_share * 100}, 2, "idle", case))
    memory.notes = notes(found)
    idle.notes.append(f"Over {scale.idle_seconds:.0f} seconds, heartbeats included.")
    yield from (memory, connect, idle)


def _outcomes(scale: Scale, transport: Transport) -> dict[str, Outcome]:
    """Only ours is watched while it does nothing: half a minute for each would be long."""
    plan = Plan(seconds=0)
    idle = replace(plan, idle_seconds=scale.idle_seconds)
    return {
        server.name: measured(server, scale.waiting, idle if server.name == OURS else plan)
        for server in contenders(transport, few=scale.few, plain=not scale.few)
    }
