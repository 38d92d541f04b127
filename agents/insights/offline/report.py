"""The part of the report agent: draw, and write the report from what the others found. It adds no figure of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from askstream.agents.insights.measures import MEASURES
from askstream.agents.insights.offline.conversation import Act, Call, Conversation
from askstream.agents.insights.offline.data import LISTS, list_title
from askstream.agents.insights.offline.evidence import Evidence, from_markdown, table
from askstream.agents.insights.offline.plan import FOREIGN, MORE, in_a_line, stated
from askstream.agents.insights.offline.script import Script
from askstream.agents.insights.offline.statement import parted
from askstream.agents.insights.offline.understanding import Understanding

WHAT_IT_CAN: Final = """I work by rules, without a language model, and I know the bundled sales warehouse. I can give

- a report: *Generate a monthly sales report*, *Quarterly report for Q2 2026*
- figures: *What was revenue in March 2026?*, *Orders in the North last quarter*
- a comparison: *Compare Q3 with Q2 2026*
- an order: *Top 5 products by margin*, *Worst regions this year*, *Revenue by category*
- a course: *Revenue by month since January 2026*
- a reason: *Why did revenue fall in February 2026?*
- customers: *Which customers did we lose this year?*
- stock: *Which products were out of stock in October?*
- a forecast: *Forecast revenue for the next three months*
- the data itself: *What data do you have?*
- what follows from an answer: *And the quarter before?*, *What about the north?*, *And by product?*, *Why?*

