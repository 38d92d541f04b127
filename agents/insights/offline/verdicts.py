"""What happened to a part of the business, by the facts that were fetched, and a change in words."""

from collections.abc import Sequence
from datetime import date
from typing import Any, Final

from askstream.agents.insights.measures import CAUSAL, MEASURES
from askstream.agents.insights.offline import events
from askstream.agents.insights.offline.causes import Cause, Search
from askstream.agents.insights.offline.conversation import Json
from askstream.agents.insights.offline.tables import CHANGE, Table, change, day, percent, shown, signed
from askstream.agents.insights.periods import MONTH_NAMES

_WHOLE: Final = 1.5  # of a change: a larger share says little, since others go against it
_MOST: Final = 0.5  # more than this of a change makes a part "most of it", or the cause "mainly"
# How a verdict begins that looked at all there is and found no event.
_UNKNOWN: Final = (
    "List prices, discounts, unit costs and stock explain nothing",
    "No single customer makes more than half of it,",
    "It ordered in both periods, more or less than before",
)
_COSTED: Final = ("margin", "margin_rate", "cost", "unit_cost")


def verdict(cause: Cause, found: Search) -> str:
    """A sentence or two. Where nothing explains the part, it says what was looked at."""
    facts = cause.facts or {}
    match cause.dimension:
        case "product" | "category":
            return _sold(cause, found, facts)
        case "region":
            return _region(cause, found, facts)
        case _:
            return _customer(cause, found, facts)


def _fell(cause: Cause, found: Search) -> bool:
    return (found.difference if cause.asked else cause.contribution or 0.0) < 0


def _sold(cause: Cause, found: Search, facts: Json) -> str:
    """Stock, prices, costs and discounts; then the units."""
    units = _units(facts, found)
    inside = _inside(cause, found, facts)
    name = cause.name if cause.dimension == "product" else inside[0] if inside else ""
    parts = [_stock_out(name, cause, found, facts), _promotion(found, facts), _step("price", found, facts)]
    if found.change.measure in _COSTED:
        parts.append(_step("cost", found, facts))
    told = [part for part in parts if part]
    if inside and not told:
        told = [f"Most of it ({shown(100 * inside[1], '%')}) is the {inside[0]}"]
    if not told:
        told = [f"{_UNKNOWN[0]} here"]
    return f"{'; '.join(told)}; {units}." if units else f"{'; '.join(told)}."


def _stock_out(name: str, cause: Cause, found: Search, facts: Json) -> str:
    """The days without stock: in the later period if sales fell, in the earlier one if they rose."""
    period = found.change.current if _fell(cause, found) else found.change.previous
    spells = [row for row in facts.get("happened", ()) if row[0] == "stock_out" and row[1] == name]
    spells = [row for row in spells if row[2] <= f"{period.end}" and row[3] >= f"{period.start}"]
    if not spells:
        return ""
    days = " and ".join(f"from {day(row[2])} to {day(row[3])} ({row[4]} days)" for row in spells)
    what = "It" if name == cause.name else f"The {name}"
    return f"{what} was out of stock {days}"


def _promotion(found: Search, facts: Json) -> str:
    rows = [row for row in facts.get("happened", ()) if row[0] == "promotion"]
    for period, words in ((found.change.current, "A promotion with"), (found.change.previous, "A promotion ended:")):
        inside = [row for row in rows if f"{period.start:%Y-%m}" <= row[2] <= f"{period.end:%Y-%m}"]
        both = [row for row in rows if row not in inside]
        if inside and (not both or period is found.change.current):
            told = " and ".join(f"{shown(row[4], '%')} in {_month(row[2])}" for row in inside)
            return f"{words} discounts of {told}"
    return ""


def _step(kind: str, found: Search, facts: Json) -> str:
    """Price or cost changes between the two periods, or within one of them."""
    first = f"{min(found.change.current, found.change.previous).start:%Y-%m}"
    rows = [row for row in facts.get("happened", ()) if row[0] == kind and row[2] > first]
    if not rows:
        return ""
    what = "List prices" if kind == "price" else "Unit costs"
    told = " and ".join(f"{_moved(row[4])} in {_month(row[2])}" for row in rows[:3])
    return f"{what} {told}"


