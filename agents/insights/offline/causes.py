"""Why a figure changed: split the change along every dimension, take out the part that moved least like the rest, and
look again at what remains; then find out, for each part, what happened to it."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from statistics import median
from typing import Final

from askstream.agents.insights.measures import DRIVER, MEASURES, Filters
from askstream.agents.insights.offline import queries
from askstream.agents.insights.offline.conversation import Act, Call, Json, Result
from askstream.agents.insights.periods import Period

DIMENSIONS: Final = ("product", "category", "region", "customer")
# A part counts when its unusual change is at least this share of the business in a month: below lies what chance does.
# Chance evens out with the root of what is counted: less in a longer period, more in a part of the business.
_NOTABLE: Final = 0.03
_NOTABLE_POINTS: Final = 0.5  # of a percentage
_DRIVEN: Final = ("revenue", "margin")
_WITHIN: Final = {"category": "product", "region": "customer"}  # along what a part is split further
_LOOKED_AT: Final = 6  # parts in each breakdown: the unusual ones come first


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
    drivers: Json  # the change split into volume, mix, price, discount and cost; empty for measures without them
    sql: tuple[str, ...]

    @property
    def difference(self) -> float:
        return (self.now or 0.0) - (self.then or 0.0)


Searching = Generator[Act, Sequence[Result], Search]


@dataclass(frozen=True, slots=True)
class _Whole:
    """The change before anything is taken out of it."""

    now: float | None
    then: float | None
    drivers: Json
    scale: float  # how much larger than in the whole business, in one month, a change must be to count
    sql: tuple[str, ...]


def search(change: Change, covers: Period, *, limit: int = 3) -> Searching:
    """Find up to `limit` causes. Needs the tools break_down, compare_periods and run_sql."""
    named = _named_by_filter(change)
    found: list[Cause] = []
    whole, results = yield from _first_look(change)
    while len(found) < limit and (cause := _strongest(change, results, whole)):
        found.append(cause)
        results = yield Act(_thought(change, found), tuple(_breakdowns(change, _names(found))))
    facts, season = yield from _look_closer(change, (*named, *found), covers)
    return Search(
        change=change,
        now=whole.now,
        then=whole.then,
        causes=(*named, *found),
        facts=facts,
        rest_percent=results[0].data.get("change_percent"),
        season_percent=season,
        drivers=whole.drivers,
        sql=whole.sql,
    )


def _first_look(change: Change) -> Generator[Act, Sequence[Result], tuple[_Whole, Sequence[Result]]]:
    """The change along each dimension; its split by driver, and the whole business where it is about a part of it."""
    whole = _compare(replace(change, filters={}), change.current, change.previous)
    split = Call("break_down", {**_compare(change, change.current, change.previous).arguments, "dimension": DRIVER})
    calls = _breakdowns(change, {})
    results = yield Act(_thought(change, []), (*calls, whole, split) if change.measure in _DRIVEN else (*calls, whole))
    business, drivers = results[len(calls)].data, results[-1].data
    now, then = _side(results[0].data, "current"), _side(results[0].data, "previous")
    return _Whole(
        now=now,
        then=then,
        drivers=drivers if change.measure in _DRIVEN else {},
        scale=_scale(change, then, _side(business, "previous")),
        sql=tuple(str(r.data["sql"]) for r in results[: len(calls)] if "sql" in r.data),
    ), results[: len(calls)]


def _scale(change: Change, own: float | None, business: float | None) -> float:
    months = max(1.0, change.current.days / 30)
    share = min(1.0, own / business) if own and business else 1.0
    return 1 / sqrt(months * share)


def _breakdowns(change: Change, excluded: Filters) -> list[Call]:
    """One call for each dimension that can tell parts apart; where none can, the bare comparison."""
    compared = _compare(change, change.current, change.previous, excluded)
    overlaps = MEASURES[change.measure].overlaps
    return [
        Call("break_down", {**compared.arguments, "dimension": dimension, "limit": _LOOKED_AT})
        for dimension in DIMENSIONS
        if dimension not in change.filters and dimension not in overlaps
    ] or [compared]


def _strongest(change: Change, results: Sequence[Result], whole: _Whole) -> Cause | None:
    """The part with the largest unusual change for its size. A customer that leaves is a cause; its region, where it
    is one of many, moved as well, but moved less for its size."""
    rates = [r.data["typical_change_percent"] for r in results if r.data.get("typical_change_percent") is not None]
    rate = median(rates) / 100 if rates else 0.0
    parts = [
        _part(change, result.data, part, rate)
        for result in results
        if not result.error
        for part in result.data.get("parts", ())
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


def _is_notable(part: Cause, whole: _Whole) -> bool:
    if part.change.unit == "%":
        return abs(part.unusual) >= _NOTABLE_POINTS
    size = max(whole.now or 0.0, whole.then or 0.0)
    return abs(part.unusual) >= _NOTABLE * whole.scale * size > 0


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
    """For each cause what happened, and to which part of it most; and the same step a year earlier, where there is one.

    The facts are one row of figures by the cause's name, with `inside`: the part of it that changed most.
    """
    closer = [Call("run_sql", {"query": _closer_sql(cause)}) for cause in causes]
    inside = [_inside(cause) for cause in causes if cause.dimension in _WITHIN]
    seasonal = change.previous.year_before().start >= covers.start and change.current != change.previous.year_before()
    season = [_compare(change, change.current.year_before(), change.previous.year_before())] if seasonal else []
    calls = (*closer, *inside, *season)
    if not calls:
        return {}, None
    names = ", ".join(cause.name for cause in causes)
    results = yield Act(f"What happened to {names}?" if names else "Is it the season?", calls)
    parts = iter(results[len(closer) :])
    facts: dict[str, Json] = {}
    for cause, result in zip(causes, results, strict=False):
        row = dict(zip(result.data["columns"], result.data["rows"][0], strict=True)) if result.data.get("rows") else {}
        split = next(parts).data.get("parts", ()) if cause.dimension in _WITHIN else ()
        facts[cause.name] = {**row, "sql": result.data.get("sql", ""), "inside": split[0] if split else None}
    return facts, results[-1].data.get("change_percent") if seasonal else None


def _inside(cause: Cause) -> Call:
    change = replace(cause.change, filters={**cause.change.filters, cause.dimension: (cause.name,)})
    arguments = _compare(change, change.current, change.previous).arguments
    return Call("break_down", {**arguments, "dimension": _WITHIN[cause.dimension], "limit": 1})


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


def _thought(change: Change, causes: Sequence[Cause]) -> str:
    label = MEASURES[change.measure].label.lower()
    if not causes:
        return f"Where does the change of {label} from {change.previous.label} to {change.current.label} sit?"
    return f"{causes[-1].name} stands out. Does the rest of {label} move evenly without it?"


def _side(data: Json, which: str) -> float | None:
    value = data.get(which, {}).get("value")
    return float(value) if isinstance(value, int | float) else None


def _plain(filters: Filters) -> dict[str, list[str]]:
    return {name: list(members) for name, members in filters.items()}