For questions in words that I don't know, start the server with a model's key (`OPENAI_API_KEY`)."""

_MOST_POINTS: Final = 30
_BRIEF: Final = 3  # findings in a report that is to be short


@dataclass(frozen=True, slots=True)
class Chart:
    kind: str
    title: str
    labels: tuple[str, ...]
    series: tuple[tuple[str, tuple[float | None, ...]], ...]
    unit: str

    @property
    def call(self) -> Call:
        return Call(
            "make_chart",
            {
                "type": self.kind,
                "title": self.title,
                "labels": list(self.labels),
                "series": [{"name": name, "values": list(values)} for name, values in self.series],
                "unit": self.unit,
            },
        )


def write(conversation: Conversation) -> Script:
    plan = stated(conversation.said_by("planning"))
    data = [one for text in conversation.said_by("data") for one in from_markdown(text)]
    if plan is None:
        return (yield from _foreign(conversation, data))
    if plan.job == "unknown":
        return _cannot(plan)
    said = next((t for t in reversed(conversation.said_by("analysis")) if not t.startswith(MORE)), "")
    found = from_markdown(said)
    charts = [] if "charts" in plan.without else _charts(plan, data, found)
    drawn: list[str] = []
    if charts:
        results = yield Act("Drawing what the report shows.", tuple(chart.call for chart in charts))
        drawn = [chart.title for chart, result in zip(charts, results, strict=True) if not result.error]
    return _markdown(plan, data, found, parted(said)[0], drawn)


# --- the text --------------------------------------------------------------------------------------------------------


def _markdown(
    plan: Understanding, data: Sequence[Evidence], found: Sequence[Evidence], prose: str, drawn: Sequence[str]
) -> str:
    summary, _, findings = prose.partition("\n\n")
    parts = [
        f"# {_title(plan)}",
        *_impossible(plan),
        *_remarked(plan),
        f"**In short.** {_in_short(plan, data, summary)}",
    ]
    if drawn:
        parts.append(f"Charts: {', '.join(f'*{title}*' for title in drawn)}.")
    if "details" in plan.without:
        findings, data, found = _briefly(findings), data[:1], [one for one in found if one.title.startswith("Forecast")]
    if findings:
        parts += ["## Findings", findings]
    if "tables" not in plan.without:
        parts += _tables(data, found)
    if notes := _notes(plan):
        parts += ["## Assumptions", "\n".join(f"- {note}" for note in notes)]
    with_sql = [one for one in (*data, *found) if one.sql]
    if with_sql and not {"SQL", "details"} & set(plan.without):
        parts += ["## SQL behind the figures", *(f"**{one.title}**\n\n```sql\n{one.sql}\n```" for one in with_sql)]
    return "\n\n".join([*parts, in_a_line(plan)])


def _tables(data: Sequence[Evidence], found: Sequence[Evidence]) -> list[str]:
    parts = [_shown(one) for one in found if one.rows]
    if any(one.rows or one.text for one in data):
        parts += ["## Figures", *(_shown(one) for one in data)]
    return parts


def _impossible(plan: Understanding) -> list[str]:
    return [f"**Can't be done.** {' '.join(plan.cannot)}"] if plan.cannot else []


def _remarked(plan: Understanding) -> list[str]:
    """What became of the remark that sent the report back, each in a line."""
    changed = [f"**Changed as you asked.** {_sentence('; '.join(plan.changed))}"] if plan.changed else []
    return changed + ([f"**Not followed.** {' '.join(plan.refused)}"] if plan.refused else [])


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _briefly(findings: str) -> str:
    """The first findings, without their groups."""
    return "\n".join([line for line in findings.splitlines() if line.startswith("- ")][:_BRIEF])


def _shown(one: Evidence) -> str:
    return "\n\n".join(part for part in (f"### {one.title}", one.text, table(one.columns, one.rows)) if part)


def _title(plan: Understanding) -> str:
    measures = ", ".join(MEASURES[name].label.lower() for name in plan.measures)
    only = ", ".join(name for members in plan.filters.values() for name in members)
    whose = f", {only}" if only else ""
    against = f" against {plan.against.label}" if plan.against else ""
    match plan.job:
        case "report":
            return f"{_kind(plan)} sales report: {plan.period.label}{whose}"
        case "compare" | "why":
            lead = "Why it changed: " if plan.job == "why" else ""
            text = f"{lead}{measures}, {plan.period.label}{against}{whose}"
        case "rank":
            text = f"{LISTS[plan.dimension or 'product']} by {measures}, {plan.period.label}{whose}"
        case "customers":
            text = f"Customers gained and lost, {plan.period.label}{whose}"
        case "stock":
            text = f"Stock-outs, {plan.period.label}{whose}"
        case "forecast":
            text = f"Forecast of {measures}{whose}"
        case "schema":
            text = "What data there is"
        case _:
            text = f"{measures}, {plan.period.label}{whose}"
    return text[:1].upper() + text[1:]


def _kind(plan: Understanding) -> str:
    return {1: "Monthly", 3: "Quarterly", 6: "Half-yearly", 12: "Yearly"}.get(plan.period.whole_months, "Business")


def _in_short(plan: Understanding, data: Sequence[Evidence], summary: str) -> str:
    key = next((one for one in data if one.title == "Key figures" and one.rows), None)
    if plan.job == "schema" and data:
        return data[0].text
    if plan.job not in ("figure", "report", "compare") or key is None:
        return summary
    told = [f"{row[0].lower()} {row[1]}{_change(row)}" for row in key.rows[: len(plan.measures)]]
    against = f"; changes are against {plan.against.label}" if plan.against else ""
    figures = f"{plan.period.label}: {', '.join(told)}{against}."
    return f"{figures} {summary}" if plan.job != "figure" and plan.against else figures


def _change(row: Sequence[str]) -> str:
    if len(row) < 5:
        return ""
    return f" ({row[4]})" if row[4] != "–" else f" ({row[3]})"


def _notes(plan: Understanding) -> list[str]:
    missing = [f"There is no data on {', '.join(plan.missing)}."] if plan.missing else []
    return [*plan.assumptions, *missing]


def _cannot(plan: Understanding) -> str:
    reason = " ".join([*plan.cannot, *_notes(plan)]) or "I did not understand what is to be measured."
    return "\n\n".join(["# That I can't answer", reason, *_remarked(plan), WHAT_IT_CAN])


def _foreign(conversation: Conversation, data: Sequence[Evidence]) -> Script:
    """A database of another schema, or no plan at all: say what there is, and what would help."""
    remark = any(one.kind == "remark" for one in conversation.inputs)
    refused = "**Not followed.** Here no remark can be followed, for the same reason.\n\n" if remark else ""
    described = "\n\n".join(_shown(one) for one in data)
    charts = [chart for one in data if (chart := _row_counts(one))]
    if charts and any(text.startswith(FOREIGN) for text in conversation.said_by("planning")):
        yield Act("Drawing how much there is.", tuple(chart.call for chart in charts))
    return (
        "# What this database holds\n\nI answer by rules, without a language model, and my rules know the bundled "
        "sales warehouse only. This database has another schema, so I can't answer questions about it; a language "
        f"model can: start the server with a key (`OPENAI_API_KEY`).\n\n{refused}"
        f"{described or 'Its tables could not be read.'}"
    )


# --- the charts ------------------------------------------------------------------------------------------------------


def _charts(plan: Understanding, data: Sequence[Evidence], found: Sequence[Evidence]) -> list[Chart]:
    by_title: Mapping[str, Evidence] = {one.title: one for one in data}
    charts: list[Chart | None] = []
    course = next((one for one in data if one.columns[:1] == ("Period",)), None)
    forecast = next((one for one in found if one.title.startswith("Forecast")), None)
    if course and forecast:
        charts.append(_forecast_chart(plan, course, forecast))
    elif course and len(course.rows) > 1:
        charts.append(_course_chart(plan, course))
    if plan.job in ("report", "why", "compare") and found and found[0].rows:
        charts.append(_bars(found[0], "Change", _unit(plan)))
    if plan.job == "report" and (by_category := by_title.get(list_title("category", plan))):
        charts.append(_bars(by_category, MEASURES[plan.measures[0]].label, _unit(plan)))
    if plan.job in ("rank", "customers") and data:
        charts += [_bars(one, _value_column(one), _unit(plan)) for one in data if one.rows]
    if plan.job == "stock":
        charts += [_bars(one, one.columns[-1], "EUR") for one in found if one.rows]
    if plan.job == "schema":
        charts += [_row_counts(one) for one in data]
    drawn = [chart for chart in charts if chart]
    return drawn[:3] or _key_chart(plan, data)


def _unit(plan: Understanding) -> str:
    return MEASURES[plan.measures[0]].unit


def _value_column(one: Evidence) -> str:
    named = [m.label for m in MEASURES.values() if m.label in one.columns]
    return named[0] if named else one.columns[-1]


def _course_chart(plan: Understanding, course: Evidence) -> Chart:
    label = MEASURES[plan.measures[0]].label
    rows = course.rows[-_MOST_POINTS:]
    values = course.column(label)[-_MOST_POINTS:]
    return Chart("line", f"{label} over time", tuple(row[0] for row in rows), ((label, tuple(values)),), _unit(plan))


def _forecast_chart(plan: Understanding, course: Evidence, forecast: Evidence) -> Chart:
    label = MEASURES[plan.measures[0]].label
    past, ahead = course.column(label), forecast.column("Forecast")
    labels = (*(row[0] for row in course.rows), *(row[0] for row in forecast.rows))
    series = (
        (label, (*past, *(None for _ in ahead))),
        ("Forecast", (*(None for _ in past[1:]), past[-1], *ahead)),
    )
    return Chart("line", f"{label}: past and forecast", labels, series, _unit(plan))


def _bars(one: Evidence, column: str, unit: str) -> Chart:
    labels = tuple(row[0] for row in one.rows[:_MOST_POINTS])
    return Chart("bar", one.title, labels, ((column, tuple(one.column(column)[:_MOST_POINTS])),), unit)


def _row_counts(one: Evidence) -> Chart | None:
    """How many rows each table has; views have none of their own."""
    if one.columns[:2] != ("Table", "Rows"):
        return None
    counted = [(row[0], value) for row, value in zip(one.rows, one.column("Rows"), strict=True) if value is not None]
    if not counted:
        return None
    names, values = zip(*counted[:_MOST_POINTS], strict=True)
    return Chart("bar", "Rows in each table", names, (("Rows", values),), "rows")


def _key_chart(plan: Understanding, data: Sequence[Evidence]) -> list[Chart]:
    """The figure beside the one it is compared with, where there is nothing else to draw."""
    key = next((one for one in data if one.title == "Key figures" and one.rows), None)
    if key is None:
        return []
    columns = key.columns[1:3] if len(key.columns) > 2 else key.columns[1:2]
    values = tuple(key.column(column)[0] for column in columns)
    return [Chart("bar", key.rows[0][0], columns, ((key.rows[0][0], values),), _unit(plan))]
