"""Choose the servers that are measured beside each other, and make their outcomes rows of a table."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from bench import build, fanout, machine, servers
from bench.fanout import Outcome, Plan
from bench.report import Row, Table
from bench.servers import BARE, FLOOR, Checkout, Server, Transport

TITLES: Mapping[Transport, str] = {"sse": "SSE", "websocket": "WebSocket"}

Outcomes: TypeAlias = dict[tuple[Transport, int], Mapping[str, Outcome]]
"""The outcome of each server, by transport and number of viewers."""

NOISY = "Other programs used a share of the two cores meanwhile: the ratios say more than the figures."


@dataclass(frozen=True, slots=True)
class Scope:
    """The extent of a measurement. `other` is a checkout whose server is measured as well."""

    is_full: bool = False
    other: Checkout | None = None

    @property
    def checkouts(self) -> list[Checkout]:
        return [servers.here(), *([self.other] if self.other else [])]


def say(text: str) -> None:
    if text:
        print(f"bench: {text}", file=sys.stderr, flush=True)


def contenders(scope: Scope, *, plain: bool = False, bare: bool = False) -> Mapping[Transport, list[Server]]:
    """Return ours, then that of the other checkout, then with `plain` our other variants, then the peers."""
    found: dict[Transport, list[Server]] = {}
    for transport in TITLES:
        found[transport] = [servers.ours(transport, checkout=checkout) for checkout in scope.checkouts]
        if plain:
            found[transport] += [servers.ours(transport, plain=True), servers.ours(transport, journal="memory")]
    found["sse"] += [servers.SSE_STARLETTE] if build.packages().exists() else []
    found["sse"] += [BARE if bare else servers.STREAMING]
    found["websocket"] += [servers.SEND_TEXT, servers.BROADCAST]
    return found


def measured(server: Server, count: int, plan: Plan, *, runs: int = 1) -> Outcome:
    say(f"{server.name}, {TITLES[server.transport]}, {count:,} viewers of {runs:,} run{'s' if runs > 1 else ''}")
    return fanout.measure(server, count, plan, runs=runs)


def compared(count: int, plan: Plan, who: Mapping[Transport, list[Server]], *, runs: int = 1) -> Outcomes:
    """Measure all servers at one number of viewers. The C loop is for both transports: their bytes hardly differ."""
    floor = measured(FLOOR, count, plan, runs=runs)
    return {
        (transport, count): {**{s.name: measured(s, count, plan, runs=runs) for s in those}, FLOOR.name: floor}
        for transport, those in who.items()
    }


def each(outcomes: Mapping[str, Outcome], figure: str) -> Mapping[str, float | None]:
    """Return the figure of each server."""
    return {name: outcome.figures.get(figure) for name, outcome in outcomes.items()}


def table(found: Outcomes, title: str, unit: str, rows: Mapping[str, tuple[str, str]], *, of: str) -> Table:
    """Return a row for each case and each of `rows`: the end of its name; its figure and its goal's first words."""
    result = Table(title, unit, notes=notes(found))
    for (transport, count), outcomes in found.items():
        for suffix, (figure, goal) in rows.items():
            case = f"{TITLES[transport]}, {count:,} {of}{suffix}"
            result.rows.append(Row(case, each(outcomes, figure), goal=f"{goal} {count}", of=TITLES[transport]))
    return result


def growth(found: Outcomes, title: str, figure: str, goal: str) -> Table:
    """Divide the figure at the largest number by that at the smallest; 1 is flat."""
    counts = [count for _, count in found]
    near, far = min(counts), max(counts)
    result = Table(title, f"Times the cost: {far:,} beside {near:,}", better="")
    for transport, case in TITLES.items() if near != far else ():
        small, large = each(found[transport, near], figure), each(found[transport, far], figure)
        figures = {name: more / less for name, less in small.items() if less and (more := large.get(name))}
        result.rows.append(Row(case, figures, goal=goal, of=case))
    return result


def notes(found: Outcomes) -> list[str]:
    """Return failures, noise and limits of the figures."""
    result: list[str] = []
    for (transport, count), outcomes in found.items():
        for name, outcome in outcomes.items():
            case = f"{name}, {TITLES[transport]}, {count:,}"
            result += [f"{case}: failed, {outcome.failure}."] if outcome.failure else []
            result += [NOISY] if outcome.noise > machine.QUIET else []
            result += [f"{case}: {outcome.limit}."] if outcome.limit and outcome.noise <= machine.QUIET else []
    return result
