"""The sentences of an answer: its first one, the findings, and what to look at next.

Pure: raw values in, sentences out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from askstream.agents.insights.offline.forecast import forecast
from askstream.agents.insights.offline.grammar import TIMES
from askstream.agents.insights.offline.plan import EVENTS, PLURALS, Plan, label
from askstream.agents.insights.offline.tables import Table, change, day, percent, shown
from askstream.agents.insights.periods import MONTH_NAMES, months_from
from askstream.agents.insights.sql import Value

NONE: Final = "There are none."


@dataclass(frozen=True, slots=True)
class Found:
    """An answer: its first sentence, findings, further tables, and a closing paragraph."""

    headline: str
    findings: list[str] = field(default_factory=list[str])
    tables: list[Table] = field(default_factory=list[Table])
    closing: str = ""


def answer(plan: Plan, tables: Sequence[Table]) -> Found:
    if not tables:
        return Found(NONE)
    match plan.job:
        case "figure":
            return _figure(plan, tables[: len(plan.measures)])
        case "list":
            return _list(plan, tables[0])
        case "share":
            return _share(plan, tables[0])
        case "absent":
            return _absent(plan, tables[0])
        case "forecast":
            return _forecast(plan, tables[0])
        case _:
            return _event(plan, tables[0])


def _figure(plan: Plan, tables: Sequence[Table]) -> Found:
    return Found(". ".join(_one_figure(plan, table) for table in tables) + ".")


def _one_figure(plan: Plan, table: Table) -> str:
    (name, now, *earlier), unit = table.rows[0], table.unit
    if now is None:
        return f"{name} in {plan.period.label}: nothing was sold"
    text = f"{name}: **{shown(now, unit)}**"
    if plan.against is None:
        return text
    then = earlier[0]
    if then is None:
        return f"{text}; in {plan.against.label} nothing was sold"
    moved = change(_n(now), _n(then), unit)
    return f"{text} in {plan.period.label}, **{shown(then, unit)}** in {plan.against.label}: {moved}"


def _list(plan: Plan, table: Table) -> Found:
    if not table.rows:
        return Found(f"No {PLURALS[plan.by]} fit that.")
    in_all, unit = table.rows[0][-1], table.unit
    first = table.rows[0]
    many = f"{in_all} {PLURALS[plan.by]}" if isinstance(in_all, int) and in_all != 1 else f"1 {plan.by}"
    if plan.order in ("growth", "decline"):
        word = "grew" if plan.order == "growth" else "declined"
        moved = change(_n(first[1]), _n(first[2]), unit)
        return Found(f"**{_name(plan, first[0])}** {word} the most: {moved}, to {shown(first[1], unit)}.", [], [])
    if plan.limit:
        return Found(f"**{many}**. The first is {_name(plan, first[0])} with {shown(first[1], unit)}.")
    values = [(row[0], _n(row[1])) for row in table.rows if row[1] is not None]
    if plan.by in TIMES and not plan.order and len(values) > 1:
        high, low = max(values, key=lambda v: v[1]), min(values, key=lambda v: v[1])
        told = f"Highest: {_name(plan, high[0])} (**{shown(high[1], unit)}**); lowest: {_name(plan, low[0])} "
        return Found(f"{told}(**{shown(low[1], unit)}**).")
    place = {"bottom": "lowest"}.get(plan.order or "", "highest")
    total = f" {len(table.rows)} of {in_all} are shown." if len(table.rows) < _n(in_all) else ""
    share = (
        f", {shown(first[2], '%')} of the whole"
        if "Share" in table.columns and isinstance(first[2], float | int)
        else ""
    )
    return Found(
        f"**{_name(plan, first[0])}** has the {place} {label(plan.measure)}: **{shown(first[1], unit)}**{share}.{total}"
    )


def _name(plan: Plan, name: Value) -> str:
    text = str(name)
    match plan.by:
        case "month":
            return f"{MONTH_NAMES[int(text[5:7]) - 1]} {text[:4]}"
        case "day":
            return day(text)
        case "weekday":
            return text[2:]
        case _:
            return text


def _share(plan: Plan, table: Table) -> Found:
    _, part, whole, share = table.rows[0]
    if share is None:
        return Found("Nothing was sold, so there are no shares.")
    unit = table.unit
    return Found(f"**{shown(share, '%')}**: {shown(part, unit)} of {shown(whole, unit)}.")


def _absent(plan: Plan, table: Table) -> Found:
    if not table.rows:
        return Found(f"**None**: all {PLURALS[plan.by]} had sales.")
    many = table.rows[0][-1]
    what = PLURALS[plan.by] if many != 1 else plan.by.replace("_", " ")
    return Found(
        f"**{many} {what}**: {', '.join(str(row[0]) for row in table.rows[:10])}{' …' if _n(many) > 10 else ''}."
    )


def _event(plan: Plan, table: Table) -> Found:
    what = EVENTS.get(plan.job, "Stock on hand").lower()
    if not table.rows:
        return Found(f"**None**: there were no {what} in {plan.period.label}.")
    lines = [_event_line(plan, row) for row in table.rows[:5]]
    if plan.job == "stock":
        return Found(f"**{shown(table.rows[0][-1], '')} units** on hand at the end of {plan.period.label}.")
    many = table.rows[0][-1] if plan.job in ("lost", "gained") else len(table.rows)
    return Found(
        f"**{many}** {what if many != 1 else what.removesuffix('s')}. {lines[0]}", [f"{line}" for line in lines[1:]]
    )


def _event_line(plan: Plan, row: Sequence[Value]) -> str:
    match plan.job:
        case "stock_outs":
            missed = (
                f"; at the pace of the four weeks before, sales of {shown(row[4], 'EUR')} were missed" if row[4] else ""
            )
            return f"**{row[0]}** was out of stock for {row[3]} days, {day(str(row[1]))} to {day(str(row[2]))}{missed}."
        case "lost":
            return (
                f"**{row[0]}** ({row[1]}) has not ordered since {day(str(row[2]))}; revenue over all time"
                f" {shown(row[3], 'EUR')}."
            )
        case "gained":
            return f"**{row[0]}** ({row[1]}) first ordered on {day(str(row[2]))}; revenue since {shown(row[3], 'EUR')}."
        case "staff":
            return f"**{row[0]}** ({row[1]}) left on {day(str(row[2]))}."
        case "stock":
            return ""
        case _:
            return _moved_line(plan, row)


def _moved_line(plan: Plan, row: Sequence[Value]) -> str:
    what = {"price": "list prices", "cost": "unit costs"}.get(plan.job, "")
    size = percent(_n(row[2])) if what else shown(row[2], "%")
    head = f"{what} {size}" if what else f"a promotion with discounts of {size}"
    units = change(_n(row[4]), _n(row[3]), "units") if row[3] is not None else "–"
    revenue = change(_n(row[6]), _n(row[5]), "EUR") if row[5] is not None else "–"
    month = f"{MONTH_NAMES[int(str(row[1])[5:7]) - 1]} {str(row[1])[:4]}"
    return f"**{row[0]}**, {month}: {head}. Against the month before: units {units}, revenue {revenue}."


def _forecast(plan: Plan, table: Table) -> Found:
    past = [value or 0.0 for value in table.column(1)]
    found = forecast(past, plan.ahead)
    if found is None:
        return Found("The past is too short for a forecast that could be tested.")
    start = plan.covers.end.replace(day=1)
    unit, digits = table.unit, 2 if table.unit in ("EUR", "%") else 0
    rows = tuple(
        (months_from(start, 1).shifted(n).label, round(value, digits), round(low, digits), round(high, digits))
        for n, (value, (low, high)) in enumerate(zip(found.values, found.span, strict=True), 1)
    )
    ahead = Table(
        f"Forecast of {label(plan.measure)}",
        ("Month", "Forecast", "Low", "High"),
        ("", unit, unit, unit),
        rows,
        table.sql,
    )
    first = rows[0]
    return Found(
        f"{first[0]}: **{shown(first[1], unit)}**, give or take {shown(found.error_percent, '%')}.",
        [
            f"Method: {found.method}.",
            (
                f"Error: {shown(found.error_percent, '%')} on average, when the last {found.tested} months were "
                "foretold from those before them."
            ),
        ],
        [ahead],
    )


def key_table(plan: Plan, table: Table) -> Table:
    """The key figures as a report shows them: one row for each measure, with its changes."""
    labels = [str(row[0]) for row in table.rows]
    columns = ["Figure", labels[0], *(f"Change on {text}" for text in labels[1:])]
    rows: list[tuple[Value, ...]] = []
    for place, name in enumerate(table.columns[1:], 1):
        unit = table.units[place]
        now = table.rows[0][place]
        moved = [change(_n(now), _n(row[place]), unit) for row in table.rows[1:]]
        rows.append((name, shown(now, unit), *moved))
    return Table(table.title, tuple(columns), ("",) * len(columns), tuple(rows), table.sql)


def _n(value: Value) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
