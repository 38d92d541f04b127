"""The part of the analyst: what the figures mean, and why they are so. It asks for more data where a cause needs proof."""

from collections.abc import Generator, Sequence
from datetime import timedelta
from typing import Final

from agents.measures import MEASURES
from agents.offline import queries
from agents.offline.causes import Cause, Change, Search, cause_table, requests, search, verdict
from agents.offline.conversation import Act, Call, Conversation, Result
from agents.offline.data import request_title
from agents.offline.evidence import Evidence, amount, from_markdown, number, percent, signed, to_markdown
from agents.offline.forecast import forecast
from agents.offline.plan import MORE, Request, request_line, stated
from agents.offline.script import Script, together
from agents.offline.understanding import Understanding
from agents.periods import Period, months_from, parse

TITLE: Final = "**Analysis**"
MOST_ROUNDS: Final = 2  # so often the analysis may send the team back for more
Analysis = Generator[Act, Sequence[Result], str]


def analyse(conversation: Conversation) -> Script:
    plan = stated(conversation.said_by("planning"))
    data = [one for text in conversation.said_by("data") for one in from_markdown(text)]
    if plan is None:
        return _say("There is nothing that rules could analyse here.", [], [])
    rounds = sum(text.startswith(MORE) for text in conversation.said_by("analysis"))
    match plan.job:
        case "report" | "why" | "compare" if plan.against:
            return (yield from _changes(plan, data, conversation.questions[-1], rounds))
        case "rank":
            return (yield from _movers(plan, data))
        case "stock":
            return (yield from _missed_sales(data))
        case "forecast":
            return _forecast(plan, data)
        case "trend":
            return _trend(plan, data)
        case "customers":
            return _customers(plan, data)
        case "figure":
            return (yield from _year_earlier(plan))
        case _:
            return _say("There is nothing to analyse in that.", [], [])


def _say(summary: str, findings: Sequence[str], evidence: Sequence[Evidence]) -> str:
    listed = "\n".join(f"- {finding}" for finding in findings)
    return "\n\n".join(part for part in (TITLE, summary, listed, *map(to_markdown, evidence)) if part)


# --- why -------------------------------------------------------------------------------------------------------------


def _changes(plan: Understanding, data: Sequence[Evidence], question: str, rounds: int) -> Analysis:
    measure = plan.measures[0]
    assert plan.against is not None
    compared = [plan.against]
    year_before = plan.period.year_before()
    if plan.job == "report" and year_before != plan.against and year_before.start >= plan.covers.start:
        compared.append(year_before)
    limit = 2 if plan.job == "report" else 3
    found = yield from together(
        [
            search(Change(measure, plan.period, then, plan.filters), plan.covers, limit=limit + n)
            for n, then in enumerate(compared)
        ]
    )
    fetched = {one.title: one for one in data}
    wanted = list(dict.fromkeys(request for one in found for request in requests(one)))
    open_ones = [request for request in wanted if request_title(request) not in fetched]
    if open_ones and rounds < MOST_ROUNDS:
        return _ask_for(open_ones)
    findings: list[str] = []
    for one in found:
        findings += _findings(one, fetched, wanted, question if plan.job == "why" else "")
    return _say(_summary(found[0]), findings, [cause_table(one) for one in found])


def _ask_for(wanted: Sequence[Request]) -> str:
    names = " and ".join(request.name for request in wanted)
    lines = "\n".join(map(request_line, wanted))
    return f"{MORE} the change sits in {names}; the sales figures don't tell why. Needed:\n\n{lines}"


def _summary(found: Search) -> str:
    change = found.change
    label = MEASURES[change.measure].label
    if found.now is None or found.then is None:
        return f"{label} can't be compared: there is nothing in one of the periods."
    moved = "did not change" if not found.difference else ("rose" if found.difference > 0 else "fell")
    size = "" if not found.difference else f" by {signed(abs(found.difference), change.unit).lstrip('+')}"
    relative = "" if change.unit == "%" or not found.difference else f" ({percent(found.now, found.then)})"
    return (
        f"{label} {moved}{size}{relative}, from {amount(found.then, change.unit)} in {change.previous.label} to "
        f"{amount(found.now, change.unit)} in {change.current.label}{_only(change)}."
    )


def _only(change: Change) -> str:
    return f" ({', '.join(name for members in change.filters.values() for name in members)})" if change.filters else ""


def _findings(found: Search, fetched: dict[str, Evidence], wanted: Sequence[Request], question: str) -> list[str]:
    lines = [line for line in (_contradiction(found, question),) if line]
    for cause in found.causes:
        proof = next(
            (fetched.get(request_title(r)) for r in wanted if r.name == cause.name and r.period in _both(cause)), None
        )
        lines.append(
            f"**{cause.name}**{_size(cause)}. {verdict(cause, found.facts.get(cause.name, {}), proof).sentence}"
        )
    return [*lines, *_rest(found)]


