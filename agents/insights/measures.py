"""Measures and dimensions of the bundled warehouse, and their SQL. Pure: text in, text out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from askstream.agents.insights.periods import Period
from askstream.agents.insights.sql import ToolError, literal

Filters = Mapping[str, Sequence[str]]  # members by dimension


@dataclass(frozen=True, slots=True)
class Measure:
    """`numerator` is an SQL aggregate over the view `sales`; with a `denominator` the measure is their ratio."""

    name: str
    label: str
    unit: str  # "EUR", "%" or the name of the counted thing
    numerator: str
    denominator: str = ""
    scale: int = 1
    # Dimensions whose parts don't add up to the whole: one order has many products.
    overlaps: frozenset[str] = frozenset()

    @property
    def is_ratio(self) -> bool:
        return bool(self.denominator)


_IN_ORDERS: Final = frozenset({"product", "category"})
MEASURES: Final[Mapping[str, Measure]] = {
    m.name: m
    for m in (
        Measure("revenue", "Revenue", "EUR", "SUM(revenue)"),
        Measure("orders", "Orders", "orders", "COUNT(DISTINCT order_id)", overlaps=_IN_ORDERS),
        Measure("units", "Units", "units", "SUM(quantity)"),
        Measure("margin", "Gross margin", "EUR", "SUM(revenue - cost)"),
        Measure("margin_rate", "Gross margin rate", "%", "SUM(revenue - cost)", "SUM(revenue)", 100),
        Measure("cost", "Cost of goods", "EUR", "SUM(cost)"),
        Measure("discount", "Discounts given", "EUR", "SUM(quantity * unit_price * discount)"),
        Measure(
            "average_order",
            "Average order value",
            "EUR",
            "SUM(revenue)",
            "COUNT(DISTINCT order_id)",
            overlaps=_IN_ORDERS,
        ),
        Measure("average_price", "Average price per unit", "EUR", "SUM(revenue)", "SUM(quantity)"),
        Measure("unit_cost", "Average unit cost", "EUR", "SUM(cost)", "SUM(quantity)"),
        Measure(
            "discount_rate",
            "Average discount",
            "%",
            "SUM(quantity * unit_price * discount)",
            "SUM(quantity * unit_price)",
            100,
        ),
        Measure(
            "revenue_per_customer",
            "Revenue per customer",
            "EUR",
            "SUM(revenue)",
            "COUNT(DISTINCT customer)",
            overlaps=_IN_ORDERS | {"month", "sales_person"},
        ),
        Measure(
            "orders_per_customer",
            "Orders per customer",
            "orders",
            "COUNT(DISTINCT order_id)",
            "COUNT(DISTINCT customer)",
            overlaps=_IN_ORDERS | {"month", "sales_person"},
        ),
        Measure(
            "units_per_order",
            "Units per order",
            "units",
            "SUM(quantity)",
            "COUNT(DISTINCT order_id)",
            overlaps=_IN_ORDERS,
        ),
        Measure(
            "customers",
            "Active customers",
            "customers",
            "COUNT(DISTINCT customer)",
            overlaps=_IN_ORDERS | {"month", "sales_person"},
        ),
    )
}
# The median needs a query of its own, so no tool has it.
MEDIAN: Final = Measure("median_order", "Median order value", "EUR", "", "1", overlaps=_IN_ORDERS)
ALL_MEASURES: Final[Mapping[str, Measure]] = {**MEASURES, MEDIAN.name: MEDIAN}
DIMENSIONS: Final[tuple[str, ...]] = (
    "product",
    "category",
    "region",
    "customer",
    "segment",
    "sales_person",
    "month",
)
# The dimensions in which a cause can lie, and the word for all of them at once.
CAUSAL: Final = ("product", "category", "region", "customer")
EVERY: Final = "all"
# Not a column: it splits a change into the effects of price, volume, mix and so on.
DRIVER: Final = "driver"


def measure_named(name: str) -> Measure:
    """Look a measure up. Raises ToolError `unknown_measure`."""
    found = MEASURES.get(name.strip().lower())
    if found is None:
        raise ToolError("unknown_measure", f"There is no measure {name!r}; there are {', '.join(MEASURES)}.")
    return found


def within(period: Period) -> str:
    return f"ordered_on BETWEEN '{period.start}' AND '{period.end}'"


def where(periods: Sequence[Period], filters: Filters, exclude: Filters) -> str:
    """The condition for the rows of one or two periods and the filtered members."""
    return " AND ".join([_span(periods), *conditions(filters, exclude)])


def conditions(filters: Filters, exclude: Filters) -> list[str]:
    """SQL conditions for the members to include and to exclude."""
    return [f"{name} {_among(members)}" for name, members in filters.items()] + [
        f"NOT {name} {_among(members)}" for name, members in exclude.items()
    ]


def sides(current: Period, previous: Period) -> tuple[str, str]:
    """The shortest conditions that separate the rows of the two periods."""
    if previous.end < current.start:
        return f"ordered_on >= '{current.start}'", f"ordered_on < '{current.start}'"
    if current.end < previous.start:
        return f"ordered_on < '{previous.start}'", f"ordered_on >= '{previous.start}'"
    return within(current), within(previous)


def value_sql(measure: Measure, condition: str = "", *, exact: bool = False) -> str:
    """The SQL expression of the measure over the rows that meet the condition. NULL if none does.
    Rounded, unless it must be `exact`, as for a figure that is rounded once more when it is shown."""
    only = f" FILTER (WHERE {condition})" if condition else ""
    if measure.is_ratio:
        scale = f"{measure.scale}.0 * "
        ratio = f"{scale}{measure.numerator}{only} / NULLIF({measure.denominator}{only}, 0)"
        return ratio if exact else f"ROUND({ratio}, 4)"
    value = f"{measure.numerator}{only}"
    return f"ROUND({value}, 2)" if measure.unit == "EUR" and not exact else value


def comparison_sql(measure: Measure, current: Period, previous: Period, filters: Filters, exclude: Filters) -> str:
    now, then = sides(current, previous)
    return (
        f"SELECT {value_sql(measure, now)} AS current,\n       {value_sql(measure, then)} AS previous\n"
        f"FROM sales\nWHERE {where((current, previous), filters, exclude)}"
    )


def breakdown_sql(
    measure: Measure,
    dimension: str,
    current: Period,
    previous: Period,
    filters: Filters,
    exclude: Filters,
) -> str:
    """Columns: name, current, previous; for a ratio its numerator and denominator in both periods.

    Don't round: the parts must add up to the whole.
    """
    sided = tuple(zip(("current", "previous"), sides(current, previous), strict=True))
    parts = {"": measure.numerator}
    if measure.is_ratio:
        parts = {"_numerator": measure.numerator, "_denominator": measure.denominator}
    listed = ",\n       ".join(
        f"{part} FILTER (WHERE {condition}) AS {when}{side}"
        for when, condition in sided
        for side, part in parts.items()
    )
    return (
        f"SELECT {dimension} AS name,\n       {listed}\n"
        f"FROM sales\nWHERE {where((current, previous), filters, exclude)}\nGROUP BY {dimension}"
    )


def driver_sql(current: Period, previous: Period, filters: Filters, exclude: Filters) -> str:
    """Columns: product; units, value at list price, revenue, cost of the current period; the same of the previous."""
    parts = {
        "units": "SUM(quantity)",
        "listed": "SUM(quantity * unit_price)",
        "revenue": "SUM(revenue)",
        "cost": "SUM(cost)",
    }
    columns = ",\n       ".join(
        f"{part} FILTER (WHERE {condition}) AS {when}_{name}"
        for when, condition in zip(("current", "previous"), sides(current, previous), strict=True)
        for name, part in parts.items()
    )
    return (
        f"SELECT product,\n       {columns}\n"
        f"FROM sales\nWHERE {where((current, previous), filters, exclude)}\nGROUP BY product"
    )


def _span(periods: Sequence[Period]) -> str:
    first, last = min(periods), max(periods)
    if len(periods) == 1 or last.start <= first.end + timedelta(1):
        return within(Period(first.start, max(first.end, last.end)))
    return f"({within(first)} OR {within(last)})"


def _among(members: Sequence[str]) -> str:
    return f"IN ({', '.join(literal(member) for member in members)})"
