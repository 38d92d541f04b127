"""Expected figures: plain SQL over the tables, without the view that the tools use."""

import sqlite3

REVENUE = "SUM(l.quantity * l.unit_price * (1 - l.discount))"
LINES = "FROM orders o JOIN order_lines l USING (order_id) WHERE o.ordered_on"


def revenue(data: sqlite3.Connection, like: str, extra: str = "") -> float:
    """The revenue of the days that begin with `like`."""
    return float(data.execute(f"SELECT {REVENUE} {LINES} LIKE '{like}%' {extra}").fetchone()[0])


def euro(value: float) -> str:
    return f"€{value:,.0f}"
