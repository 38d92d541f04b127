"""Who is measured beside whom, and how a measurement is told of."""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TypeAlias

from bench import builds, fanout, machine, servers
from bench.chart import Panel, Series
from bench.fanout import Outcome, Plan
from bench.goals import named
from bench.report import Row, Table
from bench.servers import FLOOR, Server, Transport

TITLES: Mapping[Transport, str] = {"sse": "SSE", "websocket": "WebSocket"}

Case: TypeAlias = tuple[Transport, int]
Outcomes: TypeAlias = Mapping[Case, Mapping[str, Outcome]]
"""Of each transport and number of viewers: an outcome for each contender."""

NOISY = "Other programs took a share of the two cores meanwhile: the ratios say more than the figures."

Takes: TypeAlias = Mapping[str, Callable[[Outcome], float]]

log = logging.getLogger(__name__)


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def contenders(transport: Transport, *, few: bool = False, plain: bool = False, bare: bool = False) -> list[Server]:
    """Ours first, then in its `plain` way where it has one, then its peers; `few` leaves one of those.

    `bare` Python is told of once, beside SSE: the bytes of both transports differ by a few.
    """
    own = [servers.ours(transport)]
    if plain and servers.has_plain_way():
        own.append(servers.ours(transport, plain=True))
    if transport == "websocket":
        peers = [servers.WEBSOCKETS, servers.SEND_TEXT]
    else:
        peers = [*([servers.SSE_STARLETTE] if builds.has_packages() else []), servers.STREAMING]
    least = [servers.BARE] if bare and transport == "sse" else []
    return own + (peers[:1] if few else peers) + least


def measured(server: Server, count: int, plan: Plan, *, runs: int = 1) -> Outcome:
    """Its outcome; whatever goes wrong with it is one, too, and loses none of the others."""
    say(f"{server.name}, {TITLES[server.transport]}, {count:,} viewers of {runs:,} run{'s' if runs > 1 else ''}")
    try:
        return fanout.measure(server, count, plan, runs=runs)
    except Exception as problem:
        log.exception("%s could not be measured", server.name)
        return Outcome(failure=f"{type(problem).__name__}: {problem}")


def floor(count: int, plan: Plan, *, runs: int = 1) -> Outcome:
    """The C loop's. Measured once, it stands beside both transports: their bytes differ by a few."""
    try:
        server = servers.floor()
    except builds.Missing as problem:
        return Outcome(failure=str(problem))
    return measured(server, count, plan, runs=runs)


def table(
    found: Outcomes,
    title: str,
    unit: str,
    takes: Takes,
    *,
    goals: Mapping[str, str] = MappingProxyType({}),
    of: str = "viewers",
    digits: int = 2,
) -> Table:
    """A row for each case and each of `takes`: what the case's name is followed by, and what is taken of outcomes.

    `goals` gives the same names the first word of their goals; the second is the number of viewers.
    """
    result = Table(title, unit)
    names = list(dict.fromkeys(name for outcomes in found.values() for name in outcomes if name != FLOOR))
    for (transport, count), outcomes in found.items():
        for suffix, take in takes.items():
            figures = {name: take(outcomes.get(name, Outcome())) or None for name in (*names, FLOOR)}
            if any(figures.values()):
                goal, case = named(f"{goals.get(suffix)} {count}"), f"{TITLES[transport]}, {count:,} {of}{suffix}"
                result.rows.append(Row(case, figures, digits, goal, TITLES[transport]))
    return result


def curves(found: Outcomes, take: Callable[[Outcome], float]) -> list[Panel]:
    """How a figure grows: a panel for each transport, a line for each contender that was measured more than once."""
    panels: list[Panel] = []
    for transport, title in TITLES.items():
        lines: dict[str, list[tuple[float, float]]] = {}
        for (_, count), outcomes in (item for item in found.items() if item[0][0] == transport):
            for name, outcome in outcomes.items():
                lines.setdefault(name, []).append((count, take(outcome)))
        known = {name: sorted(point for point in points if point[1] > 0) for name, points in lines.items()}
        panels.append(Panel(title, [Series(name, points) for name, points in known.items() if len(points) > 1]))
    return [panel for panel in panels if panel.series]


def growth(found: Outcomes, title: str, goal: str, ends: tuple[int, int], take: Callable[[Outcome], float]) -> Table:
    """The figure at the far end beside the near one; 1 is flat. No rows where one of them is missing."""
    near, far = ends
    result = Table(title, f"Times the cost: {far:,} beside {near:,}")
    for transport, case in TITLES.items() if far > near else ():
        small, large = found.get((transport, near), {}), found.get((transport, far), {})
        figures = {name: take(large[name]) / take(small[name]) for name in small if name in large and take(small[name])}
        if figures:
            result.rows.append(Row(case, figures, goal=goal, of=case))
    return result


def notes(found: Outcomes) -> list[str]:
    return [
        note
        for (transport, count), outcomes in found.items()
        for name, outcome in outcomes.items()
        for note in _notes(f"{name}, {TITLES[transport]}, {count:,}", outcome)
    ]


def _notes(case: str, outcome: Outcome) -> Iterator[str]:
    if outcome.failure:
        yield f"{case}: failed, {outcome.failure}."
    if outcome.noise > machine.QUIET:
        yield NOISY
    elif outcome.limit:
        yield f"{case}: {outcome.limit}."
