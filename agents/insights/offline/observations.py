"""What else figures tell: who leads and who moved, a year earlier, missed sales, the course, a forecast."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from askstream.agents.insights.measures import MEASURES, Measure
from askstream.agents.insights.offline import queries
from askstream.agents.insights.offline.conversation import Act, Call, Json
from askstream.agents.insights.offline.evidence import Evidence, amount, number, percent, signed
from askstream.agents.insights.offline.forecast import forecast
from askstream.agents.insights.offline.script import Script
from askstream.agents.insights.offline.statement import say
from askstream.agents.insights.offline.understanding import Understanding, before
from askstream.agents.insights.periods import Period, months_from, parse

_NEARLY_ALL: Final = 99.0  # per cent: the rest is rounding
_ENOUGH_MONTHS: Final = 3  # to be set against the same a year before


def movers(plan: Understanding, data: Sequence[Evidence]) -> Script:
    """Who leads, and who moved most since the period before."""
    listed = data[0] if data and data[0].rows else None
    if listed is None:
        return say("The list is empty.", [])
    findings = [_leader(plan, listed)]
    if "Share" in listed.columns:
        share = sum(value or 0.0 for value in listed.column("Share"))
        findings += [f"The {len(listed.rows)} shown make {share:.1f}% of the whole."] if share < _NEARLY_ALL else []
    summary = f"Ordered by {MEASURES[plan.measures[0]].label.lower()}, {plan.period.label}."
    earlier = before(plan.period)
    if earlier.start < plan.covers.start or plan.against:
        return say(summary, findings)
    (result,) = yield Act(f"Who moved most since {earlier.label}?", (_moves(plan, earlier),))
    if not result.data.get("parts"):
        return say(summary, findings)
    moved = _moved(plan, earlier, result.data)
    first = moved.rows[0]
    told = f"{first[0]} changed least like the rest: {first[1]} after {first[2]} in {earlier.label}."
    return say(summary, [*findings, told], [moved])


def _moves(plan: Understanding, earlier: Period) -> Call:
    return Call(
        "break_down",
        {
            "measure": plan.measures[0],
            "dimension": plan.dimension or "product",
            "current": plan.period.notation,
            "previous": earlier.notation,
            "filters": {name: list(members) for name, members in plan.filters.items()},
        },
    )


def _moved(plan: Understanding, earlier: Period, data: Json) -> Evidence:
    unit = MEASURES[plan.measures[0]].unit
    rows = tuple(
        (
            str(part["name"]),
            amount(part["current"], unit),
            amount(part["previous"], unit),
            percent(part["current"], part["previous"]),
        )
        for part in data["parts"][:5]
    )
    column = (plan.dimension or "product").replace("_", " ").capitalize()
    columns = (column, plan.period.label, earlier.label, "Change in %")
    return Evidence(f"Unlike the rest, against {earlier.label}", "", columns, rows, str(data["sql"]))


def _leader(plan: Understanding, listed: Evidence) -> str:
    name, value, *others = listed.rows[0]
    match plan.order:
        case "top":
            return f"**{name}** comes first with {value}."
        case "bottom":
            return f"**{name}** is the lowest with {value}."
        case "growth" | "decline":
            how = "grew" if plan.order == "growth" else "fell"
            return f"**{name}** {how} most: {value} after {others[0]}."


def year_earlier(plan: Understanding) -> Script:
    then = plan.period.year_before()
    if then.start < plan.covers.start:
        return say(f"There is no {then.label} in the data to compare with.", [])
    filters = {name: list(members) for name, members in plan.filters.items()}
    periods = {"current": plan.period.notation, "previous": then.notation, "filters": filters}
    calls = tuple(Call("compare_periods", {"measure": name, **periods}) for name in plan.measures)
    results = yield Act("Is that much or little, against a year earlier?", calls)
    rows: list[tuple[str, ...]] = []
    for name, result in zip(plan.measures, results, strict=True):
        if not result.error:
            now, before = result.data["current"]["value"], result.data["previous"]["value"]
            unit = MEASURES[name].unit
            relative = "–" if unit == "%" else percent(now, before)
            rows.append((MEASURES[name].label, amount(now, unit), amount(before, unit), relative))
    findings = [f"{row[0]}: {row[1]} after {row[2]} a year earlier ({row[3]})." for row in rows]
    sql = ";\n\n".join(str(result.data["sql"]) for result in results if not result.error)
    columns = ("Measure", plan.period.label, then.label, "Change in %")
    return say("Set against a year earlier.", findings, [Evidence("A year earlier", "", columns, tuple(rows), sql)])


def missed_sales(data: Sequence[Evidence]) -> Script:
    """Days without stock, times what was sold a day in the four weeks before."""
    outs = data[0].rows[:5] if data else ()
    if not outs:
        return say("No product was out of stock on any day of the period.", [])
    weeks = [_four_weeks_before(row[1]) for row in outs]
    calls = tuple(
        Call("run_sql", {"query": queries.pace((row[0],), period)}) for row, period in zip(outs, weeks, strict=True)
    )
    results = yield Act("What would have been sold on those days?", calls)
    rows: list[tuple[str, ...]] = []
    for row, period, result in zip(outs, weeks, results, strict=True):
        days = number(row[3]) or 0.0
        sold = result.data["rows"][0] if result.data.get("rows") else (row[0], 0, 0.0)
        units, revenue = (float(sold[n]) / period.days * days for n in (1, 2))
        rows.append((row[0], row[1], row[3], amount(round(units), ""), amount(revenue, "EUR")))
    findings = [
        f"**{r[0]}** was out of stock for {r[2]} days from {_when(r[1])}: about {r[3]} units, {r[4]} of revenue."
        for r in rows
    ]
    sql = ";\n\n".join(str(result.data["sql"]) for result in results if not result.error)
    columns = ("Product", "First day", "Days", "Missed units", "Missed revenue")
    estimate = Evidence("What was missed, at the pace of the four weeks before", "", columns, tuple(rows), sql)
    return say("Sales that were missed, as an estimate.", findings, [estimate])


def _four_weeks_before(first_day: str) -> Period:
    day = parse(first_day).start
    return Period(day - timedelta(28), day - timedelta(1))


def foretold(plan: Understanding, data: Sequence[Evidence]) -> str:
    course = data[0] if data and data[0].rows else None
    measure = MEASURES[plan.measures[0]]
    values = [value for value in course.column(measure.label) if value is not None] if course else []
    found = forecast(values, min(plan.ahead, 12))
    if course is None or found is None:
        return say("There are too few months for a forecast that could be tested.", [])
    last = parse(course.rows[-1][0])
    months = [months_from(last.shifted(n).start, 1) for n in range(1, len(found.values) + 1)]
    rows = tuple(
        (month.label, amount(value, measure.unit), amount(low, measure.unit), amount(high, measure.unit))
        for month, value, (low, high) in zip(months, found.values, found.span, strict=True)
    )
    tried = "; ".join(f"{name}: {error:.1f}%" for name, error in found.errors.items())
    findings = [
        f"Method: {found.method}.",
        f"Error: {found.error_percent:.1f}% on average, when the last {found.tested} months were foretold from those "
        "before them.",
        f"Tried were {tried}.",
        "It carries the past on: what nobody has done yet, a promotion or a lost customer, isn't in it.",
    ]
    table = Evidence(f"Forecast of {measure.label.lower()}", "", ("Month", "Forecast", "Low", "High"), rows)
    total = amount(sum(found.values), measure.unit) if measure.unit != "%" else ""
    summary = (
        f"{measure.label}, {months[0].label} to {months[-1].label}: {total or rows[0][1]} ± {found.error_percent:.1f}%."
    )
    return say(summary, findings, [table])


def trend(plan: Understanding, data: Sequence[Evidence]) -> str:
    course = next((one for one in data if one.columns[:1] == ("Period",) and one.rows), None)
    if course is None:
        return say("There is nothing in that period.", [])
    findings: list[str] = []
    for name in plan.measures:
        values = course.column(MEASURES[name].label)
        points = [(row[0], v) for row, v in zip(course.rows, values, strict=True) if v is not None]
        findings += _course_of(MEASURES[name], [p for p in points if _is_over(p[0], plan.covers)])
    if not _is_over(course.rows[-1][0], plan.covers):
        findings.append(f"{_when(course.rows[-1][0])} is not over, and left out of this.")
    labels = ", ".join(MEASURES[name].label.lower() for name in plan.measures)
    return say(f"The course of {labels}, {plan.period.label}.", findings)


def _course_of(measure: Measure, points: Sequence[tuple[str, float]]) -> list[str]:
    if len(points) < 2:
        return []
    high, low = max(points, key=lambda p: p[1]), min(points, key=lambda p: p[1])
    first, last = points[0], points[-1]
    told = [
        f"{measure.label}: highest in {_when(high[0])} ({amount(high[1], measure.unit)}), lowest in {_when(low[0])} "
        f"({amount(low[1], measure.unit)}); {_change(measure, last[1], first[1])} from {_when(first[0])} "
        f"to {_when(last[0])}."
    ]
    months = min(12, len(points) - 12)
    if not measure.is_ratio and months >= _ENOUGH_MONTHS and len(first[0]) == len("2026-10"):
        now, then = (sum(v for _, v in points[-months:]), sum(v for _, v in points[-12 - months : -12]))
        told.append(
            f"{measure.label} of the last {months} months against the same a year before: {percent(now, then)}."
        )
    return told


def _change(measure: Measure, now: float, then: float) -> str:
    return signed(now - then, "%") if measure.unit == "%" else percent(now, then)


def _is_over(text: str, covers: Period) -> bool:
    try:
        return parse(text).end <= covers.end
    except ValueError:
        return False


def _when(text: str) -> str:
    try:
        return parse(text).label
    except ValueError:
        return text


def customers(plan: Understanding, data: Sequence[Evidence]) -> str:
    gained, lost = (data[0], data[1]) if len(data) == 2 else (None, None)
    if gained is None or lost is None:
        return say("The lists could not be had.", [])
    findings = [_named(gained, "gained", "since its first order on"), _named(lost, "lost", "before its last order on")]
    rule = f"Lost is who gave no order for {queries.SILENCE} days up to the end of the data; the last order tells when."
    return say(f"Customers in {plan.period.label}.", [*findings, rule], [])


def _named(listed: Evidence, what: str, when: str) -> str:
    if not listed.rows:
        return f"No customer was {what}."
    count = listed.text.split()[0] if listed.text[:1].isdigit() else str(len(listed.rows))
    first = listed.rows[0]
    return f"{count} {what}; the largest is **{first[0]}** ({first[1]}) with {first[4]} {when} {_when(first[2])}."