def _region(cause: Cause, found: Search, facts: Json) -> str:
    people = facts.get("staff", ())
    until = f"{found.change.current.end}"
    gone = [row for row in people if row[2] and row[2] <= until]
    if gone and _fell(cause, found):
        names = " and ".join(f"{row[0]} ({day(row[2])})" for row in gone)
        if len(gone) == len(people):
            who = "Both of its sales people have left" if len(gone) == 2 else "All of its sales people have left"
            return f"{who}: {names}."
        return f"Of its {len(people)} sales people {names} left."
    inside = _inside(cause, found, facts)
    if inside:
        return f"Most of it ({shown(100 * inside[1], '%')}) is the customer {inside[0]}."
    return f"{_UNKNOWN[1]} and its sales people are all there."


def _customer(cause: Cause, found: Search, facts: Json) -> str:
    try:
        first, last, until = (date.fromisoformat(facts[k]) for k in ("first_order", "last_order", "data_until"))
    except (KeyError, TypeError, ValueError):
        return "It never ordered."
    if (until - last).days >= events.SILENCE and last < found.change.current.end and _fell(cause, found):
        return f"It has not ordered since {day(last.isoformat())}."
    if first >= found.change.previous.start and not _fell(cause, found):
        return f"It is new: its first order came on {day(first.isoformat())}."
    return f"{_UNKNOWN[2]}."


def _inside(cause: Cause, found: Search, facts: Json) -> tuple[str, float] | None:
    """The part inside that makes more than half of the change, and its share."""
    part: Json | None = facts.get("inside")
    whole = found.difference if cause.asked else cause.contribution
    if not part or part.get("contribution") is None or not whole or MEASURES[found.change.measure].is_ratio:
        return None
    share = part["contribution"] / whole
    return (part["name"], share) if share > _MOST else None


def _units(facts: Json, found: Search) -> str:
    now, then = (_number(facts.get(key)) for key in ("units_now", "units_before"))
    if not then:
        return f"{now:,.0f} units were sold, none before" if now else ""
    if found.change.measure == "units":
        return ""
    return f"its units {_moved(100 * (now - then) / then)}, from {then:,.0f} to {now:,.0f}{_part_of(found)}"


def _part_of(found: Search) -> str:
    """Of which part of the business figures are, if the question filters."""
    regions = found.change.plan.only.get("region", ())
    others = [n for d, m in found.change.plan.only.items() if d not in ("region", "product", "category") for n in m]
    where = f" in the {' and '.join(regions)}" if regions else ""
    return f"{where}{' of ' + ' and '.join(others) if others else ''}"


# --- a search in words ---------------------------------------------------------------------------


def summary(found: Search) -> str:
    """How the figure moved, and the largest cause."""
    return f"{moved(found)} {largest(found)}".strip()


def moved(found: Search) -> str:
    then, now, unit = found.then, found.now, found.change.unit
    label = MEASURES[found.change.measure].label
    if now is None or then is None:
        return f"{label} can't be compared: there are no sales in one of the periods."
    verb = "didn't change" if not found.difference else "rose" if found.difference > 0 else "fell"
    size = shown(abs(found.difference), unit).replace(" %", " points")
    by = f" by {size}" if found.difference else ""
    relative = f" ({percent(100 * found.difference / abs(then))})" if unit != "%" and then and found.difference else ""
    return (
        f"{label}{_part_of(found)} {verb}{by}{relative}, from {shown(then, unit)} in {found.change.previous.label} "
        f"to {shown(now, unit)} in {found.change.current.label}."
    )


def largest(found: Search) -> str:
    """The largest cause that goes the way of the change: "mainly" only for more than half of it."""
    for asked in (cause for cause in found.causes if cause.asked):
        told = verdict(asked, found)
        if not told.startswith(_UNKNOWN):
            return f"{asked.name}: {told}"
    along = [c for c in found.causes if not c.asked and found.share(c) > 0]
    cause = max(along, key=found.share, default=None)
    if cause is None:
        return ""
    lead = "Mainly" if found.share(cause) > _MOST else "The largest cause:"
    return f"{lead} {cause.name} ({signed(cause.contribution or 0.0, found.change.unit)}). {verdict(cause, found)}"


def findings(found: Search) -> list[str]:
    lines = [line for line in (_premise(found),) if line]
    for cause in found.causes:
        told = verdict(cause, found)
        kind = "" if cause.name == cause.dimension else f" ({cause.dimension})"
        if cause.asked and told.startswith(_UNKNOWN) and len(found.causes) > 1:
            continue  # the other causes say more
        if cause.asked:
            lines.append(f"**{cause.name}**: {told}")
            continue
        lines.append(f"**{cause.name}**{kind}: {_size(cause, found)}. {told}")
    return [*lines, *_rest(found), *_driver(found), *_season(found)]


