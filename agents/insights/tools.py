"""The five tools of the team: plain async functions, without AutoGen. Each returns JSON text with the SQL behind its
figures, or raises ToolError. The model reads their docstrings and parameters' descriptions."""

# ruff: noqa: S608 - this module makes SQL: members become literals, names become identifiers

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from statistics import median
from typing import Annotated, Final, Literal

import orjson
from typing_extensions import TypedDict  # pydantic refuses typing's own before Python 3.12

from askstream.agents.insights import measures, periods
from askstream.agents.insights.changes import (
    Flow,
    Part,
    beyond,
    effects,
    parts_of_ratio,
    parts_of_sum,
    weight,
)
from askstream.agents.insights.measures import (
    CAUSAL,
    DIMENSIONS,
    DRIVER,
    EVERY,
    MEASURES,
    Filters,
    Measure,
    measure_named,
)
from askstream.agents.insights.periods import Period
from askstream.agents.insights.schema import describe_now, with_meanings
from askstream.agents.insights.sql import (
    DEADLINE,
    MAX_ROWS,
    Rows,
    ToolError,
    Value,
    interruptible,
    literal,
    select,
    select_here,
)

MAX_POINTS: Final = 60  # labels in a chart; more are unreadable
MAX_SERIES: Final = 6
MAX_PARTS: Final = 50
MAX_MEMBERS: Final = 5_000  # of one dimension; MAX_RESULT applies as well

# Queries for the members of a dimension.
_MEMBERS: Final = {
    "product": "SELECT name FROM products",
    "category": "SELECT name FROM categories",
    "region": "SELECT name FROM regions",
    "customer": "SELECT name FROM customers",
    "sales_person": "SELECT name FROM sales_people",
    "segment": "SELECT DISTINCT segment AS name FROM customers",
    "month": "SELECT DISTINCT substr(ordered_on, 1, 7) AS name FROM orders",
}

Asked = tuple[Measure, Period, Period, Filters, Filters, str]  # the last is a note on the periods
Tool = Callable[..., Awaitable[str]]
PeriodText = Annotated[str, f"A period, written {periods.NOTATION}"]
FilterMap = Annotated[
    dict[str, str | list[str]] | None,
    f'Members per dimension, as in {{"region": "North"}}; dimensions: {", ".join(DIMENSIONS)}',
]


@dataclass(frozen=True, slots=True)
class Split:
    """A change along one dimension: its parts, the typical rate of change, and the SQL."""

    parts: list[Part]
    rate: float | None
    sql: str


class Series(TypedDict):
    name: str
    values: list[float | None]


def toolbox(path: Path, *, deadline: float = DEADLINE) -> dict[str, Tool]:
    """The tools by name, bound to one SQLite file."""
    warehouse = Warehouse(path, deadline)
    tools: tuple[Tool, ...] = (
        warehouse.describe_schema,
        warehouse.run_sql,
        warehouse.compare_periods,
        warehouse.break_down,
        make_chart,
    )
    return {tool.__name__: tool for tool in tools}


