"""The SQL that the analyst writes itself, where a tool of its own doesn't fit. Pure: what is asked in, a SELECT out."""

# ruff: noqa: S608 - SQL is what this makes, and names stand in it as literals

from typing import Final

from askstream.agents.insights.measures import MEASURES, Filters, conditions, sides, value_sql, where, within
from askstream.agents.insights.offline.intent import Grain, Order
from askstream.agents.insights.periods import Period
from askstream.agents.insights.sql import literal

SILENCE: Final = 60  # days without an order after which a customer counts as lost; steady ones order every month

_GRAINS: Final = {
    "month": "month",
    "quarter": "substr(month, 1, 4) || '-Q' || ((substr(month, 6, 2) + 2) / 3)",
    "year": "substr(month, 1, 4)",
}
_RANKING: Final = {
    "top": "{value} DESC",
    "bottom": "{value}",
    "growth": "change DESC",
    "decline": "change",
}


def totals(measures: tuple[str, ...], period: Period, filters: Filters) -> str:
    """One row: the measures of the period."""
    return f"SELECT {_columns(measures)}\nFROM sales\nWHERE {where((period,), filters, {})}"


def course(measures: tuple[str, ...], period: Period, filters: Filters, grain: Grain = "month") -> str:
    """One row for each month, quarter or year: its name, then the measures."""
    return (
        f"SELECT {_GRAINS[grain]} AS period,\n       {_columns(measures)}\n"
        f"FROM sales\nWHERE {where((period,), filters, {})}\nGROUP BY 1\nORDER BY 1"
    )


def ranking(
    measure: str,
    dimension: str,
    period: Period,
    filters: Filters,
    *,
    order: Order = "top",
    count: int = 5,
    against: Period | None = None,
) -> str:
    """Rows of name, value and share in per cent; against another period also the value there and the change."""
    asked = MEASURES[measure]
    if against:
        now, then = (f"COALESCE({value_sql(asked, side)}, 0)" for side in sides(period, against))
        columns = f"{now} AS {measure},\n       {then} AS before,\n       {now} - {then} AS change"
    else:
        columns = f"{value_sql(asked)} AS {measure}"
        if not asked.is_ratio and dimension not in asked.overlaps:
            columns += f",\n       ROUND(100.0 * {asked.numerator} / SUM({asked.numerator}) OVER (), 1) AS share"
    periods = (period, against) if against else (period,)
    return (
        f"SELECT {dimension},\n       {columns}\nFROM sales\nWHERE {where(periods, filters, {})}\n"
        f"GROUP BY {dimension}\nORDER BY {_RANKING[order].format(value=measure)}, {dimension}\nLIMIT {count}"
    )


def customers_gained(period: Period, filters: Filters, count: int = 10) -> str:
    """Rows of customer, region, first order, orders and revenue since, and how many there are in all."""
    old = f"(SELECT date(MIN(ordered_on), '+{SILENCE} days') FROM orders)"
    return _customers("first_order", f"{_between('first_order', period)}\n  AND first_order > {old}", filters, count)


def customers_lost(period: Period, filters: Filters, count: int = 10) -> str:
    """The same with the last order, after which nothing came for `SILENCE` days."""
    quiet = f"(SELECT date(MAX(ordered_on), '-{SILENCE} days') FROM orders)"
    return _customers("last_order", f"{_between('last_order', period)}\n  AND last_order <= {quiet}", filters, count)


def stock_outs(period: Period, products: tuple[str, ...] = ()) -> str:
    """Rows of product, first and last day without stock, and the number of days, longest first."""
    named = f"\n    AND p.name IN ({', '.join(map(literal, products))})" if products else ""
    return f"""WITH empty AS (
  SELECT p.name AS product, i.day,
         julianday(i.day) - ROW_NUMBER() OVER (PARTITION BY i.product_id ORDER BY i.day) AS run
  FROM inventory i JOIN products p USING (product_id)
  WHERE i.on_hand <= 0 AND i.day BETWEEN '{period.start}' AND '{period.end}'{named}
)
SELECT product, MIN(day) AS first_day, MAX(day) AS last_day, COUNT(*) AS days
FROM empty
GROUP BY product, run
ORDER BY days DESC, product
LIMIT 20"""