def _driver(found: Search) -> list[str]:
    """The driver that goes the way of the change and makes more than half of it."""
    for part in found.drivers.get("parts", ()):
        share = part["contribution"] / found.difference if found.difference else 0.0
        if _MOST < share <= _WHOLE:
            size = signed(part["contribution"], found.change.unit)
            return [f"By driver it is mainly {part['name']}: {size} of {signed(found.difference, found.change.unit)}."]
    return []


def _size(cause: Cause, found: Search) -> str:
    values = f"{shown(cause.previous, found.change.unit)} to {shown(cause.current, found.change.unit)}"
    text = f"{signed(cause.contribution or 0.0, found.change.unit)} ({values}"
    share = found.share(cause)
    if found.change.unit != "%" and 0 < share <= _WHOLE:
        return f"{text}; {shown(100 * share, '%')} of the change)"
    return f"{text}; against the change)" if share < 0 else f"{text})"


def _premise(found: Search) -> str:
    direction, size = found.change.plan.direction, found.difference
    if direction == "down" and size > 0:
        return "It didn't fall: it rose. What held it back and what drove it stand below."
    if direction == "up" and size < 0:
        return "It didn't rise: it fell. What drove it and what went against it stand below."
    return ""


def _rest(found: Search) -> list[str]:
    sized = [cause for cause in found.causes if not cause.asked]
    unit = found.change.unit
    if sized:
        now, then = found.rest
        return [f"Everything else: {change(now, then, unit)}, from {shown(then, unit)} to {shown(now, unit)}."]
    if found.now is None or found.then is None or not found.floor:
        return []
    return _nothing_else(found)


def _nothing_else(found: Search) -> list[str]:
    """The size that the search looked for, where it found no part."""
    left_out, unit = {*MEASURES[found.change.measure].overlaps, *found.change.plan.only}, found.change.unit
    kinds = [kind for kind in CAUSAL if kind not in left_out]
    course = "" if found.typical is None else f" ({percent(found.typical)})"
    size = shown(found.floor if unit in ("EUR", "%") else round(found.floor), unit).replace(" %", " points")
    told = f"No single {' or '.join(kinds)} moved by more than {size} beyond the general course{course}."
    return [told] if kinds else []


def _season(found: Search) -> list[str]:
    if found.season is None or found.season[0] is None or not found.season[1]:
        return []
    now, then = found.season
    one = found.change
    steps = f"{one.previous.year_before().label} to {one.current.year_before().label}"
    return [f"The same step a year earlier, {steps}: {change(now, then, one.unit)}."]


def cause_table(found: Search) -> Table:
    """The causes with their own figures, and everything else. Parts may overlap, as a region and a
    product do; everything else has none of them."""
    unit, sized = found.change.unit, [cause for cause in found.causes if not cause.asked]
    rows: list[tuple[Any, ...]] = [
        (f"{cause.name} ({cause.dimension})", cause.current, cause.previous, cause.contribution) for cause in sized
    ]
    now, then = found.rest
    if sized and not MEASURES[found.change.measure].is_ratio:
        rows.append(("Everything else", now, then, (now or 0.0) - (then or 0.0)))
    columns = ("Part", found.change.current.label, found.change.previous.label, "Part of the change")
    title = f"{MEASURES[found.change.measure].label}: what moved, {columns[1]} compared with {columns[2]}"
    return Table(title, columns, ("", unit, unit, CHANGE + unit), tuple(rows), found.sql, "bar" if rows else "")


def season_table(found: Search) -> Table | None:
    if found.season is None:
        return None
    one, unit = found.change, found.change.unit
    columns = ("Figure", one.current.year_before().label, one.previous.year_before().label)
    rows = ((MEASURES[one.measure].label, *found.season),)
    return Table("The same step a year earlier", columns, ("", unit, unit), rows, found.other_sql["season"])


def driver_table(found: Search) -> Table | None:
    parts: Sequence[Json] = found.drivers.get("parts", ())
    unit = CHANGE + found.change.unit
    rows = tuple((str(part["name"]).capitalize(), part["contribution"]) for part in parts)
    title = "By driver: more or fewer units, other products, list prices, discounts"
    return Table(title, ("Driver", "Effect"), ("", unit), rows, found.other_sql["drivers"]) if rows else None


def _moved(value: float) -> str:
    return f"{'rose' if value >= 0 else 'fell'} by {shown(abs(value), '%')}"


def _month(text: str) -> str:
    return f"{MONTH_NAMES[int(text[5:7]) - 1]} {text[:4]}"


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
