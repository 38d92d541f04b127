"""What happened to a part of the business: the verdict on a cause, by the facts at hand, and what would prove it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, Literal

from askstream.agents.insights.measures import MEASURES
from askstream.agents.insights.offline import queries
from askstream.agents.insights.offline.causes import Cause, Search
from askstream.agents.insights.offline.conversation import Json
from askstream.agents.insights.offline.evidence import Evidence, amount, percent, signed
from askstream.agents.insights.offline.plan import Request
from askstream.agents.insights.periods import MONTH_NAMES

_PRICE_STEP: Final = 3.0  # per cent: smaller moves of a mean price or cost come from the mix
_DISCOUNT_STEP: Final = 5.0  # points of discount rate
_MOST: Final = 0.6  # of a change: then the part that makes it is what changed
_VANISHED: Final = 0.5  # of its value: so much of a region doesn't go by chance

Kind = Literal["left", "new", "stock_out", "region_lost", "price", "cost", "promotion", "promotion_over", "unexplained"]


@dataclass(frozen=True, slots=True)
class Verdict:
    kind: Kind
    sentence: str


def verdict(cause: Cause, facts: Json, asked: Evidence | None) -> Verdict:
    """What happened, by the facts at hand and what was fetched on request. Where they don't tell, it says so."""
    match cause.dimension:
        case "product" if asked and asked.rows:
            return _out_of_stock(asked)
        case "region" if asked and (gone := [row for row in asked.rows if row[2] != "–"]):
            return _left_alone(gone, len(asked.rows))
        case "product" | "category":
            told = _terms(cause, facts)
        case _:
            told = _ordering(cause, facts)
    inner = _inner(cause, facts)
    return _narrowed(inner, asked) if inner and told.kind == "unexplained" else told


def _inner(cause: Cause, facts: Json) -> Json | None:
    """The part inside that makes most of the change, if there is one."""
    part: Json | None = facts.get("inside")
    if not part or part.get("contribution") is None or not cause.contribution:
        return None
    return part if part["contribution"] / cause.contribution >= _MOST else None


def _narrowed(inner: Json, asked: Evidence | None) -> Verdict:
    name, moved = inner["name"], percent(inner["current"], inner["previous"])
    if asked and asked.rows:
        return Verdict("stock_out", f"Most of it is {name} ({moved}). {_out_of_stock(asked).sentence}")
    return Verdict("unexplained", f"Most of it is {name} ({moved}); why, the data doesn't tell.")


def _out_of_stock(asked: Evidence) -> Verdict:
    spells = [f"from {_day(row[1])} to {_day(row[2])} ({row[3]} days)" for row in asked.rows[:3]]
    return Verdict("stock_out", f"It was out of stock {' and '.join(spells)}.")


def _left_alone(gone: Sequence[Sequence[str]], people: int) -> Verdict:
    names = " and ".join(f"{row[0]} ({_day(row[2])})" for row in gone)
    if len(gone) < people:
        return Verdict("unexplained", f"Of its {people} sales people {names} left; the others are still there.")
    return Verdict(
        "region_lost", f"All of its sales people have left: {names}; since then hardly anybody orders there."
    )


def _terms(cause: Cause, facts: Json) -> Verdict:
    """Price, discount and cost of the same basket of products, and how many units were sold."""
    price, cost = _figure(facts, "price_change"), _figure(facts, "cost_change")
    now, before = _figure(facts, "discount_now"), _figure(facts, "discount_before")
    units = _units(facts)
    if now - before >= _DISCOUNT_STEP:
        return Verdict("promotion", f"A promotion: discounts of {now:.1f}% on average, after {before:.1f}%; {units}.")
    if before - now >= _DISCOUNT_STEP:
        return Verdict("promotion_over", f"A promotion ended: discounts of {now:.1f}% after {before:.1f}%; {units}.")
    if abs(price) >= _PRICE_STEP:
        return Verdict("price", f"List prices {_moved(price)}; {units}.")
    if abs(cost) >= _PRICE_STEP and cause.change.measure in ("margin", "margin_rate", "cost"):
        return Verdict("cost", f"Unit costs {_moved(cost)}, while list prices stayed; {units}.")
    return Verdict("unexplained", f"Prices, discounts and costs stayed, and {units}; why, the data doesn't tell.")


