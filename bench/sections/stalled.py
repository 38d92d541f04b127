"""One of 20 viewers stops reading."""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from bench import fanout, machine
from bench.contenders import NOISY, TITLES, contenders, say
from bench.fanout import Stall
from bench.report import Row, Table
from bench.scale import Scale
from bench.servers import Server

VIEWERS = 20

Stalls: TypeAlias = Mapping[str, Stall | None]

log = logging.getLogger(__name__)


def stalled(scale: Scale) -> Iterator[Table]:
    found: Mapping[str, Stalls] = {
        case: {server.name: _stall(server, scale) for server in contenders(transport, few=scale.few)}
        for transport, case in TITLES.items()
    }
    title = f"One of {VIEWERS} viewers stops reading"
    rate = Table(f"{title}: the others", "Deliveries a second", better="more")
    share = Table(f"{title}: what the others still get", "Times what they got before", better="more")
    memory = Table(f"{title}: the server", "KB that its memory grows by")
    silence = Table("What the one that stopped lost without being told", f"Percent of {scale.stalled:,} events")
    for case, stalls in found.items():
        rate.rows.append(Row(f"{case}, before", _each(stalls, lambda s: s.alone), 0))
        rate.rows.append(Row(f"{case}, meanwhile", _each(stalls, lambda s: s.rate), 0))
        if any(stall.noise > machine.QUIET for stall in stalls.values() if stall):
            share.notes.append(NOISY)
        share.rows.append(Row(case, _each(stalls, lambda s: s.rate / s.alone), 2, "stalled", case))
        # A short run ends before the database has filled its cache, which is no viewer's memory.
        goal = "" if scale.few else "stalled memory"
        memory.rows.append(Row(case, _each(stalls, lambda s: s.memory_kb), 0, goal, case))
        silence.rows.append(Row(case, _each(stalls, lambda s: s.lost_in_silence * 100), 1, "silence", case))
        silence.notes += [f"{case}, {name}: {_afterwards(stall)}." for name, stall in stalls.items()]
    silence.better = ""
    yield from (rate, share, memory, silence)


def _stall(server: Server, scale: Scale) -> Stall | None:
    say(f"{server.name}, {TITLES[server.transport]}, one of {VIEWERS} viewers stalls over {scale.stalled:,} events")
    try:
        return fanout.stall(server, VIEWERS, scale.stalled, before=scale.stalled_before)
    except Exception:
        log.exception("%s could not be measured", server.name)
        return None


def _each(stalls: Stalls, take: Callable[[Stall], float]) -> dict[str, float | None]:
    return {name: take(stall) if stall else None for name, stall in stalls.items()}


def _afterwards(stall: Stall | None) -> str:
    if stall is None:
        return "failed"
    got = f"got {stall.caught_up:.0%} of the events once it read on"
    return f"{got}, and was told" if stall.told else got
