"""The SELECTs for what happened: stock-outs, prices, costs, promotions, customers and staff that came
or left; and for the terms on which a part was sold in two periods. Pure."""

# ruff: noqa: S608 - SQL is what this makes; names stand in it as literals

from collections.abc import Sequence
from typing import Final

from askstream.agents.insights.measures import Filters, conditions, sides, where
from askstream.agents.insights.offline.plan import Plan
from askstream.agents.insights.offline.tables import CHANGE, Query
from askstream.agents.insights.periods import Period
from askstream.agents.insights.sql import literal

SILENCE: Final = 60  # days without an order after which a customer counts as lost
STEP: Final = 3.0  # per cent: smaller moves of a mean price or cost come from the mix
PROMOTED: Final = 5.0  # per cent of discount; without a promotion it is below one


def query(plan: Plan) -> Query:
    """The query for events of one kind, or for the stock."""
    match plan.job:
        case "stock":
            return stock(plan.period, plan.only)
        case "stock_outs":
            return stock_outs(plan.period, plan.only)
        case "lost" | "gained":
            return _customers(plan)
        case "staff":
            return staff(plan.only.get("region", ()), plan.period)
        case "promotion":
            return promotions(plan)
        case _:
            return steps(plan.period, plan.only, plan.job)


def stock(day: Period, only: Filters) -> Query:
    tests = [f"i.day = '{day.end}'", *_stock_tests(only)]
    sql = (
        "SELECT p.name AS product, i.on_hand,\n       SUM(i.on_hand) OVER () AS in_all\n"
        "FROM inventory i JOIN products p USING (product_id) JOIN categories k USING (category_id)\n"
        f"WHERE {' AND '.join(tests)}\nORDER BY i.on_hand DESC, 1"
    )
    return Query("Stock on hand", sql, (("Product", ""), ("Units on hand", "units"), ("In all", "units")), "bar")


def stock_outs(period: Period, only: Filters) -> Query:
    tests = ["i.on_hand <= 0", f"i.day BETWEEN '{period.start}' AND '{period.end}'", *_stock_tests(only)]
    sql = f"""WITH empty AS (
  SELECT p.name AS product, i.day,
         julianday(i.day) - ROW_NUMBER() OVER (PARTITION BY i.product_id ORDER BY i.day) AS run
  FROM inventory i JOIN products p USING (product_id) JOIN categories k USING (category_id)
  WHERE {" AND ".join(tests)}
), spells AS (
  SELECT product, MIN(day) AS first_day, MAX(day) AS last_day, COUNT(*) AS days FROM empty GROUP BY product, run
)
SELECT *, (SELECT SUM(revenue) / 28 * days FROM sales s WHERE s.product = spells.product
           AND ordered_on >= date(first_day, '-28 days') AND ordered_on < first_day) AS missed
FROM spells ORDER BY days DESC, product LIMIT 20"""
    columns = (("Product", ""), ("From", "day"), ("To", "day"), ("Days", "days"), ("Sales missed, about", "EUR"))
    return Query("Stock-outs", sql, columns)


def _stock_tests(only: Filters) -> list[str]:
    columns = {"product": "p.name", "category": "k.name"}
    return conditions({columns[name]: members for name, members in only.items()}, {})


def _customers(plan: Plan) -> Query:
    which, test = {
        "gained": ("first_order", f"first_order > (SELECT date(MIN(ordered_on), '+{SILENCE} days') FROM orders)"),
        "lost": ("last_order", f"last_order <= (SELECT date(MAX(ordered_on), '-{SILENCE} days') FROM orders)"),
    }[plan.job]
    tests = [f"{which} BETWEEN '{plan.period.start}' AND '{plan.period.end}'", test]
    tests += conditions(plan.only, plan.without)
    sql = f"""SELECT customer, region, {which}, revenue, COUNT(*) OVER () AS in_all
FROM (
  SELECT customer, region, segment, MIN(ordered_on) AS first_order, MAX(ordered_on) AS last_order,
         SUM(revenue) AS revenue
  FROM sales GROUP BY customer
)
WHERE {" AND ".join(tests)}
ORDER BY revenue DESC LIMIT 10"""
    named = "First order" if plan.job == "gained" else "Last order"
    columns = (("Customer", ""), ("Region", ""), (named, "day"), ("Revenue, all time", "EUR"), ("In all", ""))
    return Query("Customers gained" if plan.job == "gained" else "Customers lost", sql, columns, "")


def staff(regions: Sequence[str], period: Period | None = None) -> Query:
    """Sales people: those who left in the period, or all of the regions."""
    tests = conditions({"r.name": regions}, {}) if regions else []
    tests += [f"s.left_on BETWEEN '{period.start}' AND '{period.end}'"] if period else []
    sql = (
        "SELECT s.name, r.name AS region, s.left_on\nFROM sales_people s JOIN regions r USING (region_id)\n"
        f"WHERE {' AND '.join(tests or ['1'])}\nORDER BY s.left_on, s.name"
    )
    return Query("Sales people", sql, (("Sales person", ""), ("Region", ""), ("Left on", "day")))


