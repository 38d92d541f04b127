"""The part of the data agent: fetch what the plan asks for, and hand the figures on with the SQL behind them."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from askstream.agents.insights.measures import MEASURES
from askstream.agents.insights.offline import queries
from askstream.agents.insights.offline.conversation import Act, Call, Conversation, Result
from askstream.agents.insights.offline.evidence import Evidence, to_markdown
from askstream.agents.insights.offline.plan import CONTINUED, Request, requests_in, stated
from askstream.agents.insights.offline.planning import SCHEMA_CALL
from askstream.agents.insights.offline.results import key_figures, schema_table, table
from askstream.agents.insights.offline.script import Script, together
from askstream.agents.insights.offline.understanding import FORECAST, Understanding
from askstream.agents.insights.periods import Period

TITLE: Final = "**Data**"
Fetch = Generator[Act, Sequence[Result], list[Evidence]]

# Beside what is asked for, a figure that tells whether it is much or little.
_BESIDE: Final[Mapping[str, tuple[str, ...]]] = {
    "revenue": ("orders", "units", "average_order"),
    "margin": ("revenue", "margin_rate", "units"),
    "orders": ("revenue", "customers"),
    "units": ("revenue", "orders"),
}
PAST: Final = "Month by month, all there is"
_LISTED: Final = 12  # of a dimension that is listed beside the rest
_COURSE_MONTHS: Final = 13  # a year and the same month before it


def fetch(conversation: Conversation) -> Script:
    said = conversation.said_by("planning")
    plan = stated(said)
    if plan is None:
        return _say((yield from _describe("The database")))
    if said[-1].startswith(CONTINUED):
        return _say((yield from _requested(requests_in(said[-1:]))))
    found, *added = yield from together([_planned(plan), *(_added(plan, what) for what in plan.also)])
    return _say([*found, *(one for more in added for one in more)])


def _planned(plan: Understanding) -> Fetch:
    match plan.job:
        case "report":
            return (yield from _report(plan))
        case "figure" | "compare" | "why":
            return (yield from _figures(plan))
        case "rank":
            return (yield from _ranking(plan))
        case "trend" | "forecast":
            return (yield from _course(plan))
        case "customers":
            return (yield from _customers(plan))
        case "stock":
            return (yield from _stock(plan))
        case "schema":
            return (yield from _describe("The data"))
        case "unknown":
            return []


def _added(plan: Understanding, what: str) -> Fetch:
    """What a remark asked for beside the rest: the past that a forecast starts from, or a list along a dimension."""
    if what == FORECAST:
        past = replace(plan, job="forecast", period=plan.covers, measures=plan.measures[:1])
        return [replace(one, title=PAST) for one in (yield from _course(past))]
    filters = {name: members for name, members in plan.filters.items() if name != what}
    listed = replace(plan, job="rank", dimension=what, filters=filters, order="top", count=_LISTED)
    return (yield from _ranking(listed))


def _say(found: Sequence[Evidence]) -> str:
    if not found:
        return f"{TITLE}\n\nThere is nothing to fetch for this question."
    return "\n\n".join([TITLE, *map(to_markdown, found)])


# --- what each job needs ---------------------------------------------------------------------------------------------


def _report(plan: Understanding) -> Fetch:
    measures = (*plan.measures, "margin_rate", "average_order")
    key = _key_calls(measures, plan)
    lists = {
        dimension: _sql(_list_sql(dimension, plan, count))
        for dimension, count in (("product", 5), ("customer", 5), ("category", 6), ("region", 5))
        if dimension not in plan.filters
    }
    course = _sql(queries.course(plan.measures, _course_period(plan), plan.filters))
    results = yield Act(
        "The key figures, their course, and who and what stands behind them.", (*key, course, *lists.values())
    )
    found = [
        key_figures(measures, plan, results[: len(key)]),
        table("Month by month", results[len(key)], plan.measures),
    ]
    for dimension, result in zip(lists, results[len(key) + 1 :], strict=True):
        found.append(table(list_title(dimension, plan), result, plan.measures[:1]))
    return _there(found)


def _figures(plan: Understanding) -> Fetch:
    beside = _BESIDE.get(plan.measures[0], ()) if len(plan.measures) == 1 else ()
    measures = (*plan.measures, *beside)
    key = _key_calls(measures, plan)
    course = _sql(queries.course(plan.measures, _course_period(plan), plan.filters))
    thought = (
        f"{', '.join(MEASURES[m].label.lower() for m in plan.measures)} of {plan.period.label}, and how it came about."
    )
    results = yield Act(thought[:1].upper() + thought[1:], (*key, course))
    return _there(
        [key_figures(measures, plan, results[:-1]), table("Month by month", results[-1], plan.measures)],
    )


def _ranking(plan: Understanding) -> Fetch:
    dimension, measure = plan.dimension or "product", plan.measures[0]
    sql = queries.ranking(
        measure, dimension, plan.period, plan.filters, order=plan.order, count=plan.count, against=plan.against
    )
    (result,) = yield Act(f"{LISTS[dimension]} by {MEASURES[measure].label.lower()}.", (_sql(sql),))
    return _there([table(f"{list_title(dimension, plan)}, {plan.period.label}", result, (measure,))])


def _course(plan: Understanding) -> Fetch:
    grain = "month" if plan.job == "forecast" else plan.grain
    sql = queries.course(plan.measures, plan.period, plan.filters, grain)
    (result,) = yield Act(f"The course by {grain}.", (_sql(sql),))
    return _there([table(f"{grain.capitalize()} by {grain}", result, plan.measures)])


def _customers(plan: Understanding) -> Fetch:
    results = yield Act(
        "Who ordered for the first time, and who stayed away.",
        (
            _sql(queries.customers_gained(plan.period, plan.filters)),
            _sql(queries.customers_lost(plan.period, plan.filters)),
        ),
    )
    return _there(
        [
            table(f"Customers gained, {plan.period.label}", results[0], ("revenue",)),
            table(f"Customers lost, {plan.period.label}", results[1], ("revenue",)),
        ]
    )


def _stock(plan: Understanding) -> Fetch:
    (result,) = yield Act(
        "The days on which a product was out of stock.",
        (_sql(queries.stock_outs(plan.period, plan.filters.get("product", ()))),),
    )
    return _there([table(f"Stock-outs, {plan.period.label}", result, ())])


def _describe(title: str) -> Fetch:
    (result,) = yield Act("What the database holds.", (SCHEMA_CALL,))
    if result.error:
        return [Evidence(title, f"It can't be described: {result.message}")]
    found = [schema_table(title, result.data)]
    return [*found, _measures()] if "last_day" in result.data else found


def _measures() -> Evidence:
    rows = tuple(
        (m.label, m.unit, m.numerator + (f" / {m.denominator}" if m.is_ratio else "")) for m in MEASURES.values()
    )
    by = ", ".join(name.lower() for name in LISTS.values())
    return Evidence(
        "What can be measured", f"By {by}; over any period.", ("Measure", "Unit", "From the view sales"), rows
    )


def _requested(requests: Sequence[Request]) -> Fetch:
    calls = [_sql(_request_sql(request)) for request in requests]
    results = yield Act("What the analysis still needs.", tuple(calls))
    return _there(
        [table(request_title(request), result, ()) for request, result in zip(requests, results, strict=True)]
    )


def request_title(request: Request) -> str:
    match request.kind:
        case "stock":
            return f"Days without stock: {request.name}, {request.period.label}"
        case _:
            return f"Sales people: {request.name}"


def _request_sql(request: Request) -> str:
    match request.kind:
        case "stock":
            return queries.stock_outs(request.period, (request.name,))
        case _:
            return queries.sales_people(request.name)


# --- the calls ----------------------------------------------------------------------------------------------------

LISTS: Final[Mapping[str, str]] = {
    "product": "Products", "category": "Categories", "region": "Regions", "customer": "Customers",
    "segment": "Segments", "sales_person": "Sales people", "month": "Months",
}  # fmt: skip


def _sql(query: str) -> Call:
    return Call("run_sql", {"query": query})


def _key_calls(measures: Sequence[str], plan: Understanding) -> tuple[Call, ...]:
    if plan.against is None:
        return (_sql(queries.totals(tuple(measures), plan.period, plan.filters)),)
    periods = {"current": plan.period.notation, "previous": plan.against.notation}
    filters = {name: list(members) for name, members in plan.filters.items()}
    return tuple(Call("compare_periods", {"measure": m, **periods, "filters": filters}) for m in measures)


def _list_sql(dimension: str, plan: Understanding, count: int) -> str:
    return queries.ranking(plan.measures[0], dimension, plan.period, plan.filters, count=count)


def list_title(dimension: str, plan: Understanding) -> str:
    return f"{LISTS[dimension]} by {MEASURES[plan.measures[0]].label.lower()}"


def _course_period(plan: Understanding) -> Period:
    """The period with enough before it to see a course: at least thirteen months."""
    months = max(_COURSE_MONTHS, len(plan.period.months()) + (12 if plan.against else 0))
    first = plan.period.months()[-1].shifted(1 - months)
    return Period(first.start.replace(day=1), plan.period.end)


def _there(found: list[Evidence]) -> list[Evidence]:
    return [one for one in found if one.text or one.rows]
