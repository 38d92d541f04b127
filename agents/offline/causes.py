"""Why a figure changed: split the change along every dimension, take out the part that moved least like the rest, and
look again at what remains; then find out, for each part, what happened to it."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from statistics import median
from typing import Any, Final, Literal

from agents.measures import MEASURES, Filters
from agents.offline import queries
from agents.offline.conversation import Act, Call, Json, Result
from agents.offline.evidence import Evidence, amount, signed
from agents.offline.plan import Request
from agents.periods import MONTH_NAMES, Period

DIMENSIONS: Final = ("product", "category", "region", "customer")
# A part counts when its unusual change is at least this share of the whole: below lies what chance does every month.
_NOTABLE: Final = 0.03
_NOTABLE_IN_PART: Final = 0.08  # of a region or a category: fewer orders, more chance
_NOTABLE_POINTS: Final = 0.5  # of a percentage
_PRICE_STEP: Final = 3.0  # per cent: smaller moves of a mean price or cost come from the mix
_DISCOUNT_STEP: Final = 5.0  # points of discount rate
_VANISHED: Final = 0.5  # of its value: so much of a region doesn't go by chance


@dataclass(frozen=True, slots=True)
class Change:
    """A measure in two periods, of all or of a part of the business."""

    measure: str
    current: Period
    previous: Period
    filters: Filters

    @property
    def unit(self) -> str:
        return MEASURES[self.measure].unit


@dataclass(frozen=True, slots=True)
class Cause:
    """The part of the business that a change sits in. `contribution` is its share of the change, `unusual` what is left
    of that beyond the general course."""

    change: Change
    dimension: str
    name: str
    current: float
    previous: float
    contribution: float
    unusual: float
    sql: str


@dataclass(frozen=True, slots=True)
class Search:
    """What was found: the causes, most important first, and how the rest of the business moved."""

    change: Change
    now: float | None
    then: float | None
    causes: tuple[Cause, ...]
    facts: Mapping[str, Json]  # by cause name: the row that tells what happened
    rest_percent: float | None  # change of what is left when the causes are taken out
    season_percent: float | None  # the same step a year earlier
    sql: tuple[str, ...]

    @property
    def difference(self) -> float:
        return (self.now or 0.0) - (self.then or 0.0)


Searching = Generator[Act, Sequence[Result], Search]


def search(change: Change, covers: Period, *, limit: int = 3) -> Searching:
    """Find up to `limit` causes. Needs the tools break_down, compare_periods and run_sql."""
    causes: list[Cause] = _named_by_filter(change)
    first: Result | None = None
    sql: list[str] = []
    while True:
        excluded = _names(causes) if not change.filters else {}
        whole = _compare(change, change.current, change.previous, excluded)
        results = yield Act(_thought(change, causes), (whole, *_breakdowns(change, excluded)))
        first = first or results[0]
        rest = results[0].data
        sql = sql or [str(r.data["sql"]) for r in results if "sql" in r.data]
        found = _strongest(change, results[1:], first.data) if len(causes) < limit else None
        if found is None:
            break
        causes.append(found)
    facts, season = yield from _look_closer(change, causes, covers)
    return Search(
        change=change,
        now=_side(first.data, "current"),
        then=_side(first.data, "previous"),
        causes=tuple(causes),
        facts=facts,
        rest_percent=rest.get("change_percent"),
        season_percent=season,
        sql=tuple(sql),
    )


def _breakdowns(change: Change, excluded: Filters) -> list[Call]:
    measure = MEASURES[change.measure]
    arguments = {
        "measure": change.measure,
        "current": change.current.notation,
        "previous": change.previous.notation,
        "filters": _plain(change.filters),
        "exclude": _plain(excluded),
    }
    return [
        Call("break_down", {**arguments, "dimension": dimension})
        for dimension in DIMENSIONS
        if dimension not in change.filters and dimension not in measure.overlaps
    ]


def _strongest(change: Change, results: Sequence[Result], whole: Json) -> Cause | None:
    """The part with the largest unusual change for its size. A customer that leaves is a cause; its region, where it
    is one of many, moved as well, but moved less for its size."""
    rates = [r.data["typical_change_percent"] for r in results if r.data.get("typical_change_percent") is not None]
    rate = median(rates) / 100 if rates else 0.0
    parts = [
        _part(change, result.data, part, rate)
        for result in results
        if not result.error
        for part in result.data["parts"]
        if part["contribution"] is not None
    ]
    notable = [part for part in parts if _is_notable(part, whole)]
    return max(notable, key=_weight, default=None)


def _part(change: Change, data: Json, part: Json, rate: float) -> Cause:
    now, then = part["current"] or 0.0, part["previous"] or 0.0
    ratio = MEASURES[change.measure].is_ratio
    return Cause(
        change=change,
        dimension=data["dimension"],
        name=part["name"],
        current=now,
        previous=then,
        contribution=part["contribution"],
        unusual=part["contribution"] if ratio else now - then * (1 + rate),
        sql=data["sql"],
    )


def _is_notable(part: Cause, whole: Json) -> bool:
    if part.change.unit == "%":
        return abs(part.unusual) >= _NOTABLE_POINTS
    share = _NOTABLE_IN_PART if part.change.filters else _NOTABLE
    size = max(_side(whole, "current") or 0.0, _side(whole, "previous") or 0.0)
    return abs(part.unusual) >= share * size > 0


def _weight(part: Cause) -> float:
    own = max(part.current, part.previous) if part.change.unit != "%" else 1.0
    return abs(part.unusual) * min(1.0, abs(part.unusual) / own) if own else 0.0


def _named_by_filter(change: Change) -> list[Cause]:
    """Who asks about one customer or region has named the part; what happened to it is still to be found."""
    return [
        Cause(change, dimension, members[0], 0.0, 0.0, 0.0, 0.0, "")
        for dimension, members in change.filters.items()
        if len(members) == 1 and dimension in DIMENSIONS
    ]


def _names(causes: Sequence[Cause]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for cause in causes:
        found[cause.dimension] = (*found.get(cause.dimension, ()), cause.name)
    return found


def _look_closer(
    change: Change, causes: Sequence[Cause], covers: Period
) -> Generator[Act, Sequence[Result], tuple[dict[str, Json], float | None]]:
    """For each cause one row that tells what happened; and the same step a year earlier, where the data goes so far."""
    calls = [Call("run_sql", {"query": _closer_sql(cause)}) for cause in causes]
    seasonal = change.previous.year_before().start >= covers.start and change.current != change.previous.year_before()
    if seasonal:
        calls.append(_compare(change, change.current.year_before(), change.previous.year_before()))
    if not calls:
        return {}, None
    names = ", ".join(cause.name for cause in causes)
    results = yield Act(f"What happened to {names}?" if names else "Is it the season?", tuple(calls))
    facts: dict[str, Json] = {
        cause.name: {**dict(zip(r.data["columns"], r.data["rows"][0], strict=True)), "sql": r.data["sql"]}
        for cause, r in zip(causes, results, strict=False)
        if r.data.get("rows")
    }
    return facts, results[-1].data.get("change_percent") if seasonal else None


def _closer_sql(cause: Cause) -> str:
    if cause.dimension in ("product", "category"):
        return queries.terms(cause.dimension, cause.name, cause.change.current, cause.change.previous)
    return queries.order_dates(cause.dimension, cause.name)


def _compare(change: Change, current: Period, previous: Period, excluded: Filters | None = None) -> Call:
    return Call(
        "compare_periods",
        {
            "measure": change.measure,
            "current": current.notation,
            "previous": previous.notation,
            "filters": _plain(change.filters),
            "exclude": _plain(excluded or {}),
        },
    )


# --- what is still to be asked for -----------------------------------------------------------------------------------


def requests(found: Search) -> list[Request]:
    """What would prove the causes, and isn't in the sales figures: stock of a product, people of a region."""
    asked: list[Request] = []
    for cause in found.causes:
        low = cause.change.current if cause.unusual <= 0 else cause.change.previous
        facts = found.facts.get(cause.name, {})
        if cause.dimension == "product" and verdict(cause, facts, None).kind == "unexplained":
            asked.append(Request("stock", cause.name, low))
        if cause.dimension == "region" and _fell_by_half(cause, found):
            asked.append(Request("people", cause.name, low))
    return asked


