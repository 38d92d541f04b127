"""The report agent: draw, and write the report from what the others found. It adds no figure."""

from collections.abc import Sequence
from typing import Final

from askstream.agents.insights.offline.agents import found_in
from askstream.agents.insights.offline.conversation import Act, Call, Conversation, json_in
from askstream.agents.insights.offline.plan import Plan, in_statements, title
from askstream.agents.insights.offline.script import Script
from askstream.agents.insights.offline.tables import CHANGE, Table, from_json, markdown

WHAT_IT_CAN: Final = """I work by rules, without a language model, and I know the bundled sales warehouse. I can give

- a report: *Generate a monthly sales report*, *Quarterly report for Q2 2026*
- figures: *What was revenue in March 2026?*, *Orders in the North in week 34*, *Median order value*
- a comparison: *Compare Q3 with Q2 2026*, *Revenue this year vs last year*
- a list: *Top 5 products by margin excluding Lighting*, *Revenue by weekday*, *Best month for orders*
- a threshold: *Products with a margin below 30 %*, *Customers with more than 100 orders*
- a share: *What share of revenue comes from weekends?*
- who or what did not: *Customers without orders in 2026*, *Which customers bought Halo but not Lumen?*
- a cause: *Why did revenue fall in October 2026?*
- events: *Price changes in 2026*, *Which customers did we lose?*, *Stock-outs in October*
- the stock: *How many Turntables are in stock?*
- a forecast: *Forecast revenue for the next three months*
- what follows from an answer: *And the quarter before?*, *Without the North*, *By product*, *Why?*

For questions in other words, start the server with a model's key (`OPENAI_API_KEY`)."""
_MOST_POINTS: Final = 60
_SHOWN: Final = 13  # rows of a table in the report
_BRIEF: Final = 3
_FOREIGN: Final = (
    "My rules know the bundled sales warehouse only. A language model can answer questions about this database: "
    "start the server with a key (`OPENAI_API_KEY`)."
)


def write(talk: Conversation) -> Script:
    plan = in_statements(talk.said_by("planning"))
    if plan is None:
        return f"# No answer\n\n{WHAT_IT_CAN}"
    if plan.job == "no":
        return _no(plan)
    tables = from_json(json_in((talk.said_by("data") or [""])[-1]))
    found = found_in((talk.said_by("analysis") or [""])[-1])
    more = found.tables if found else []
    drawn: list[str] = []
    charts = [] if "charts" in plan.hidden else _charts(plan, [*tables, *more])
    if charts:
        results = yield Act("Drawing what the report shows.", tuple(charts))
        drawn = [str(call.arguments["title"]) for call, result in zip(charts, results, strict=True) if not result.error]
    parts = [f"# {title(plan)}{_assumed(plan)}", *_remarks(plan)]
    parts += [found.headline] if found and plan.job != "foreign" else []
    parts += [" ".join(f"*{note}.*" for note in plan.notes)] if plan.notes else []
    parts += [_FOREIGN, *plan.reasons] if plan.job == "foreign" else []
    parts += _body(plan, tables, more)
    parts += [WHAT_IT_CAN] if plan.job == "schema" else []
    if found and found.findings:
        lines = found.findings[:_BRIEF] if "details" in plan.hidden else found.findings
        parts += ["## Findings", "\n".join(line if line.startswith(" ") else f"- {line}" for line in lines)]
    parts += [found.closing] if found and found.closing else []
    parts += [f"Charts: {', '.join(f'*{name}*' for name in drawn)}."] if drawn else []
    return "\n\n".join([*parts, *_sql(plan, [*tables, *more])])


def _assumed(plan: Plan) -> str:
    return " (no period named: the year so far)" if any("the year so far" in note for note in plan.notes) else ""


def _no(plan: Plan) -> str:
    reasons = " ".join(plan.reasons)
    shown = ", ".join(f"*{example}*" for example in plan.examples)
    helps = [f"I can answer, for example: {shown}. Ask *help* for all that I can."] if shown else [WHAT_IT_CAN]
    return "\n\n".join(["# No answer", reasons, *_remarks(plan), *helps])


def _remarks(plan: Plan) -> list[str]:
    """What became of the remark that sent the report back."""
    told = [f"**Changed as you asked.** {'; '.join(plan.changed)}."] if plan.changed else []
    return told + ([f"**Not followed.** {' '.join(plan.refused)}"] if plan.refused else [])


def _body(plan: Plan, tables: Sequence[Table], more: Sequence[Table]) -> list[str]:
    if {"tables", "details"} & set(plan.hidden):
        return []
    if plan.job == "report":
        return [markdown(one) for one in more[:1]]
    own = list(tables[:1]) if plan.job != "figure" else []  # of figures the headline says it all
    shown = [one for one in [*own, *more] if one.rows and one.columns]
    if plan.job == "schema":
        shown = list(tables)
    return [_titled(one, first=place == 0) for place, one in enumerate(shown)]


def _titled(table: Table, *, first: bool) -> str:
    hidden = table.columns[-1] == "In all"
    columns = len(table.columns) - hidden
    rows = tuple(row[:columns] for row in table.rows[: 2 * _SHOWN])
    cut = Table(table.title, table.columns[:columns], table.units[:columns], rows, table.sql)
    more = f"\n\n*{len(table.rows) - len(rows)} more rows are in the chart.*" if len(rows) < len(table.rows) else ""
    return (markdown(cut) if first else f"### {table.title}\n\n{markdown(cut)}") + more


def _sql(plan: Plan, tables: Sequence[Table]) -> list[str]:
    with_sql = [one for one in tables if one.sql]
    if not with_sql or {"SQL", "details"} & set(plan.hidden):
        return []
    known = dict.fromkeys((one.title, one.sql) for one in with_sql)
    return ["## SQL behind the figures", *(f"**{name}**\n\n```sql\n{sql}\n```" for name, sql in known)]


# --- the charts ----------------------------------------------------------------------------------


def _charts(plan: Plan, tables: Sequence[Table]) -> list[Call]:
    drawn = [one for one in tables if one.chart and len(one.rows) > 1 and one.column(1)]
    if plan.job == "report":
        course = [one for one in drawn if one.chart == "line"][:1]
        return [_chart(one, plan) for one in [*course, *(one for one in drawn if one.chart == "bar")][:2]]
    return [_chart(one, plan) for one in drawn[:3]]


def _chart(table: Table, plan: Plan) -> Call:
    """The figures; of causes what each adds to the change."""
    moved = [place for place, unit in enumerate(table.units) if unit.startswith(CHANGE)]
    columns = moved if moved and "moved" in table.title else [1]
    rows = table.rows[-_MOST_POINTS:]
    series = [{"name": table.columns[c], "values": [row[c] for row in rows]} for c in columns]
    negative = any(isinstance(v, int | float) and v < 0 for one in series for v in one["values"])
    return Call(
        "make_chart",
        {
            "type": "bar" if table.chart == "pie" and negative else table.chart,
            "title": table.title,
            "labels": [str(row[0]) for row in rows],
            "series": series,
            "unit": table.units[columns[0]].removeprefix(CHANGE),
        },
    )
