"""What the tools gave back, as tables of a report. Pure."""

from collections.abc import Sequence
from typing import Any

from askstream.agents.insights.measures import MEASURES
from askstream.agents.insights.offline.conversation import Json, Result
from askstream.agents.insights.offline.evidence import Evidence, amount, percent, signed
from askstream.agents.insights.offline.understanding import Understanding


def key_figures(measures: Sequence[str], plan: Understanding, results: Sequence[Result]) -> Evidence:
    title = "Key figures"
    sql = ";\n\n".join(str(r.data["sql"]) for r in results if "sql" in r.data)
    failed = next((r for r in results if r.error), None)
    if failed:
        return Evidence(title, f"The figures can't be had: {failed.message}")
    if plan.against is None:
        values: Sequence[Any] = results[0].data["rows"][0]
        rows = [(MEASURES[m].label, amount(v, MEASURES[m].unit)) for m, v in zip(measures, values, strict=True)]
        return Evidence(title, "", ("Measure", plan.period.label), tuple(rows), sql)
    compared = [_compared(name, result.data) for name, result in zip(measures, results, strict=True)]
    columns = ("Measure", plan.period.label, plan.against.label, "Change", "Change in %")
    return Evidence(title, "", columns, tuple(compared), sql)


def _compared(name: str, data: Json) -> tuple[str, ...]:
    measure = MEASURES[name]
    now, then = data["current"]["value"], data["previous"]["value"]
    relative = "–" if measure.unit == "%" else percent(now, then)
    change = None if now is None or then is None else now - then
    return (
        measure.label,
        amount(now, measure.unit),
        amount(then, measure.unit),
        signed(change, measure.unit),
        relative,
    )


def table(title: str, result: Result, measures: Sequence[str]) -> Evidence:
    """A result of run_sql as a table: columns named after a measure, and those beside one, in its unit."""
    if result.error:
        return Evidence(title, f"This can't be had: {result.message}")
    columns: list[str] = result.data["columns"]
    kept = [n for n, name in enumerate(columns) if name != "in_all"]
    units = {name: _unit(name, measures) for name in columns}
    rows = tuple(tuple(_cell(row[n], units[columns[n]]) for n in kept) for row in result.data["rows"])
    in_all = result.data["rows"][0][columns.index("in_all")] if rows and "in_all" in columns else len(rows)
    text = "None." if not rows else f"{in_all} in all, the largest {len(rows)} are shown." if in_all > len(rows) else ""
    return Evidence(title, text, tuple(_heading(columns[n]) for n in kept), rows, str(result.data["sql"]))


def _unit(column: str, measures: Sequence[str]) -> str:
    if column in MEASURES:
        return MEASURES[column].unit
    if column in ("before", "change") and measures:
        return MEASURES[measures[0]].unit
    return "%" if column == "share" else ""


def _heading(column: str) -> str:
    return MEASURES[column].label if column in MEASURES else column.replace("_", " ").capitalize()


def _cell(value: object, unit: str) -> str:
    match value:
        case None:
            return "–"
        case int() | float():
            return amount(value, unit)
        case _:
            return str(value)


def schema_table(title: str, schema: Json) -> Evidence:
    rows = tuple(
        (
            str(table["name"]),
            f"{table['rows']:,}" if table.get("rows") is not None else str(table["kind"]),
            ", ".join(str(column["name"]) for column in table["columns"]),
        )
        for table in schema["tables"]
    )
    span = f"Orders from {schema['first_day']} to {schema['last_day']}." if "last_day" in schema else ""
    left_out = f" {schema['tables_left_out']} more are not listed." if schema.get("tables_left_out") else ""
    return Evidence(
        title, f"{len(rows)} tables and views.{left_out} {span}".strip(), ("Table", "Rows", "Columns"), rows
    )
