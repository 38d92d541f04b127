"""Describes any SQLite file, so that a model can write queries: tables, columns, links, ranges and the values of short
lists. It has the time of one query."""

# ruff: noqa: S608 - this module makes SQL: members become literals, names become identifiers

import sqlite3
import threading
from pathlib import Path
from typing import Any, Final

from askstream.agents.insights.sql import DEADLINE, identifier, json_value, open_read_only, watch

MAX_TABLES: Final = 60
MAX_VALUES: Final = 200  # a longer list of values isn't a list of names any more
MAX_LISTED: Final = 60  # characters of one listed value
_SAMPLE: Final = 20_000  # rows that are read for the values of a column
_MAX_LIST: Final = 5_000  # characters for all the values of one column


def describe_now(path: Path, *, deadline: float = DEADLINE, stop: threading.Event | None = None) -> dict[str, Any]:
    """Tables and views with their columns. Raises ToolError if the file can't be read at all."""
    connection = open_read_only(path)
    try:
        watch(connection, deadline, stop)
        names = _rows(
            connection,
            "SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE"
            " 'sqlite_%' ORDER BY type, name",
        )
        tables = [_table(connection, str(name), str(kind)) for name, kind in names[:MAX_TABLES]]
        return {"tables": tables, "tables_left_out": max(0, len(names) - MAX_TABLES)}
    finally:
        connection.close()


# Meaning and unit of the columns of the bundled warehouse.
_MEANINGS: Final = {
    "order_lines.quantity": ("pieces sold in this line", "units"),
    "order_lines.unit_price": ("list price of one piece on the day, before the discount", "EUR"),
    "order_lines.unit_cost": ("what one piece cost us on the day", "EUR"),
    "order_lines.discount": ("share of the list price that was given away, 0 to 1", "share"),
    "orders.ordered_on": ("day of the order", "date"),
    "products.list_price": ("newest list price; order_lines has that of the day", "EUR"),
    "products.unit_cost": ("newest cost of one piece; order_lines has that of the day", "EUR"),
    "customers.signed_up_on": ("day of signing up, which may be before the data begins", "date"),
    "sales_people.left_on": ("last day with us, null for those who are still there", "date"),
    "sales_people.hired_on": ("first day with us", "date"),
    "inventory.on_hand": ("pieces in stock at the end of the day", "units"),
    "sales.month": ("month of the order, as in 2026-10", "month"),
    "sales.revenue": ("quantity * unit_price * (1 - discount)", "EUR"),
    "sales.cost": ("quantity * unit_cost", "EUR"),
    "sales.region": ("the customer's region", ""),
    "sales.quantity": ("pieces sold in this line", "units"),
    "sales.unit_price": ("list price of one piece on the day, before the discount", "EUR"),
    "sales.unit_cost": ("what one piece cost us on the day", "EUR"),
    "sales.discount": ("share of the list price that was given away, 0 to 1", "share"),
}


def with_meanings(described: dict[str, Any]) -> dict[str, Any]:
    """Add the meaning and unit of the bundled warehouse's columns to its description."""
    for table in described["tables"]:
        for column in table["columns"]:
            meaning, unit = _MEANINGS.get(f"{table['name']}.{column['name']}", ("", ""))
            known = {"meaning": meaning, "unit": unit}
            column.update({name: text for name, text in known.items() if text})
    return described


def _table(connection: sqlite3.Connection, name: str, kind: str) -> dict[str, Any]:
    links = {
        str(row[3]): f"{row[2]}.{row[4] or row[3]}"
        for row in _rows(connection, f"PRAGMA foreign_key_list({identifier(name)})")
    }
    # A view repeats its tables' values: its column names are enough and cost no scans.
    is_view = kind == "view"
    columns = [
        _column(connection, name, str(row[1]), str(row[2]), links.get(str(row[1])), brief=is_view)
        for row in _rows(connection, f"PRAGMA table_info({identifier(name)})")
    ]
    described: dict[str, object] = {"name": name, "kind": kind, "columns": columns}
    if not is_view:
        counted = _rows(connection, f"SELECT COUNT(*) FROM {identifier(name)}")
        described["rows"] = counted[0][0] if counted else None
    return described


def _column(
    connection: sqlite3.Connection,
    table: str,
    name: str,
    kind: str,
    link: str | None,
    *,
    brief: bool,
) -> dict[str, Any]:
    described: dict[str, object] = {"name": name, "type": kind}
    if link:
        described["references"] = link
    if brief or link:
        return described
    column, source = identifier(name), identifier(table)
    values = [
        row[0]
        for row in _rows(
            connection,
            f"SELECT DISTINCT {column} FROM (SELECT {column} FROM {source} LIMIT {_SAMPLE})"
            f" WHERE typeof({column}) = 'text' LIMIT {MAX_VALUES + 1}",
        )
    ]
    if _is_list(values):
        described["values"] = sorted(values)
    elif bounds := _rows(connection, f"SELECT MIN({column}), MAX({column}) FROM {source}"):
        described["from"], described["to"] = (_short(json_value(value)) for value in bounds[0])
    return described


def _rows(connection: sqlite3.Connection, query: str) -> list[tuple[Any, ...]]:
    """Run the query. Without rows if it fails or time is up: the description then lacks that part."""
    try:
        return connection.execute(query).fetchall()
    except sqlite3.Error:
        return []


def _is_list(values: list[str]) -> bool:
    """Whether the values are names to choose from, rather than dates or free text."""
    if not 0 < len(values) <= MAX_VALUES or sum(map(len, values)) > _MAX_LIST:
        return False
    return all(len(value) <= MAX_LISTED and not value[:4].isdigit() for value in values)


def _short(value: object) -> object:
    return value[:MAX_LISTED] if isinstance(value, str) else value
