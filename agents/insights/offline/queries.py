"""The SELECTs behind a plan. Pure: a plan in, queries out; figures come back unrounded but for cents."""

# ruff: noqa: S608 - SQL is what this makes; names stand in it as literals

from collections.abc import Mapping
from functools import partial
from typing import Final

from askstream.agents.insights.measures import (
    ALL_MEASURES,
    MEDIAN,
    Measure,
    conditions,
    sides,
    value_sql,
    where,
)
from askstream.agents.insights.offline import events
from askstream.agents.insights.offline.grammar import TIMES
from askstream.agents.insights.offline.plan import Plan, is_attribute
from askstream.agents.insights.offline.tables import CHANGE, Query
from askstream.agents.insights.periods import Period

_COURSE: Final = 13  # months: a year, and the same month before it
_NUMBER: Final = "CAST(strftime('%w', ordered_on) AS INTEGER)"
_THURSDAY: Final = "date(ordered_on, '-3 days', 'weekday 4')"  # of the same ISO week
_DAY_NAMES: Final = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_TIME: Final[Mapping[str, str]] = {
    "day": "ordered_on",
    "month": "month",
    "quarter": "substr(month, 1, 4) || '-Q' || ((substr(month, 6, 2) + 2) / 3)",
    "year": "substr(month, 1, 4)",
    "week": f"strftime('%Y-W', {_THURSDAY}) || printf('%02d', (strftime('%j', {_THURSDAY}) + 6) / 7)",
    "weekday": f"(({_NUMBER} + 6) % 7 + 1) || ' ' || substr('SunMonTueWedThuFriSat', 1 + 3 * {_NUMBER}, 3)",
}
_POPULATION: Final[Mapping[str, str]] = {
    "customer": (
        "(SELECT c.name AS customer, c.segment, r.name AS region FROM customers c JOIN regions r USING (region_id))"
    ),
    "product": "(SELECT p.name AS product, k.name AS category FROM products p JOIN categories k USING (category_id))",
    "region": "(SELECT name AS region FROM regions)",
    "category": "(SELECT name AS category FROM categories)",
    "segment": "(SELECT DISTINCT segment FROM customers)",
    "sales_person": (
        "(SELECT s.name AS sales_person, r.name AS region FROM sales_people s JOIN regions r USING (region_id))"
    ),
}
value = partial(value_sql, exact=True)  # figures are rounded once, when they are shown
_ORDERS: Final = {"top": "2 DESC", "bottom": "2", "growth": "change DESC", "decline": "change"}


def condition(plan: Plan, *periods: Period) -> str:
    days = [_days(plan.days)] if plan.days else []
    return " AND ".join([where(periods or (plan.period,), plan.only, plan.without), *days])


def queries(plan: Plan) -> list[Query]:
    match plan.job:
        case "figure":
            return [*(_figure(plan, name) for name in plan.measures), *_beside(plan)]
        case "list":
            return [_list(plan)]
        case "share":
            return [_share(plan)]
        case "absent":
            return [_absent(plan)]
        case "why":
            return [_figure(plan, plan.measure), course(plan)]
        case "report":
            return [_key(plan), course(plan)]
        case "forecast":
            return [course(plan, whole=True)]
        case "schema" | "no" | "foreign":
            return []
        case _:
            return [events.query(plan)]


def _labels(plan: Plan) -> tuple[tuple[str, str], ...]:
    return tuple((ALL_MEASURES[name].label, ALL_MEASURES[name].unit) for name in plan.measures)


def _figure(plan: Plan, name: str) -> Query:
    """One row: the measure's name and value, and with a comparison the earlier value."""
    measure = ALL_MEASURES[name]
    columns = [("Measure", ""), (plan.period.label, measure.unit)]
    columns += [(plan.against.label, measure.unit)] if plan.against else []
    return Query(measure.label, _measure_row(plan, measure), tuple(columns))


def _measure_row(plan: Plan, measure: Measure) -> str:
    if measure is MEDIAN:
        values = [_median(condition(plan, period)) for period in (plan.period, plan.against) if period]
        return f"SELECT '{measure.label}' AS measure,\n" + ",\n".join(
            f"({sql}) AS value_{n}" for n, sql in enumerate(values)
        )
    if plan.per:
        count = {"day": plan.period.days, "week": plan.period.days / 7}.get(plan.per, len(plan.period.months()))
        mean = f"1.0 * {measure.numerator} / {count:.12g}"
        return (
            f"SELECT '{measure.label} per {plan.per}' AS measure,\n       {mean} AS value\nFROM sales\nWHERE"
            f" {condition(plan)}"
        )
    if plan.against is None:
        return (
            f"SELECT '{measure.label}' AS measure,\n       {value(measure)} AS value\nFROM sales\nWHERE"
            f" {condition(plan)}"
        )
    now, then = sides(plan.period, plan.against)
    return (
        f"SELECT '{measure.label}' AS measure,\n       {value(measure, now)} AS value,\n"
        f"       {value(measure, then)} AS earlier\nFROM sales\nWHERE {condition(plan, plan.period, plan.against)}"
    )


def _median(rows: str) -> str:
    return f"""SELECT AVG(total) FROM (
  SELECT SUM(revenue) AS total, ROW_NUMBER() OVER (ORDER BY SUM(revenue)) AS place, COUNT(*) OVER () AS many
  FROM sales WHERE {rows} GROUP BY order_id
) WHERE place IN ((many + 1) / 2, (many + 2) / 2)"""


