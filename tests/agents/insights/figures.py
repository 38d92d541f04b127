"""Expected figures: plain SQL over the tables, without the view that the tools use."""

import sqlite3

from askstream.agents.insights.offline.evidence import Evidence, from_markdown
from tests.agents.insights.offline.analyst_team import Story

REVENUE = "SUM(l.quantity * l.unit_price * (1 - l.discount))"
MARGIN = "SUM(l.quantity * (l.unit_price * (1 - l.discount) - l.unit_cost))"
ORDERS, UNITS = "COUNT(DISTINCT o.order_id)", "SUM(l.quantity)"
LINES = "FROM orders o JOIN order_lines l USING (order_id) WHERE o.ordered_on"
TABLES = """FROM orders o JOIN order_lines l USING (order_id) JOIN customers c USING (customer_id)
    JOIN regions r ON r.region_id = c.region_id JOIN products p USING (product_id)"""
NORTH = "AND r.name = 'North'"
Q1, Q2, Q3 = ("2026-01-01", "2026-03-31"), ("2026-04-01", "2026-06-30"), ("2026-07-01", "2026-09-30")
JUNE, Q3_YEAR_AGO = ("2026-06-01", "2026-06-30"), ("2025-07-01", "2025-09-30")
OCTOBER = ("2026-10-01", "2026-10-31")


def total(data: sqlite3.Connection, value: str, days: tuple[str, str], extra: str = "") -> float:
    query = f"SELECT {value} {TABLES} WHERE o.ordered_on BETWEEN ? AND ? {extra}"
    return float(data.execute(query, days).fetchone()[0])


def revenue(data: sqlite3.Connection, like: str, extra: str = "") -> float:
    """The revenue of the days that begin with `like`."""
    return float(data.execute(f"SELECT {REVENUE} {LINES} LIKE '{like}%' {extra}").fetchone()[0])


def euro(value: float) -> str:
    return f"€{value:,.0f}"


def table(story: Story, title: str) -> Evidence:
    """The report's table with that title."""
    return next(found for found in from_markdown(story.report) if found.title == title)


def key(story: Story) -> tuple[str, ...]:
    return table(story, "Key figures").rows[0]