@dataclass(frozen=True, slots=True)
class Warehouse:
    path: Path
    deadline: float = DEADLINE

    async def describe_schema(self) -> str:
        """Describe the database: tables, columns, links, ranges and values; measures and dimensions if it has them."""
        described = await interruptible(lambda stop: describe_now(self.path, deadline=self.deadline, stop=stop))
        business = await self._business()
        return _json((with_meanings(described) if business else described) | business)

    async def run_sql(self, query: Annotated[str, "One SELECT, in SQLite's dialect"]) -> str:
        """Run one SELECT, read-only; at most 200 rows come back, so aggregate or add a LIMIT."""
        found = await select(self.path, query, deadline=self.deadline)
        return _json({"columns": found.columns, "rows": found.rows, "truncated": found.truncated, "sql": query.strip()})

    async def compare_periods(
        self,
        measure: Annotated[str, f"One of {', '.join(MEASURES)}"],
        current: PeriodText,
        previous: PeriodText,
        filters: FilterMap = None,
        exclude: FilterMap = None,
    ) -> str:
        """Give one measure in two periods, and its change."""
        asked = await self._asked(measure, current, previous, filters, exclude)
        sql = measures.comparison_sql(*asked[:5])
        ((now, then),) = (await self._sales(sql)).rows
        return _json(_head(asked, _value(asked[0], now), _value(asked[0], then)) | {"sql": sql})

    async def break_down(
        self,
        measure: Annotated[str, f"One of {', '.join(MEASURES)}"],
        dimension: Annotated[str, f"{', '.join(DIMENSIONS)}; all (parts of every kind); driver (price, volume …)"],
        current: PeriodText,
        previous: PeriodText,
        filters: FilterMap = None,
        exclude: FilterMap = None,
        limit: Annotated[int, "How many parts to list"] = 10,
    ) -> str:
        """Split the change of a measure between two periods by dimension. First come the parts that moved least like
        the rest: `unusual` is what is left of their change beyond `typical_change_percent`."""
        asked = await self._asked(measure, current, previous, filters, exclude)
        if dimension == DRIVER:
            return _json(await self._by_driver(asked))
        if dimension == EVERY:
            return _json(await self._by_every(asked, max(1, min(limit, MAX_PARTS))))
        if dimension not in DIMENSIONS:
            known = ", ".join((*DIMENSIONS, EVERY, DRIVER))
            raise ToolError("unknown_dimension", f"There is no dimension {dimension!r}; there are {known}.")
        return _json(await self._by_dimension(asked, dimension, max(1, min(limit, MAX_PARTS))))

    async def _by_every(self, asked: Asked, limit: int) -> dict[str, object]:
        """The parts of all dimensions that could hold a cause, those first that weigh most in the change."""
        measure = asked[0]
        looked_at = [d for d in CAUSAL if d not in asked[3] and d not in measure.overlaps]
        splits = [await self._split(asked, dimension) for dimension in looked_at]
        rates = [split.rate for split in splits if split.rate is not None]
        rate = median(rates) if rates else None
        found = [
            (dimension, beyond(part, rate))
            for dimension, split in zip(looked_at, splits, strict=True)
            for part in split.parts
        ]
        found.sort(key=lambda one: -weight(one[1], of_ratio=measure.is_ratio))
        now, then = await self._whole(asked)
        return _head(asked, now, then) | {
            "dimension": EVERY,
            "typical_change_percent": None if rate is None else _rounded(100 * rate),
            "parts": [{"dimension": name, **_rounded_all(asdict(part))} for name, part in found[:limit]],
            "parts_in_all": len(found),
            "sql": ";\n\n".join(split.sql for split in splits),
        }

    async def _by_dimension(self, asked: Asked, dimension: str, limit: int) -> dict[str, object]:
        split = await self._split(asked, dimension)
        now, then = await self._whole(asked)
        return _head(asked, now, then) | {
            "dimension": dimension,
            "typical_change_percent": None if split.rate is None else _rounded(100 * split.rate),
            "parts": [_rounded_all(asdict(part)) for part in split.parts[:limit]],
            "parts_in_all": len(split.parts),
            "sql": split.sql,
        }

    async def _split(self, asked: Asked, dimension: str) -> "Split":
        measure, overlapping = asked[0], dimension in asked[0].overlaps
        sql = measures.breakdown_sql(measure, dimension, *asked[1:5])
        rows = [
            (str(name), [_number(cell) or 0.0 for cell in cells])
            for name, *cells in (await self._sales(sql, limit=MAX_MEMBERS)).rows
        ]
        if measure.is_ratio:
            ratios = [(name, a, b, c, d) for name, (a, b, c, d) in rows]
            return Split(parts_of_ratio(ratios, measure.scale, overlapping=overlapping), None, sql)
        return Split(
            *parts_of_sum([(name, now, then) for name, (now, then) in rows], overlapping=overlapping),
            sql,
        )

    async def _whole(self, asked: Asked) -> tuple[float | None, float | None]:
        """The whole's current and previous value."""
        ((now, then),) = (await self._sales(measures.comparison_sql(*asked[:5]))).rows
        return _value(asked[0], now), _value(asked[0], then)

    async def _by_driver(self, asked: Asked) -> dict[str, object]:
        measure = asked[0]
        if measure.name not in ("revenue", "margin"):
            raise ToolError("unknown_dimension", "Drivers are known for revenue and margin only.")
        sql = measures.driver_sql(*asked[1:5])
        flows: list[tuple[Flow, Flow]] = []
        for row in (await self._sales(sql, limit=MAX_MEMBERS)).rows:
            cells = [_number(cell) or 0.0 for cell in row[1:]]
            flows.append((Flow(*cells[:4]), Flow(*cells[4:])))
        of_margin = measure.name == "margin"
        now, then = (sum(f[side].revenue - (f[side].cost if of_margin else 0.0) for f in flows) for side in (0, 1))
        found = effects(flows, of_margin=of_margin)
        return _head(asked, now, then) | {
            "dimension": DRIVER,
            "parts": [{"name": name, "contribution": _rounded(value)} for name, value in found.items()],
            "sql": sql,
        }

    async def _asked(self, measure: str, current: str, previous: str, filters: FilterMap, exclude: FilterMap) -> Asked:
        first, last = await self._days()
        now, then, note = periods.like_for_like(_period(current), _period(previous), last)
        for period in (now, then):
            if period.end < first or period.start > last or (note and period.start < first):
                raise ToolError(
                    "bad_period",
                    f"The data covers {first} to {last}; {period.notation} isn't in it.",
                )
        if then.start < first:
            note = f"{note} {then.label} isn't all there: the data begins on {first}.".strip()
        return (
            measure_named(measure),
            now,
            then,
            await self._members(filters),
            await self._members(exclude),
            note,
        )

    async def _days(self) -> tuple[date, date]:
        ((first, last),) = (await self._sales("SELECT MIN(ordered_on), MAX(ordered_on) FROM orders")).rows
        return date.fromisoformat(str(first)), date.fromisoformat(str(last))

    async def _members(self, asked: FilterMap) -> Filters:
        """The filters with each member spelt as in the data. Raises ToolError if there is no such member."""
        found: dict[str, tuple[str, ...]] = {}
        for dimension, given in (asked or {}).items():
            if dimension not in DIMENSIONS:
                raise ToolError("unknown_dimension", f"There is no dimension {dimension!r} to filter by.")
            wanted = [given] if isinstance(given, str) else given
            if not wanted:
                raise ToolError(
                    "unknown_value",
                    f"The filter for {dimension} has no members: leave it out, or name some.",
                )
            listing = _MEMBERS[dimension]
            found[dimension] = tuple([await self._member(listing, dimension, name) for name in wanted])
        return found

    async def _member(self, listing: str, dimension: str, name: str) -> str:
        rows = (await self._sales(f"SELECT name FROM ({listing}) WHERE lower(name) = lower({literal(name)})")).rows
        if not rows:
            form = "months are written 2026-10" if dimension == "month" else "describe_schema lists them"
            raise ToolError("unknown_value", f"There is no {dimension} {name!r}; {form}.")
        return str(rows[0][0])

    async def _business(self) -> dict[str, object]:
        try:
            rows = (await self._sales("SELECT MIN(ordered_on), MAX(ordered_on) FROM orders")).rows
            await self._sales(f"SELECT {', '.join(DIMENSIONS)}, revenue, cost FROM sales LIMIT 0")
        except ToolError:
            return {}
        return {
            "measures": {m.name: f"{m.label} ({m.unit}): {measures.value_sql(m)}" for m in MEASURES.values()},
            "dimensions": list(DIMENSIONS),
            "first_day": rows[0][0],
            "last_day": rows[0][1],
        }

    async def _sales(self, query: str, limit: int = MAX_ROWS) -> Rows:
        """Run a query over the bundled schema. Raises ToolError `not_this_schema` if the file has another."""
        try:
            return await select_here(self.path, query, limit=limit, deadline=self.deadline)
        except ToolError as error:
            if error.code != "sql_invalid":
                raise
            raise ToolError(
                "not_this_schema",
                "This tool needs the bundled sales warehouse, and this database has other tables; use run_sql.",
            ) from None


