"""The bundled data: made from a seed, in one step, with incidents that only the rows show."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from askstream.agents.insights import warehouse


def one(data: sqlite3.Connection, query: str) -> float:
    return float(data.execute(query).fetchone()[0])


def contents(path: Path) -> list[list[tuple[object, ...]]]:
    connection = sqlite3.connect(path)
    try:
        return [connection.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES]
    finally:
        connection.close()


TABLES = ("regions", "sales_people", "categories", "products", "customers", "orders", "order_lines", "inventory")


def test_it_has_eight_tables_and_about_fifty_thousand_lines_over_24_months(data: sqlite3.Connection) -> None:
    tables = {row[0] for row in data.execute("SELECT name FROM sqlite_master WHERE type = 'table'")} - {"sqlite_stat1"}
    assert tables == set(TABLES)
    assert 48_000 < one(data, "SELECT COUNT(*) FROM order_lines") < 52_000
    assert data.execute("SELECT MIN(ordered_on), MAX(ordered_on) FROM orders").fetchone() == (
        "2024-11-01",
        "2026-10-31",
    )
    assert one(data, "SELECT COUNT(DISTINCT substr(ordered_on, 1, 7)) FROM orders") == 24


def test_every_reference_has_its_row(data: sqlite3.Connection) -> None:
    """No line without its order, no order without its customer, and the view neither loses nor doubles rows."""
    assert data.execute("PRAGMA foreign_key_check").fetchall() == []
    plain = one(data, "SELECT SUM(quantity * unit_price * (1 - discount)) FROM order_lines")
    assert one(data, "SELECT SUM(revenue) FROM sales") == pytest.approx(plain)
    assert one(data, "SELECT COUNT(*) FROM sales") == one(data, "SELECT COUNT(*) FROM order_lines")


@pytest.mark.long
def test_the_same_seed_gives_the_same_rows_and_another_seed_others(path: Path, tmp_path: Path) -> None:
    """A run can be repeated on any machine."""
    again, other = tmp_path / "again.db", tmp_path / "other.db"
    began = time.process_time()
    warehouse.build(again)
    assert time.process_time() - began < 5  # a second on an idle machine: the first start must stay short
    warehouse.build(other, seed=8)
    assert contents(again) == contents(path)
    assert contents(other) != contents(path)


def test_building_over_an_open_database_leaves_its_readers_whole(tmp_path: Path) -> None:
    """The file is replaced atomically, and no other file is left."""
    target = tmp_path / "new" / "warehouse.db"
    warehouse.build(target)
    reader = sqlite3.connect(target)
    cursor = reader.execute("SELECT COUNT(*) FROM order_lines")
    warehouse.build(target, seed=8)
    assert cursor.fetchone()[0] > 48_000
    reader.close()
    assert [entry.name for entry in target.parent.iterdir()] == ["warehouse.db"]


def test_a_build_that_fails_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A half-made database never replaces a whole one."""
    target = tmp_path / "warehouse.db"
    target.write_bytes(b"before")
    monkeypatch.setattr(warehouse, "SCHEMA", "CREATE TABLE broken (")
    with pytest.raises(sqlite3.Error):
        warehouse.build(target)
    assert target.read_bytes() == b"before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["warehouse.db"]


def test_another_process_builds_the_same_rows(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process only waits: a build here would block everything else."""
    monkeypatch.setattr(warehouse, "build", None)
    made = tmp_path / "aside.db"
    warehouse.build_in_child(made)()
    query = "SELECT sum(quantity * unit_price), count(*) FROM order_lines"
    with closing(sqlite3.connect(path)) as here, closing(sqlite3.connect(made)) as aside:
        assert aside.execute(query).fetchall() == here.execute(query).fetchall()


def test_files_of_the_current_folder_are_not_imported_by_the_other_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user's random.py must not break the build."""
    (tmp_path / "random.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warehouse, "build", None)
    warehouse.build_in_child(tmp_path / "w.db")()
    assert (tmp_path / "w.db").exists()


def test_without_an_interpreter_to_start_the_build_runs_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a server that embeds Python."""
    monkeypatch.setattr("sys.executable", str(tmp_path / "none"))
    warehouse.build_in_child(tmp_path / "w.db")()
    assert (tmp_path / "w.db").exists()


def test_a_build_that_fails_in_the_other_process_raises_here(tmp_path: Path) -> None:
    """The child's error isn't lost."""
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        warehouse.build_in_child(tmp_path / "file" / "w.db")()


def test_orders_follow_the_season(data: sqlite3.Connection) -> None:
    """December outsells February in both years."""
    for december, february in (("2024-12", "2025-02"), ("2025-12", "2026-02")):
        counts = [
            one(data, f"SELECT COUNT(DISTINCT order_id) FROM sales WHERE month = '{m}'") for m in (december, february)
        ]
        assert counts[0] > 1.25 * counts[1]


# The incidents, each with a query that shows it.
HAPPENED = {
    "a best-seller is out of stock, and isn't sold": (
        "SELECT COUNT(*) FROM inventory JOIN products USING (product_id)"
        " WHERE name = 'Halo Floor Lamp' AND on_hand = 0 AND day BETWEEN '2026-10-03' AND '2026-10-27'",
        25,
    ),
    "nothing is sold while the stock is empty": (
        "SELECT COUNT(*) FROM sales WHERE product = 'Halo Floor Lamp'"
        " AND ordered_on BETWEEN '2026-10-03' AND '2026-10-27'",
        0,
    ),
    "prices of a category rise by a fifth": (
        "SELECT ROUND(MAX(unit_price) / MIN(unit_price), 2) FROM sales WHERE product = 'Turntable'",
        1.2,
    ),
    "the people of a region leave": (
        "SELECT COUNT(*) FROM sales_people JOIN regions USING (region_id)"
        " WHERE regions.name = 'West' AND left_on IS NOT NULL",
        2,
    ),
    "a quarter off everything outdoors, for a month": (
        "SELECT MIN(discount) FROM sales WHERE category = 'Outdoor' AND month = '2026-05'",
        0.25,
    ),
    "a large customer leaves": (
        "SELECT COUNT(*) FROM sales WHERE customer = 'Halvorsen Retail Group' AND ordered_on > '2026-01-31'",
        0,
    ),
    "another large customer comes": (
        "SELECT COUNT(*) FROM sales WHERE customer = 'Blue Harbour Hotels' AND ordered_on < '2025-09-01'",
        0,
    ),
    "a supplier gets dearer, at unchanged prices": (
        "SELECT ROUND(MAX(unit_cost) / MIN(unit_cost), 1) FROM sales WHERE product = 'Wool Throw'",
        1.3,
    ),
}


@pytest.mark.parametrize(("query", "expected"), HAPPENED.values(), ids=HAPPENED.keys())
def test_each_incident_shows_in_the_rows(data: sqlite3.Connection, query: str, expected: float) -> None:
    assert one(data, query) == expected


def test_stock_is_empty_in_no_other_place(data: sqlite3.Connection) -> None:
    """There are two stock-outs only, and stock is never negative."""
    empty = data.execute(
        "SELECT DISTINCT name FROM inventory JOIN products USING (product_id) WHERE on_hand <= 0 ORDER BY name"
    ).fetchall()
    assert empty == [("Halo Floor Lamp",), ("Hammock",)]
    assert one(data, "SELECT MIN(on_hand) FROM inventory") == 0
