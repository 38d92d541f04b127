"""The four agents' parts: plan, fetch, analyse, report. Each reads what the others said."""

from collections.abc import Generator, Sequence
from dataclasses import replace
from datetime import date
from typing import Any, Final

from askstream.agents.insights.measures import MEASURES
from askstream.agents.insights.offline import answers, queries, verdicts
from askstream.agents.insights.offline.answers import Found
from askstream.agents.insights.offline.causes import Change, Search, figures_sql, search
from askstream.agents.insights.offline.conversation import Act, Call, Conversation, Result, json_in, with_json
from askstream.agents.insights.offline.dialogue import understand
from askstream.agents.insights.offline.names import facts_from
from askstream.agents.insights.offline.plan import PLURALS, Plan, in_statements, to_text
from askstream.agents.insights.offline.script import Script
from askstream.agents.insights.offline.tables import CHANGE, Query, Table, from_json, markdown
from askstream.agents.insights.periods import Period

_NO_DAY: Final = date(2000, 1, 1)  # of a database without the days of sales
SCHEMA: Final = Call("describe_schema", {})
_CAUSES: Final = 6  # of one change
_IN_REPORT: Final = (2, 3)  # of the change on the period before, and on the year before
_NO_ADVICE: Final = "Causes and their sizes are all that I can give: I give no advice beyond them."
Fetch = Generator[Act, Sequence[Result], list[Table]]


def plan(talk: Conversation) -> Script:
    (schema,) = yield Act("Which data is there, and up to which day?", (SCHEMA,))
    facts = facts_from(schema.data)
    if facts is None:
        reason = f"This isn't the bundled sales warehouse{f' ({schema.message})' if schema.error else ''}."
        covers = Period(_NO_DAY, _NO_DAY)
        return to_text(Plan(job="foreign", period=covers, covers=covers, reasons=(reason,)))
    understood = understand(talk, facts)
    return understood if isinstance(understood, str) else to_text(understood)


def fetch(talk: Conversation) -> Script:
    found = in_statements(talk.said_by("planning"))
    if found is None or found.job == "no":
        return "**Data**\n\nThere is nothing to fetch for this question."
    if found.job in ("schema", "foreign"):
        (schema,) = yield Act("What the database holds.", (SCHEMA,))
        tables = _described(schema)
    else:
        wanted = queries.queries(found)
        calls = tuple(Call("run_sql", {"query": query.sql}) for query in wanted)
        results = yield Act(f"{'; '.join(query.title for query in wanted)}.", calls)
        tables = [table(query, result) for query, result in zip(wanted, results, strict=True)]
    words = "\n\n".join(f"### {one.title}\n\n{markdown(one)}" for one in tables)
    return with_json("**Data**", words, {"tables": tables})


def table(query: Query, result: Result) -> Table:
    columns, units = zip(*query.columns, strict=True)
    rows = tuple(tuple(row) for row in result.data.get("rows", ()))
    title = f"{query.title} ({result.message})" if result.error else query.title
    return Table(title, columns, units, rows, str(result.data.get("sql", "")), query.chart)


def _described(schema: Result) -> list[Table]:
    if schema.error:
        return [Table(f"It can't be described: {schema.message}", ("Table",), ("",), (), "")]
    data = schema.data
    rows = tuple(
        (str(one["name"]), one.get("rows"), ", ".join(str(c["name"]) for c in one["columns"]))
        for one in data.get("tables", ())
    )
    found = [Table("Tables", ("Table", "Rows", "Columns"), ("", "rows", ""), rows, "", "bar")]
    if "last_day" in data:
        title = f"What can be measured, {data['first_day']} to {data['last_day']}, by {', '.join(PLURALS.values())}"
        measures = tuple((m.label, m.unit) for m in MEASURES.values())
        found.append(Table(title, ("Measure", "Unit"), ("", ""), measures, ""))
    return found


def analyse(talk: Conversation) -> Script:
    found = in_statements(talk.said_by("planning"))
    if found is None or found.job in ("no", "schema", "foreign"):
        return "**Analysis**\n\nThere is nothing to analyse."
    values = json_in((talk.said_by("data") or [""])[-1])
    told = yield from _found(found, from_json(values))
    listed = "\n".join(f"- {line}" for line in told.findings)
    words = "\n\n".join(part for part in (told.headline, listed, told.closing) if part)
    return with_json("**Analysis**", words, {"found": told, "tables": told.tables})