def _both(cause: Cause) -> tuple[Period, Period]:
    return cause.change.current, cause.change.previous


def _size(cause: Cause) -> str:
    if not cause.sql:
        return ""
    unit = cause.change.unit
    against = f"{cause.change.current.label} against {cause.change.previous.label}"
    return f" ({cause.dimension.replace('_', ' ')}): {signed(cause.contribution, unit)}, {against}"


def _contradiction(found: Search, question: str) -> str:
    """Who asks why it fell, when it rose, should hear that first."""
    text = f" {question.lower()} "
    fell = any(word in text for word in (" fall", " fell", " drop", " declin", " decreas", " lower", " down ", " sank"))
    rose = any(word in text for word in (" rise", " rose", " grow", " grew", " increas", " higher", " up ", " jump"))
    if fell and not rose and found.difference > 0:
        return "It didn't fall: it rose. What held it back, and what drove it, stands below."
    if rose and not fell and found.difference < 0:
        return "It didn't rise: it fell. What drove it, and what went against it, stands below."
    return ""


def _rest(found: Search) -> list[str]:
    """How the rest moved, and whether that is the season."""
    change, unit = found.change, found.change.unit
    lines: list[str] = []
    sized = [cause for cause in found.causes if cause.sql]
    if sized and found.difference and unit != "%":
        lines.append(
            f"Together these make {signed(sum(c.contribution for c in sized), unit)} of the {signed(found.difference, unit)}."
        )
    if not sized and not change.filters:
        lines.append("No single product, category, region or customer stands out: the change runs through all of them.")
    if found.rest_percent is not None and not change.filters and sized:
        lines.append(f"Everything else moved by {_percent(found.rest_percent)}.")
    if found.season_percent is not None:
        step = f"{change.previous.year_before().label} to {change.current.year_before().label}"
        lines.append(
            f"The same step a year earlier, {step}, was {_percent(found.season_percent)}: that much is the season."
        )
    return lines


def _percent(value: float) -> str:
    return f"{'−' if value < 0 else '+'}{abs(value):.1f}%"


# --- the other jobs --------------------------------------------------------------------------------------------------


def _movers(plan: Understanding, data: Sequence[Evidence]) -> Analysis:
    """Who leads, and who moved most since the period before."""
    listed = data[0] if data and data[0].rows else None
    if listed is None:
        return _say("The list is empty.", [], [])
    findings = [f"{listed.rows[0][0]} comes first with {listed.rows[0][1]}."]
    if "Share" in listed.columns:
        share = sum(value or 0.0 for value in listed.column("Share"))
        findings.append(f"The {len(listed.rows)} shown make {share:.1f}% of the whole.")
    before = plan.period.before()
    measure, dimension = MEASURES[plan.measures[0]], plan.dimension or "product"
    if before.start < plan.covers.start or plan.against:
        return _say(f"Ordered by {measure.label.lower()}, {plan.period.label}.", findings, [])
    filters = {name: list(members) for name, members in plan.filters.items()}
    call = Call(
        "break_down",
        {
            "measure": measure.name,
            "dimension": dimension,
            "current": plan.period.notation,
            "previous": before.notation,
            "filters": filters,
        },
    )
    (result,) = yield Act(f"Who moved most since {before.label}?", (call,))
    parts = result.data.get("parts", [])
    if result.error or not parts:
        return _say(f"Ordered by {measure.label.lower()}, {plan.period.label}.", findings, [])
    rows = tuple(
        (
            str(part["name"]),
            amount(part["current"], measure.unit),
            amount(part["previous"], measure.unit),
            percent(part["current"], part["previous"]),
        )
        for part in parts[:5]
    )
    findings.append(f"{rows[0][0]} moved least like the rest: {rows[0][1]} after {rows[0][2]} in {before.label}.")
    moved = Evidence(
        f"Unlike the rest, against {before.label}",
        "",
        (dimension.replace("_", " ").capitalize(), plan.period.label, before.label, "Change in %"),
        rows,
        str(result.data["sql"]),
    )
    return _say(f"Ordered by {measure.label.lower()}, {plan.period.label}.", findings, [moved])


def _year_earlier(plan: Understanding) -> Analysis:
    then = plan.period.year_before()
    if then.start < plan.covers.start:
        return _say(f"There is no {then.label} in the data to compare with.", [], [])
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
    return _say("Set against a year earlier.", findings, [Evidence("A year earlier", "", columns, tuple(rows), sql)])