async def make_chart(
    type: Annotated[  # noqa: A002 - the chart's own word, as the page reads it
        Literal["bar", "line", "pie"],
        "bar to compare, line for a course over time, pie for few shares",
    ],
    title: str,
    labels: Annotated[list[str], f"What stands along the axis, at most {MAX_POINTS}"],
    series: Annotated[list[Series], "Each with a name and one value (or null) for each label"],
    unit: Annotated[str, "Of the values: EUR, %, orders, ..."] = "",
) -> str:
    """Draw a chart: the reader sees it beside the report."""
    _check_chart(labels, series, pie=type == "pie")
    chart = {
        "type": type,
        "title": title[:200],
        "labels": labels,
        "series": series,
        "unit": unit[:20],
    }
    return _json({"chart": chart})


def _check_chart(labels: Sequence[str], series: Sequence[Series], *, pie: bool) -> None:
    if not 0 < len(labels) <= MAX_POINTS:
        raise ToolError("bad_chart", f"A chart has 1 to {MAX_POINTS} labels, not {len(labels)}.")
    if not 0 < len(series) <= (1 if pie else MAX_SERIES):
        raise ToolError(
            "bad_chart",
            f"A chart has 1 to {MAX_SERIES} series, a pie has one; here are {len(series)}.",
        )
    for one in series:
        if len(one["values"]) != len(labels):
            raise ToolError(
                "bad_chart",
                f"Series {one['name']!r} has {len(one['values'])} values for {len(labels)} labels.",
            )
        if any(value is not None and (not math.isfinite(value) or (pie and value < 0)) for value in one["values"]):
            raise ToolError("bad_chart", "A chart's values are finite numbers, and a pie's are not negative.")


