"""Why a figure changed: take out the part that moved least like the rest, look again at what remains,
and so on; then give each part's own figures, and what the data says happened to it.

The search works on remainders, and an answer never shows those. Its figures come from one query, for
each part as a whole, under the filters of the question, and for everything else.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Final

from askstream.agents.insights.measures import CAUSAL, DRIVER, EVERY, MEASURES, Filters, sides, where
from askstream.agents.insights.offline import events, queries
from askstream.agents.insights.offline.conversation import Act, Call, Json, Result
from askstream.agents.insights.offline.plan import Plan
from askstream.agents.insights.periods import Period
from askstream.agents.insights.sql import literal

# A part is a cause if what it moved beyond the general course is at least this share of the change…
_SHARE: Final = 0.2
# … and more than chance does. Chance evens out with the root of what is counted: this share of a
# month of the whole business, less in a longer period, more in a part of it.
_CHANCE: Final = 0.02
_CHANCE_POINTS: Final = 0.3  # of a percentage
_DRIVEN: Final = ("revenue", "margin")
_WITHIN: Final = {"category": "product", "region": "customer"}  # along what a part is split further
_LOOKED_AT: Final = 8

Steps = Generator[Act, Sequence[Result], "Search"]


@dataclass(frozen=True, slots=True)
class Change:
    """A measure in two periods, under the filters of the question."""

    plan: Plan
    current: Period
    previous: Period

    @property
    def measure(self) -> str:
        return self.plan.measure

    @property
    def unit(self) -> str:
        return MEASURES[self.measure].unit

    def call(self, tool: str, without: Filters | None = None, **more: object) -> Call:
        left_out = {**self.plan.without}
        for dimension, members in (without or {}).items():
            left_out[dimension] = (*left_out.get(dimension, ()), *members)
        filters = {name: list(members) for name, members in self.plan.only.items()}
        exclude = {name: list(members) for name, members in left_out.items()}
        periods = {"current": self.current.notation, "previous": self.previous.notation}
        return Call(tool, {"measure": self.measure, **periods, "filters": filters, "exclude": exclude, **more})


@dataclass(frozen=True, slots=True)
class Cause:
    """A part of the business that holds a share of the change. `current` and `previous` are its own
    figures; `contribution` is what it adds to the change of the whole. `facts` say what happened.
    `asked`: the question names it."""

    dimension: str
    name: str
    current: float | None = None
    previous: float | None = None
    contribution: float | None = None
    facts: Json | None = None
    asked: bool = False


@dataclass(frozen=True, slots=True)
class Search:
    change: Change
    now: float | None
    then: float | None
    causes: tuple[Cause, ...]
    rest: tuple[float | None, float | None]  # everything else, in both periods
    season: tuple[float | None, float | None] | None  # the same step a year earlier
    drivers: Json
    floor: float  # the size that a cause must have, beyond the general course
    typical: float | None  # the general course, in per cent
    sql: str  # of the causes' figures
    other_sql: Mapping[str, str]

    @property
    def difference(self) -> float:
        return (self.now or 0.0) - (self.then or 0.0)

    def share(self, cause: Cause) -> float:
        """The cause's share of the change; 0 without one."""
        return (cause.contribution or 0.0) / self.difference if self.difference else 0.0


def search(change: Change, *, limit: int, brief: bool = False) -> Steps:
    """Find up to `limit` causes. `brief` leaves out the drivers and the season."""
    asked = [
        Cause(dimension, members[0], asked=True)
        for dimension, members in change.plan.only.items()
        if len(members) == 1 and dimension in CAUSAL and not brief
    ]
    found: list[Cause] = []
    business = replace(change, plan=replace(change.plan, only={}, without={}))
    first = [change.call("break_down", dimension=EVERY, limit=_LOOKED_AT)]
    first += [business.call("compare_periods")] if change.plan.only else []
    results = yield Act(f"Where does the change of {_what(change)} sit?", tuple(first))
    whole, size = results[0].data, results[-1].data
    floor = _floor(change, whole, size)
    while cause := _strongest(whole if not found else results[0].data, change, floor):
        found.append(cause)
        if len(found) >= limit:
            break
        thought = f"{cause.name} stands out. Does the rest move evenly without it?"
        results = yield Act(thought, (change.call("break_down", _names(found), dimension=EVERY, limit=_LOOKED_AT),))
    return (yield from _told(change, [*asked, *found], whole, floor, brief))