def _missed_sales(data: Sequence[Evidence]) -> Analysis:
    """Days without stock, times what was sold a day in the four weeks before."""
    outs = data[0].rows[:5] if data else ()
    if not outs:
        return _say("No product was out of stock on any day of the period.", [], [])
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
        f"**{r[0]}** was out of stock for {r[2]} days from {r[1]}: about {r[3]} units, {r[4]} of revenue." for r in rows
    ]
    sql = ";\n\n".join(str(result.data["sql"]) for result in results if not result.error)
    columns = ("Product", "First day", "Days", "Missed units", "Missed revenue")
    estimate = Evidence("What was missed, at the pace of the four weeks before", "", columns, tuple(rows), sql)
    return _say("Sales that were missed, as an estimate.", findings, [estimate])


def _four_weeks_before(first_day: str) -> Period:
    day = parse(first_day).start
    return Period(day - timedelta(28), day - timedelta(1))


def _forecast(plan: Understanding, data: Sequence[Evidence]) -> str:
    course = data[0] if data and data[0].rows else None
    measure = MEASURES[plan.measures[0]]
    values = [value for value in course.column(measure.label) if value is not None] if course else []
    found = forecast(values, min(plan.ahead, 12))
    if course is None or found is None:
        return _say("There are too few months for a forecast that could be tested.", [], [])
    last = parse(course.rows[-1][0])
    months = [months_from(last.shifted(n).start, 1) for n in range(1, len(found.values) + 1)]
    rows = tuple(
        (month.label, amount(value, measure.unit), amount(low, measure.unit), amount(high, measure.unit))
        for month, value, (low, high) in zip(months, found.values, found.span, strict=True)
    )
    tried = "; ".join(f"{name}: {error:.1f}%" for name, error in found.errors.items())
    findings = [
        f"Method: {found.method}.",
        f"Error: {found.error_percent:.1f}% on average when the last {found.tested} months were foretold from those before.",
        f"Tried were {tried}.",
        "It carries the past on: what nobody has done yet, a promotion or a lost customer, isn't in it.",
    ]
    table = Evidence(f"Forecast of {measure.label.lower()}", "", ("Month", "Forecast", "Low", "High"), rows)
    total = amount(sum(found.values), measure.unit) if measure.unit != "%" else ""
    summary = (
        f"{measure.label}, {months[0].label} to {months[-1].label}: {total or rows[0][1]} ± {found.error_percent:.1f}%."
    )
    return _say(summary, findings, [table])


def _trend(plan: Understanding, data: Sequence[Evidence]) -> str:
    course = data[0] if data and data[0].rows else None
    if course is None:
        return _say("There is nothing in that period.", [], [])
    findings: list[str] = []
    for name in plan.measures:
        measure = MEASURES[name]
        points = [
            (row[0], value)
            for row, value in zip(course.rows, course.column(measure.label), strict=True)
            if value is not None
        ]
        high, low = max(points, key=lambda p: p[1]), min(points, key=lambda p: p[1])
        findings.append(
            f"{measure.label}: highest in {_when(high[0])} ({amount(high[1], measure.unit)}), lowest in {_when(low[0])} "
            f"({amount(low[1], measure.unit)}), {percent(points[-1][1], points[0][1])} from the first to the last."
        )
        findings += _against_last_year(measure.label, points)
    return _say(f"The course of {', '.join(MEASURES[m].label.lower() for m in plan.measures)}.", findings, [])


def _against_last_year(label: str, points: Sequence[tuple[str, float]]) -> list[str]:
    if len(points) < 13 or len(points[0][0]) != len("2026-10"):
        return []
    months = min(12, len(points) - 12)
    now, then = (sum(v for _, v in points[-months:]), sum(v for _, v in points[-12 - months : -12]))
    return [f"{label} of the last {months} months against the same a year before: {percent(now, then)}."]


def _when(text: str) -> str:
    try:
        return parse(text).label
    except ValueError:
        return text


def _customers(plan: Understanding, data: Sequence[Evidence]) -> str:
    gained, lost = (data[0], data[1]) if len(data) == 2 else (None, None)
    if gained is None or lost is None:
        return _say("The lists could not be had.", [], [])
    findings = [_named(gained, "gained", "since its first order on"), _named(lost, "lost", "before its last order on")]
    rule = f"Lost is who gave no order for {queries.SILENCE} days up to the end of the data; the last order tells when."
    return _say(f"Customers in {plan.period.label}.", [*findings, rule], [])


def _named(listed: Evidence, what: str, when: str) -> str:
    if not listed.rows:
        return f"No customer was {what}."
    count = listed.text.split()[0] if listed.text[:1].isdigit() else str(len(listed.rows))
    first = listed.rows[0]
    return f"{count} {what}; the largest is **{first[0]}** ({first[1]}) with {first[4]} {when} {_when(first[2])}."