def _ordering(cause: Cause, facts: Json) -> Verdict:
    try:
        first, last, until = (date.fromisoformat(facts[k]) for k in ("first_order", "last_order", "data_until"))
    except (KeyError, TypeError, ValueError):
        return Verdict("unexplained", "Why, the data doesn't tell.")
    change = cause.change
    what = {"customer": "customer"}.get(cause.dimension, cause.dimension.replace("_", " "))
    if (until - last).days >= queries.SILENCE and last < change.current.end:
        return Verdict("left", f"This {what} has not ordered since {_day(last.isoformat())}.")
    if first >= change.previous.start and cause.unusual >= 0:
        return Verdict("new", f"This {what} is new: its first order came on {_day(first.isoformat())}.")
    return Verdict("unexplained", f"This {what} moved more than the others do; nothing in the data tells why.")


def requests(found: Search) -> list[Request]:
    """What would prove the causes, and isn't in the sales figures: stock of a product, people of a region."""
    asked = [request_for(cause, found) for cause in found.causes]
    return list(dict.fromkeys(request for request in asked if request))


def request_for(cause: Cause, found: Search) -> Request | None:
    low = cause.change.current if cause.unusual <= 0 else cause.change.previous
    facts = found.facts.get(cause.name, {})
    if cause.dimension == "region" and _fell_by_half(cause, found):
        return Request("people", cause.name, low)
    if cause.dimension == "customer" or verdict(cause, facts, None).kind != "unexplained":
        return None
    if cause.dimension == "product":
        return Request("stock", cause.name, low)
    inner = _inner(cause, facts)
    return Request("stock", str(inner["name"]), low) if inner and cause.dimension == "category" else None


def _fell_by_half(cause: Cause, found: Search) -> bool:
    now, then = (cause.current, cause.previous) if cause.sql else (found.now or 0.0, found.then or 0.0)
    return now < _VANISHED * then


def cause_table(found: Search) -> Evidence:
    """The causes with their figures, and the SQL that shows them."""
    unit = found.change.unit
    rows = tuple(
        (
            f"{cause.name} ({cause.dimension.replace('_', ' ')})",
            amount(cause.current, unit),
            amount(cause.previous, unit),
            signed(cause.contribution, unit),
            signed(cause.unusual, unit),
        )
        for cause in found.causes
        if cause.sql
    )
    change = found.change
    label = MEASURES[change.measure].label
    columns = ("Part", change.current.label, change.previous.label, "Change", "Beyond the general course")
    proofs = [cause.sql for cause in found.causes if cause.sql]
    proofs += [str(row["sql"]) for row in found.facts.values() if row["sql"]]
    title = f"{label}: what moved, {change.current.label} against {change.previous.label}"
    return Evidence(title, "", columns if rows else (), rows, ";\n\n".join(dict.fromkeys(proofs or found.sql)))


def driver_table(found: Search) -> Evidence | None:
    """The change by driver, or None where it can't be split so."""
    parts: Sequence[Json] = found.drivers.get("parts", ())
    rows = tuple((str(p["name"]).capitalize(), signed(p["contribution"], found.change.unit)) for p in parts)
    if not rows:
        return None
    title = f"By driver, {found.change.current.label} against {found.change.previous.label}"
    return Evidence(title, _DRIVERS_MEAN, ("Driver", "Effect"), rows, str(found.drivers["sql"]))


_DRIVERS_MEAN: Final = (
    "Volume: more or fewer units; mix: other products than before; price: list prices; discount: what was given away."
)


def _figure(facts: Json, name: str) -> float:
    value: Any = facts.get(name)
    return float(value) if isinstance(value, int | float) else 0.0


def _units(facts: Json) -> str:
    now, before = _figure(facts, "units_now"), _figure(facts, "units_before")
    if not before:
        return f"{now:,.0f} units were sold, none before"
    return f"units {_moved(100 * (now - before) / before)}, from {before:,.0f} to {now:,.0f}"


def _moved(value: float) -> str:
    return f"{'rose' if value >= 0 else 'fell'} by {abs(value):.1f}%"


def _day(iso: str) -> str:
    day = date.fromisoformat(iso)
    return f"{day.day} {MONTH_NAMES[day.month - 1]} {day.year}"