def _what(change: Change) -> str:
    return f"{MEASURES[change.measure].label.lower()} from {change.previous.label} to {change.current.label}"


def _floor(change: Change, whole: Json, business: Json) -> float:
    """The size that a cause must have."""
    now, then = _sides(whole)
    share = _SHARE * abs((now or 0.0) - (then or 0.0))
    if MEASURES[change.measure].is_ratio:
        size = max(now or 0.0, then or 0.0)
        return max(share, _CHANCE_POINTS if change.unit == "%" else 0.01 * size)
    own, total = max(now or 0.0, then or 0.0), max(*(side or 0.0 for side in _sides(business)), 1.0)
    scale = 1 / sqrt(max(1.0, change.current.days / 30) * min(1.0, own / total or 1.0))
    return max(share, _CHANCE * scale * own)


def _strongest(data: Json, change: Change, floor: float) -> Cause | None:
    """The part that weighs most, of those that are large enough."""
    for part in data.get("parts", ()):
        if abs(part["unusual"]) >= floor > 0:
            return Cause(part["dimension"], part["name"])
    return None


def _names(causes: Sequence[Cause]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for cause in causes:
        found[cause.dimension] = (*found.get(cause.dimension, ()), cause.name)
    return found


def _told(change: Change, causes: Sequence[Cause], whole: Json, floor: float, brief: bool) -> Steps:
    """The causes with their own figures and facts, the rest, the season, and the drivers."""
    sized = [cause for cause in causes if not cause.asked]
    sql = figures_sql(change, sized)
    calls = [Call("run_sql", {"query": sql})]
    facts = [_facts_calls(change, cause, brief=brief) for cause in causes]
    calls += [call for group in facts for call in group]
    seasonal = not brief and _has_season(change)
    earlier = replace(change, current=change.current.year_before(), previous=change.previous.year_before())
    calls += [Call("run_sql", {"query": figures_sql(earlier, [])})] if seasonal else []
    driven = not brief and change.measure in _DRIVEN
    calls += [change.call("break_down", dimension=DRIVER)] if driven else []
    names = ", ".join(cause.name for cause in causes)
    results = list((yield Act(f"What happened to {names}?" if names else "Is it the season?", tuple(calls))))
    drivers: Json = results.pop().data if driven else {}
    season = results.pop() if seasonal else None
    rows: Sequence[Sequence[float]] = results[0].data.get("rows", ())
    told: list[Cause] = []
    place = 1
    for cause, group in zip(causes, facts, strict=True):
        known = _facts(results[place : place + len(group)])
        place += len(group)
        row = rows[sized.index(cause) + 1] if cause in sized and rows else None
        told.append(_with_figures(cause, row, known, change))
    now, then = _pair(results[0], 0) or (None, None)
    rest = _pair(results[0], -1) if sized else None
    sqls = {"season": str(season.data.get("sql", "")) if season else "", "drivers": str(drivers.get("sql", ""))}
    pair = _pair(season, 0) if season else None
    typical = whole.get("typical_change_percent")
    return Search(change, now, then, tuple(told), rest or (None, None), pair, drivers, floor, typical, sql, sqls)


def _has_season(change: Change) -> bool:
    before = change.previous.year_before()
    return before.start >= change.plan.covers.start and change.current != before


def _with_figures(cause: Cause, row: Sequence[float] | None, facts: Json, change: Change) -> Cause:
    if row is None:
        return replace(cause, facts=facts)
    if MEASURES[change.measure].is_ratio:
        return replace(cause, current=row[1], previous=row[2], contribution=row[3], facts=facts)
    now, then = row[1] or 0.0, row[2] or 0.0
    return replace(cause, current=now, previous=then, contribution=now - then, facts=facts)


def figures_sql(change: Change, causes: Sequence[Cause]) -> str:
    """One row for all, one for each cause with its own figures, and one for everything else. Of a
    ratio also what the part adds to the change of the whole: by its ratio and by its weight."""
    measure, plan = MEASURES[change.measure], change.plan
    now, then = sides(change.current, change.previous)
    base = where((change.current, change.previous), plan.only, plan.without)
    parts = [(cause.name, f"{cause.dimension} = {literal(cause.name)}") for cause in causes]
    others = " AND ".join(f"NOT {test}" for _, test in parts) or "1"
    rows = [("All", "1"), *parts, ("Everything else", others)]
    selects: list[str] = []
    for name, test in rows:
        values = ", ".join(f"{queries.value(measure, f'{side} AND {test}')}" for side in (now, then))
        if measure.is_ratio:
            values += f", {_contribution(change, test)}"
        selects.append(f"SELECT {literal(name)} AS part, {values}\nFROM sales WHERE {base}")
    return "\nUNION ALL\n".join(selects)


def _contribution(change: Change, test: str) -> str:
    """w1 (r1 - R) - w0 (r0 - R), with R the whole's earlier ratio, as in `parts_of_ratio`."""
    measure = MEASURES[change.measure]
    now, then = sides(change.current, change.previous)
    top, bottom = measure.numerator, measure.denominator

    def over(value: str, condition: str) -> str:
        return f"COALESCE({value} FILTER (WHERE {condition}), 0)"

    whole = f"1.0 * {over(top, then)} / {over(bottom, then)}"
    sides_of = [
        f"({over(top, f'{side} AND {test}')} - {whole} * {over(bottom, f'{side} AND {test}')}) / {over(bottom, side)}"
        for side in (now, then)
    ]
    return f"{measure.scale} * (1.0 * {sides_of[0]} - 1.0 * {sides_of[1]})"


# --- what happened to a part ---------------------------------------------------------------------


def _facts_calls(change: Change, cause: Cause, *, brief: bool) -> list[Call]:
    """The queries that say what happened, all under the filters of the question."""
    plan = change.plan
    only = {**plan.only, cause.dimension: (cause.name,)}
    span = Period(min(change.current, change.previous).start, max(change.current, change.previous).end)
    within = replace(change, plan=replace(plan, only=only))
    if cause.dimension in ("product", "category"):
        own = {name: members for name, members in only.items() if name in ("product", "category")}
        asked = [events.terms(only, plan.without, change.current, change.previous)]
        asked += [events.happened(span, own)]
    elif cause.dimension == "region":
        asked = [events.staff((cause.name,)).sql]
    else:
        asked = [events.order_dates(cause.name)]
    calls = [Call("run_sql", {"query": sql}) for sql in asked]
    inside = _WITHIN.get(cause.dimension)
    if inside and not brief:
        calls.append(within.call("break_down", dimension=inside, limit=1))
    return calls


def _facts(results: Sequence[Result]) -> Json:
    """One dictionary: the row of the terms or dates, what happened, staff, the largest part inside."""
    facts: dict[str, object] = {"sql": [str(r.data["sql"]) for r in results if "sql" in r.data]}
    for result in results:
        data = result.data
        columns, rows = tuple(data.get("columns", ())), [tuple(row) for row in data.get("rows", ())]
        if "parts" in data:
            facts["inside"] = data["parts"][0] if data["parts"] else None
        elif columns[:1] in (("kind",), ("name",)):
            facts["happened" if columns[0] == "kind" else "staff"] = rows
        elif rows:
            facts |= dict(zip(columns, rows[0], strict=True))
    return facts


def _pair(result: Result, place: int) -> tuple[float | None, float | None] | None:
    """Both values of a row of `figures_sql`; a sum without rows is 0."""
    rows = result.data.get("rows", ())
    return (rows[place][1], rows[place][2]) if rows else None


def _sides(data: Json) -> tuple[float | None, float | None]:
    values = [data.get(side, {}).get("value") for side in ("current", "previous")]
    now, then = (float(value) if isinstance(value, int | float) else None for value in values)
    return now, then