def steps(period: Period, only: Filters, kind: str) -> Query:
    """The months in which mean list prices (or unit costs) of the same products changed."""
    by = "product" if "product" in only else "category"
    column = "unit_cost" if kind == "cost" else "unit_price"
    span = Period(period.months()[0].shifted(-1).start.replace(day=1), period.end)
    sql = f"""WITH monthly AS (
  SELECT {by} AS name, month, product, AVG({column}) AS level, SUM(quantity) AS units, SUM(revenue) AS revenue
  FROM sales WHERE {where((span,), only, {})} GROUP BY 1, 2, 3
), steps AS (
  SELECT *, 100 * (level / LAG(level) OVER (PARTITION BY product ORDER BY month) - 1) AS step FROM monthly
), sums AS (
  SELECT name, month, AVG(step) AS change, SUM(units) AS units, SUM(revenue) AS revenue,
         LAG(SUM(units)) OVER (PARTITION BY name ORDER BY month) AS units_before,
         LAG(SUM(revenue)) OVER (PARTITION BY name ORDER BY month) AS revenue_before
  FROM steps GROUP BY name, month
)
SELECT name, month, change, units_before, units, revenue_before AS revenue_before,
       revenue AS revenue
FROM sums WHERE ABS(change) >= {STEP:g} AND month >= '{period.start:%Y-%m}' ORDER BY month, name"""
    title = "Cost changes" if kind == "cost" else "Price changes"
    return Query(title, sql, _moved("Change", CHANGE + "%"))


def promotions(plan: Plan) -> Query:
    by = "product" if "product" in plan.only else "category"
    span = Period(plan.period.months()[0].shifted(-1).start.replace(day=1), plan.period.end)
    sql = f"""WITH sums AS (
  SELECT {by} AS name, month, 100 * SUM(quantity * unit_price * discount) / SUM(quantity * unit_price) AS rate,
         SUM(quantity) AS units, SUM(revenue) AS revenue
  FROM sales WHERE {where((span,), plan.only, {})} GROUP BY 1, 2
), pairs AS (
  SELECT *, LAG(units) OVER (PARTITION BY name ORDER BY month) AS units_before,
         LAG(revenue) OVER (PARTITION BY name ORDER BY month) AS revenue_before FROM sums
)
SELECT name, month, rate, units_before, units, revenue_before AS revenue_before,
       revenue AS revenue
FROM pairs WHERE rate >= {PROMOTED:g} AND month >= '{plan.period.start:%Y-%m}' ORDER BY month, name"""
    return Query("Promotions", sql, _moved("Average discount", "%"))


def _moved(what: str, unit: str) -> tuple[tuple[str, str], ...]:
    before, since = "in the month before", "in that month"
    return (
        ("Name", ""), ("Month", ""), (what, unit), (f"Units {before}", "units"), (f"Units {since}", "units"),
        (f"Revenue {before}", "EUR"), (f"Revenue {since}", "EUR"),
    )  # fmt: skip


def order_dates(customer: str) -> str:
    """One row: first and last order, and the last day of the data."""
    return (
        "SELECT MIN(ordered_on) AS first_order, MAX(ordered_on) AS last_order,\n"
        f"       (SELECT MAX(ordered_on) FROM orders) AS data_until\nFROM sales\nWHERE customer = {literal(customer)}"
    )


def happened(span: Period, only: Filters) -> str:
    """Rows of kind, name, first and last day or month, and size: price and cost changes, promotions
    and stock-outs."""
    plan = Plan(job="promotion", period=span, covers=span, only=only)
    moves = {"price": steps(span, only, "price"), "cost": steps(span, only, "cost"), "promotion": promotions(plan)}
    size = {"promotion": "rate"}
    parts = [
        f"SELECT '{kind}' AS kind, name, month AS first, month AS last, {size.get(kind, 'change')} AS size\nFROM"
        f" ({query.sql})"
        for kind, query in moves.items()
    ]
    parts.append(f"SELECT 'stock_out', product, first_day, last_day, days\nFROM ({stock_outs(span, only).sql})")
    return "\nUNION ALL\n".join(parts)


def terms(only: Filters, without: Filters, current: Period, previous: Period) -> str:
    """One row: units and discount rate (%), and mean price and cost of the same basket, compared."""
    now, then = sides(current, previous)
    parts = {
        "units": "SUM(quantity)", "price": "AVG(unit_price)", "cost": "AVG(unit_cost)",
        "listed": "SUM(quantity * unit_price)", "revenue": "SUM(revenue)",
    }  # fmt: skip
    columns = ",\n         ".join(
        f"{part} FILTER (WHERE {side}) AS {when}_{name}"
        for when, side in (("now", now), ("then", then))
        for name, part in parts.items()
    )
    return f"""WITH basket AS (
  SELECT product,
         {columns}
  FROM sales WHERE {where((current, previous), only, without)} GROUP BY product
)
SELECT SUM(now_units) AS units_now, SUM(then_units) AS units_before,
       ROUND(100.0 * SUM(now_units * now_price) / SUM(now_units * then_price) - 100, 1) AS price_change,
       ROUND(100.0 * SUM(now_units * now_cost) / SUM(now_units * then_cost) - 100, 1) AS cost_change,
       ROUND(100.0 - 100.0 * SUM(now_revenue) / SUM(now_listed), 1) AS discount_now,
       ROUND(100.0 - 100.0 * SUM(then_revenue) / SUM(then_listed), 1) AS discount_before
FROM basket"""