def _head(asked: Asked, now: float | None, then: float | None) -> dict[str, object]:
    """The first fields in the result of both tools over two periods."""
    measure, current, previous, filters, exclude, note = asked
    change = None if now is None or then is None else now - then
    return {
        "measure": measure.name,
        "unit": measure.unit,
        **({"note": note} if note else {}),
        "filters": _plain(filters),
        "exclude": _plain(exclude),
        "current": _side(current, now),
        "previous": _side(previous, then),
        "change": _rounded(change),
        # A rate's change has only its own unit: per cent of per cent mislead.
        "change_percent": (
            None if change is None or not then or measure.unit == "%" else _rounded(100 * change / then)
        ),
    }


def _side(period: Period, value: float | None) -> dict[str, object]:
    return {
        "period": period.notation,
        "from": period.start.isoformat(),
        "to": period.end.isoformat(),
        "value": _rounded(value),
    }


def _plain(filters: Filters) -> dict[str, list[str]]:
    return {name: list(members) for name, members in filters.items()}


def _period(text: str) -> Period:
    try:
        return periods.parse(text)
    except ValueError as error:
        raise ToolError("bad_period", f"{error}".capitalize()) from None


def _value(measure: Measure, value: Value) -> float | None:
    """Without rows a sum or a count is 0, and a ratio is None."""
    number = _number(value)
    return 0.0 if number is None and not measure.is_ratio else number


def _number(value: Value) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2) + 0.0  # no minus zero


def _rounded_all(values: Mapping[str, object]) -> dict[str, object]:
    return {name: _rounded(value) if isinstance(value, float) else value for name, value in values.items()}


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