def _beside(plan: Plan) -> list[Query]:
    """The course, to draw it: of one measure that has one."""
    drawn = len(plan.measures) == 1 and plan.measure != MEDIAN.name and not plan.per
    return [course(plan)] if drawn else []


def course(plan: Plan, *, whole: bool = False) -> Query:
    """By month: the period, with enough before it to see a course."""
    months = plan.period.months()
    span = plan.period
    if not whole:
        back = max(_COURSE, len(months) + (12 if plan.against else 0))
        span = Period(months[-1].shifted(1 - back).start.replace(day=1), plan.period.end)
    measure = ALL_MEASURES[plan.measure]
    sql = (
        f"SELECT month,\n       {value(measure)} AS {measure.name}\nFROM sales\n"
        f"WHERE {condition(plan, span)}\nGROUP BY month\nORDER BY month"
    )
    return Query(f"{measure.label} by month", sql, (("Month", ""), (measure.label, measure.unit)), "line")


def _list(plan: Plan) -> Query:
    measure, by = ALL_MEASURES[plan.measure], _TIME.get(plan.by, plan.by)
    columns = [(plan.by.replace("_", " ").capitalize(), ""), (measure.label, measure.unit)]
    periods = (plan.period, plan.against) if plan.against else (plan.period,)
    if plan.against:
        now, then = (f"COALESCE({value(measure, side)}, 0)" for side in sides(*periods))
        values = f"{now} AS {measure.name},\n       {then} AS earlier,\n       {now} - {then} AS change"
        columns += [(plan.against.label, measure.unit), ("Change", CHANGE + measure.unit)]
    else:
        values = f"{value(measure)} AS {measure.name}"
        if not measure.is_ratio and plan.by not in measure.overlaps and not plan.limit:
            values += f",\n       100.0 * {measure.numerator} / SUM({measure.numerator}) OVER () AS share"
            columns.append(("Share", "%"))
    sign, size = plan.limit or ("", 0.0)
    having = f"\nHAVING {value(measure)} {sign} {size:.12g}" if sign else ""
    default = "1" if plan.by in TIMES else "2 DESC"
    order = _ORDERS.get(plan.order or "", default)
    limit = f"\nLIMIT {plan.count}" if plan.count else ""
    sql = (
        f"SELECT {by} AS name,\n       {values},\n       COUNT(*) OVER () AS in_all\nFROM sales\n"
        f"WHERE {condition(plan, *periods)}\nGROUP BY 1{having}\nORDER BY {order}, 1{limit}"
    )
    kind = plan.chart or ("line" if plan.by in TIMES and plan.by != "weekday" and not plan.order else "bar")
    return Query(f"{measure.label} by {plan.by.replace('_', ' ')}", sql, (*columns, ("In all", "")), kind)


def _share(plan: Plan) -> Query:
    measure = ALL_MEASURES[plan.measure]
    part = _days(plan.days) if not plan.part else " AND ".join(conditions({plan.part: plan.only[plan.part]}, {}))
    rest = {name: members for name, members in plan.only.items() if name != plan.part}
    rows = where((plan.period,), rest, plan.without)
    own, whole = value(measure, part), value(measure)
    sql = (
        f"SELECT '{measure.label}' AS measure,\n       {own} AS part,\n       {whole} AS whole,\n"
        f"       100.0 * {own} / {whole} AS share\nFROM sales\nWHERE {rows}"
    )
    columns = (("Measure", ""), ("Part", measure.unit), ("Whole", measure.unit), ("Share", "%"))
    return Query("The share", sql, columns)


def _absent(plan: Plan) -> Query:
    kept = {name: members for name, members in plan.only.items() if is_attribute(plan.by, name)}
    bought = {name: members for name, members in plan.only.items() if name not in kept}
    tests = conditions(kept, plan.without)
    if bought:
        tests.append(f"{plan.by} IN (SELECT {plan.by} FROM sales WHERE {where((plan.period,), bought, {})})")
    sold = where((plan.period,), plan.lacking, {})
    tests.append(f"{plan.by} NOT IN (SELECT {plan.by} FROM sales WHERE {sold})")
    sql = (
        f"SELECT {plan.by} AS name,\n       COUNT(*) OVER () AS in_all\nFROM {_POPULATION[plan.by]}\n"
        f"WHERE {' AND '.join(tests)}\nORDER BY 1\nLIMIT 50"
    )
    return Query("The list", sql, ((plan.by.replace("_", " ").capitalize(), ""), ("In all", "")))


def _key(plan: Plan) -> Query:
    periods = [plan.period, *compared(plan)]
    values = ", ".join(f"{value(ALL_MEASURES[name])} AS {name}" for name in plan.measures)
    rows = [f"SELECT '{p.label}' AS period, {values}\nFROM sales WHERE {condition(plan, p)}" for p in periods]
    return Query("Key figures", "\nUNION ALL\n".join(rows), (("Period", ""), *_labels(plan)))


def compared(plan: Plan) -> list[Period]:
    """The periods that a report compares with: that before, and the same a year before."""
    earlier = [plan.against, plan.period.year_before()] if plan.against else []
    return [period for period in dict.fromkeys(earlier) if period.start >= plan.covers.start]


def _days(days: str) -> str:
    if days in ("weekend", "weekday"):
        return f"{_NUMBER} {'IN' if days == 'weekend' else 'NOT IN'} (0, 6)"
    return f"{_NUMBER} = {_DAY_NAMES.index(days)}"
