"""Splits a change between two periods into parts, with how unusual each one is, and into effects of price, volume and
mix. Pure arithmetic over rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Part:
    """One member's share in a change. The `contribution`s add up to the whole change, or are None if parts overlap.
    `unusual` is the contribution less the one that the member would have if it had moved like the rest."""

    name: str
    current: float | None
    previous: float | None
    contribution: float | None
    unusual: float


@dataclass(frozen=True, slots=True)
class Flow:
    """One product's sales in one period: units, their value at list price, revenue and cost."""

    units: float
    listed: float
    revenue: float
    cost: float


def typical_rate(pairs: Iterable[tuple[float, float]]) -> float:
    """The median relative change of (current, previous) pairs, weighted by the previous value. One member that
    collapses doesn't move it. 0.0 if no previous value is positive."""
    rates = sorted(((current - previous) / previous, previous) for current, previous in pairs if previous > 0)
    half = sum(weight for _, weight in rates) / 2
    for rate, weight in rates:
        half -= weight
        if half <= 0:
            return rate
    return 0.0


def beyond(part: Part, rate: float | None) -> Part:
    """The part with `unusual` measured against this rate of change; a part of a ratio as it is."""
    if rate is None:
        return part
    now, then = part.current or 0.0, part.previous or 0.0
    return replace(part, unusual=now - then * (1 + rate))


def weight(part: Part, *, of_ratio: bool) -> float:
    """The weight of a part as a cause: large, and large for its size. A customer that leaves
    weighs more than its region, where it is one of many. The parts of a ratio have no size."""
    own = max(abs(part.current or 0.0), abs(part.previous or 0.0)) if not of_ratio else 1.0
    return abs(part.unusual) * min(1.0, abs(part.unusual) / own) if own else 0.0


def parts_of_sum(rows: Sequence[tuple[str, float, float]], *, overlapping: bool) -> tuple[list[Part], float]:
    """Parts from (name, current, previous), most unusual first, and the typical rate of change."""
    rate = typical_rate((current, previous) for _, current, previous in rows)
    parts = [
        Part(name, now, then, None if overlapping else now - then, now - then * (1 + rate)) for name, now, then in rows
    ]
    return _by_weight(parts), rate


def parts_of_ratio(
    rows: Sequence[tuple[str, float, float, float, float]],
    scale: float,
    *,
    overlapping: bool = False,
) -> list[Part]:
    """Parts from (name, current numerator and denominator, previous numerator and denominator).

    A member moves the whole by its own ratio and by its weight in the denominator. Its contribution has both:
    w1 (r1 - R) - w0 (r0 - R), with R the whole's previous ratio. The sum is the change of the whole.
    """
    total_now = sum(row[2] for row in rows)
    total_then = sum(row[4] for row in rows)
    whole_then = _ratio(sum(row[3] for row in rows), total_then)
    parts: list[Part] = []
    for name, now, now_base, then, then_base in rows:
        moved = _ratio(now - whole_then * now_base, total_now) - _ratio(then - whole_then * then_base, total_then)
        parts.append(
            Part(
                name,
                scale * now / now_base if now_base else None,
                scale * then / then_base if then_base else None,
                None if overlapping else scale * moved,
                scale * moved,
            )
        )
    return _by_weight(parts)


def effects(flows: Sequence[tuple[Flow, Flow]], *, of_margin: bool) -> dict[str, float]:
    """Split the change of revenue (or of margin) into effects that add up to it; each item is (current, previous).

    volume: the change in units, at the old mix and prices; mix: the change in products, at old prices, and products
    sold in only one of the periods; price: list prices; discount: price reductions; cost.
    """
    units_now = sum(now.units for now, _ in flows)
    units_then = sum(then.units for _, then in flows)
    growth = _ratio(units_now, units_then)
    found: dict[str, float] = dict.fromkeys(("volume", "mix", "price", "discount", "cost"), 0.0)
    for now, then in flows:
        was_worth = then.revenue - (then.cost if of_margin else 0.0)
        found["volume"] += was_worth * (growth - 1)
        if not now.units or not then.units:
            found["mix"] += now.revenue - (now.cost if of_margin else 0.0) - was_worth * growth
            continue
        kept = _ratio(then.revenue, then.listed)  # the share of the list price that was paid
        price = now.units * (now.listed / now.units - then.listed / then.units) * kept
        found["mix"] += was_worth / then.units * (now.units - then.units * growth)
        found["price"] += price
        found["discount"] += now.revenue - now.listed * kept
        if of_margin:
            found["cost"] -= now.units * (now.cost / now.units - then.cost / then.units)
    return found if of_margin else {name: value for name, value in found.items() if name != "cost"}


def _ratio(top: float, bottom: float) -> float:
    return top / bottom if bottom else 0.0


def _by_weight(parts: list[Part]) -> list[Part]:
    return sorted(parts, key=lambda part: (-abs(part.unusual), part.name))