def _fell_by_half(cause: Cause, found: Search) -> bool:
    now, then = (cause.current, cause.previous) if cause.sql else (found.now or 0.0, found.then or 0.0)
    return now < _VANISHED * then


# --- what it was -----------------------------------------------------------------------------------------------------

Kind = Literal["left", "new", "stock_out", "region_lost", "price", "cost", "promotion", "promotion_over", "unexplained"]


@dataclass(frozen=True, slots=True)
class Verdict:
    kind: Kind
    sentence: str


def verdict(cause: Cause, facts: Json, asked: Evidence | None) -> Verdict:
    """What happened, by the facts at hand; `asked` is what was fetched on request. Where they don't tell, it says so."""
    match cause.dimension:
        case "product" if asked and asked.rows:
            return _out_of_stock(asked)
        case "region" if asked and (gone := [row for row in asked.rows if row[2] != "–"]):
            return _left_alone(gone, len(asked.rows))
        case "product" | "category":
            return _terms(cause, facts)
        case _:
            return _ordering(cause, facts)


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
    return Verdict("unexplained", "It still orders, at another pace; why, the data doesn't tell.")


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
    proofs += [str(row["sql"]) for row in found.facts.values()]
    title = f"{label}: what moved, {change.current.label} against {change.previous.label}"
    return Evidence(title, "", columns if rows else (), rows, ";\n\n".join(dict.fromkeys(proofs or found.sql)))


def _thought(change: Change, causes: Sequence[Cause]) -> str:
    label = MEASURES[change.measure].label.lower()
    if not causes or change.filters:
        return f"Where does the change of {label} from {change.previous.label} to {change.current.label} sit?"
    return f"{causes[-1].name} stands out. Does the rest of {label} move evenly without it?"


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


def _side(data: Json, which: str) -> float | None:
    value = data.get(which, {}).get("value")
    return float(value) if isinstance(value, int | float) else None


def _plain(filters: Filters) -> dict[str, list[str]]:
    return {name: list(members) for name, members in filters.items()}