def found_in(text: str) -> Found | None:
    values = json_in(text)
    match values.get("found"):
        case {"headline": str(headline), "findings": [*lines], "closing": str(closing)}:
            return Found(headline, [str(line) for line in lines], from_json(values), closing)
        case _:
            return None


def _found(plan: Plan, tables: Sequence[Table]) -> Generator[Act, Sequence[Result], Found]:
    if plan.job == "report":
        return (yield from _report(plan, tables))
    caused = plan.job == "why" or (plan.job == "figure" and plan.against and plan.measures[0] in MEASURES)
    if not caused or plan.against is None or not tables:
        return answers.answer(plan, tables)
    found = yield from search(Change(plan, plan.period, plan.against), limit=_CAUSES)
    lines = verdicts.findings(found)
    if plan.job == "figure":
        head = answers.answer(plan, tables).headline
        return Found(f"{head} {verdicts.largest(found)}".strip(), lines, _tables(found))
    return Found(verdicts.summary(found), lines, _tables(found), _NO_ADVICE if plan.advice else "")


def _tables(found: Search) -> list[Table]:
    made = [verdicts.cause_table(found), verdicts.driver_table(found), verdicts.season_table(found)]
    facts = [
        Table(f"What happened to {cause.name}", (), (), (), ";\n\n".join(cause.facts["sql"]))
        for cause in found.causes
        if cause.facts
    ]
    return [one for one in made if one and (one.rows or one.sql)] + facts


def _report(plan: Plan, tables: Sequence[Table]) -> Generator[Act, Sequence[Result], Found]:
    """The report's causes: of the change on the period before, and on the year before."""
    key = answers.key_table(plan, tables[0])
    periods = queries.compared(plan)
    if not periods:
        return Found(_headline(tables[0], None), [], [key], "There is nothing to compare with.")
    found: list[Search] = []
    for period, limit in zip(periods, _IN_REPORT, strict=False):
        found.append((yield from search(Change(plan, plan.period, period), limit=limit, brief=True)))
    moved = yield from _moved(found)
    lines = [line for one in found for line in _lines(one)]
    more = [table for one in found for table in _tables(one) if not table.chart]
    whole = [replace(verdicts.cause_table(one), chart="") for one in found]
    return Found(_headline(tables[0], found[0]), lines, [key, moved, *whole, *more], _next(found))


def _lines(found: Search) -> list[str]:
    against = f"**Against {found.change.previous.label}**: {verdicts.moved(found)}"
    return [against, *(f"  - {line}" for line in verdicts.findings(found))]


def _moved(found: Sequence[Search]) -> Generator[Act, Sequence[Result], Table]:
    """Find how much each cause of either change added to both of them."""
    causes = list({one.name: one for search in found for one in search.causes if not one.asked}.values())
    sql = "\nUNION ALL\n".join(figures_sql(one.change, causes) for one in found)
    (result,) = yield Act("What moved on both?", (Call("run_sql", {"query": sql}),))
    moves = [_difference(row) for row in result.data.get("rows", ())]
    names = ["All", *(cause.name for cause in causes), "Everything else"]
    sides = [moves[place : place + len(names)] for place in range(0, len(moves), len(names))]
    rows = tuple(zip(names, *sides, strict=True))[1:] if moves else ()
    columns = ("Part", *(f"Change on {one.change.previous.label}" for one in found))
    units = ("", *(CHANGE + found[0].change.unit for _ in found))
    return Table("What moved", columns, units, rows, sql, "bar")


def _difference(row: Sequence[Any]) -> float:
    return (row[1] or 0.0) - (row[2] or 0.0)


def _headline(key: Table, found: Search | None) -> str:
    if found is None:
        return f"{key.columns[1]}: **{answers.shown(key.rows[0][1], key.units[1])}** in {key.rows[0][0]}."
    return verdicts.summary(found)


def _next(found: Sequence[Search]) -> str:
    """Name the causes that are still at work when the period ends, to look at next."""
    falls = [(cause, one) for one in found for cause in one.causes if (cause.contribution or 0.0) < 0]
    names = list(dict.fromkeys(cause.name for cause, _ in falls))[:3]
    if not names:
        return "**Next.** No part held the figure back by more than the general course; there is nothing to follow up."
    questions = ", ".join(f"“Revenue of {name} by month”" for name in names)
    listed = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    return f"**Next.** Look at {listed}, which held the figure back most. Ask: {questions}."