def pace(products: tuple[str, ...], period: Period) -> str:
    """Rows of product, units and revenue of the period: how well something sold."""
    among = ", ".join(map(literal, products))
    return (
        f"SELECT product, SUM(quantity) AS units, ROUND(SUM(revenue), 2) AS revenue\nFROM sales\n"
        f"WHERE {within(period)} AND product IN ({among})\nGROUP BY product"
    )


def sales_people(region: str) -> str:
    """Rows of name, first day and last day (null for who is still there)."""
    return (
        "SELECT s.name, s.hired_on, s.left_on\nFROM sales_people s JOIN regions r USING (region_id)\n"
        f"WHERE r.name = {literal(region)}\nORDER BY s.name"
    )


def order_dates(dimension: str, member: str) -> str:
    """One row: first and last order, and the last day of the data."""
    return (
        "SELECT MIN(ordered_on) AS first_order, MAX(ordered_on) AS last_order,\n"
        f"       (SELECT MAX(ordered_on) FROM orders) AS data_until\nFROM sales\nWHERE {dimension} = {literal(member)}"
    )


def terms(dimension: str, member: str, current: Period, previous: Period) -> str:
    """One row: list price, unit cost (means over the same basket of products) and discount rate, in both periods.

    Prices and costs are weighted with the units of the current period, so that another mix doesn't look like a price.
    """
    parts = {
        "units": "SUM(quantity)",
        "price": "AVG(unit_price)",
        "cost": "AVG(unit_cost)",
        "listed": "SUM(quantity * unit_price)",
        "revenue": "SUM(revenue)",
    }
    columns = ",\n         ".join(
        f"{part} FILTER (WHERE {condition}) AS {when}_{name}"
        for when, condition in zip(("current", "previous"), sides(current, previous), strict=True)
        for name, part in parts.items()
    )
    return f"""WITH basket AS (
  SELECT product,
         {columns}
  FROM sales
  WHERE {where((current, previous), {dimension: (member,)}, {})}
  GROUP BY product
)
SELECT ROUND(100.0 * SUM(current_units * current_price) / SUM(current_units * previous_price) - 100, 1) AS price_change,
       ROUND(100.0 * SUM(current_units * current_cost) / SUM(current_units * previous_cost) - 100, 1) AS cost_change,
       ROUND(100.0 - 100.0 * SUM(current_revenue) / SUM(current_listed), 1) AS discount_now,
       ROUND(100.0 - 100.0 * SUM(previous_revenue) / SUM(previous_listed), 1) AS discount_before,
       SUM(current_units) AS units_now, SUM(previous_units) AS units_before
FROM basket"""


def _customers(which: str, condition: str, filters: Filters, count: int) -> str:
    only = f"\n  WHERE {' AND '.join(conditions(filters, {}))}" if filters else ""
    return f"""WITH activity AS (
  SELECT customer, region, MIN(ordered_on) AS first_order, MAX(ordered_on) AS last_order,
         COUNT(DISTINCT order_id) AS orders, SUM(revenue) AS revenue
  FROM sales{only}
  GROUP BY customer, region
)
SELECT customer, region, {which}, orders, ROUND(revenue, 2) AS revenue, COUNT(*) OVER () AS in_all
FROM activity
WHERE {condition}
ORDER BY revenue DESC
LIMIT {count}"""


def _between(column: str, period: Period) -> str:
    return f"{column} BETWEEN '{period.start}' AND '{period.end}'"


def _columns(measures: tuple[str, ...]) -> str:
    return ",\n       ".join(f"{value_sql(MEASURES[name])} AS {name}" for name in measures)
