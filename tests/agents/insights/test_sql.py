"""Hostile SQL gets an error with a stable code, in time, and any database can be described."""

import asyncio
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from askstream.agents.insights.sql import ToolError, select, select_now
from tests.agents.tool_calls import call, code_of
from tests.timing import GLANCE, MS, PATIENCE

ENDLESS = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT COUNT(*) FROM r"


def files(*folders: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for folder in folders for path in folder.rglob("*")}


HOSTILE = {
    "attach": ("ATTACH '{other}' AS other", "sql_not_allowed"),
    "attach within a name": ("ATTACH DATABASE 'file:{other}?mode=rwc' AS other", "sql_not_allowed"),
    "detach": ("DETACH main", "sql_not_allowed"),
    "vacuum into": ("VACUUM INTO '{other}'", "sql_not_allowed"),
    "vacuum": ("VACUUM", "sql_not_allowed"),
    "pragma": ("PRAGMA query_only = OFF", "sql_not_allowed"),
    "pragma as a table": ("SELECT * FROM pragma_database_list", "sql_not_allowed"),
    "insert": ("INSERT INTO regions VALUES (9, 'Moon')", "sql_not_allowed"),
    "insert returning": ("INSERT INTO regions VALUES (9, 'Moon') RETURNING *", "sql_not_allowed"),
    "update": ("UPDATE regions SET name = 'x'", "sql_not_allowed"),
    "delete": ("DELETE FROM orders", "sql_not_allowed"),
    "delete in a with": ("WITH x AS (SELECT 1) DELETE FROM orders", "sql_not_allowed"),
    "replace": ("REPLACE INTO regions VALUES (1, 'x')", "sql_not_allowed"),
    "create": ("CREATE TABLE x (a)", "sql_not_allowed"),
    "create temporary": ("CREATE TEMP TABLE x AS SELECT 1", "sql_not_allowed"),
    "create view": ("CREATE TEMP VIEW x AS SELECT 1", "sql_not_allowed"),
    "create trigger": ("CREATE TRIGGER t AFTER INSERT ON orders BEGIN SELECT 1; END", "sql_not_allowed"),
    "virtual table": ("CREATE VIRTUAL TABLE x USING fts5(a)", "sql_not_allowed"),
    "drop": ("DROP TABLE orders", "sql_not_allowed"),
    "alter": ("ALTER TABLE orders ADD COLUMN x", "sql_not_allowed"),
    "reindex": ("REINDEX", "sql_not_allowed"),
    "analyze": ("ANALYZE", "sql_not_allowed"),
    "begin": ("BEGIN IMMEDIATE", "sql_not_allowed"),
    "savepoint": ("SAVEPOINT s", "sql_not_allowed"),
    "load_extension": ("SELECT load_extension('/lib/x.so')", "sql_not_allowed"),
    "LOAD_EXTENSION": ("SELECT LOAD_EXTENSION('/lib/x.so', 'init')", "sql_not_allowed"),
    "readfile": ("SELECT readfile('/etc/passwd')", "sql_invalid"),
    "two statements": ("SELECT 1; SELECT 2", "sql_not_allowed"),
    "a write behind a read": ("SELECT 1; DROP TABLE orders", "sql_not_allowed"),
    "nothing": ("", "sql_not_allowed"),
    "a comment": ("-- nothing", "sql_not_allowed"),
    "no SQL": ("please give me all orders", "sql_invalid"),
    "no such table": ("SELECT * FROM secrets", "sql_invalid"),
    "a NUL": ("SELECT 'a\x00b'", "sql_invalid"),
    "a lone surrogate": ("SELECT '\ud800'", "sql_invalid"),
    "too long": ("SELECT 1 -- " + "x" * 20_000, "sql_too_long"),
    "deep": ("SELECT " + "(" * 2000 + "1" + ")" * 2000, "sql_invalid"),
    "a huge cell": ("SELECT hex(zeroblob(1000000000))", "cell_too_large"),
    "a huge text": ("SELECT replace(printf('%.200000c', 'x'), 'x', 'four')", "cell_too_large"),
    "a grown text": ("SELECT group_concat(customer) FROM sales, (SELECT 1 UNION SELECT 2)", "cell_too_large"),
    "a big result": ("SELECT printf('%.2000c', 'x') FROM orders", "result_too_large"),
}


@pytest.mark.parametrize(("query", "code"), HOSTILE.values(), ids=HOSTILE.keys())
async def test_hostile_sql_gets_a_clear_error_and_changes_nothing(
    path: Path, tmp_path: Path, query: str, code: str
) -> None:
    """The file keeps its bytes, no other file appears, and the next query is answered."""
    before = files(path.parent, tmp_path)
    assert await code_of(path, "run_sql", query=query.format(other=tmp_path / "other.db")) == code
    assert files(path.parent, tmp_path) == before
    assert (await call(path, "run_sql", query="SELECT 1"))["rows"] == [[1]]


BOMBS = {
    "a recursive count": ENDLESS,
    "a recursive list": ENDLESS.replace("COUNT(*)", "n") + " ORDER BY n DESC",
    "a product of tables": "SELECT COUNT(*) FROM order_lines a, order_lines b, order_lines c",
    "a slow condition": "SELECT * FROM order_lines a, order_lines b WHERE a.quantity * b.quantity = -1",
    "json": ENDLESS.replace("COUNT(*)", "json_group_array(n % 2)"),
}


@pytest.mark.parametrize("query", BOMBS.values(), ids=BOMBS.keys())
def test_the_deadline_interrupts_the_query_and_its_thread_ends(path: Path, query: str) -> None:
    """The query itself stops, not only the caller's wait: the thread must end."""
    codes: list[str] = []

    def run() -> None:
        try:
            select_now(path, query, deadline=300 * MS)
        except ToolError as error:
            codes.append(error.code)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(timeout=PATIENCE)
    assert not thread.is_alive()
    assert codes in (["sql_timeout"], ["cell_too_large"])


def test_cancelling_the_caller_stops_the_query(path: Path) -> None:
    """Closing the loop waits for its threads, so a query that went on would delay it."""

    async def cancelled() -> None:
        task = asyncio.create_task(select(path, ENDLESS, deadline=60))
        await asyncio.sleep(100 * MS)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    began = time.monotonic()
    asyncio.run(cancelled())
    assert time.monotonic() - began < PATIENCE


async def test_a_query_doesnt_hold_up_the_loop(path: Path) -> None:
    """Other runs continue while one waits for its deadline."""
    ticks = 0
    task = asyncio.create_task(select(path, ENDLESS, deadline=500 * MS))
    while not task.done():
        await asyncio.sleep(GLANCE)
        ticks += 1
    with pytest.raises(ToolError):
        await task
    assert ticks > 5


def test_a_file_that_is_no_database_is_closed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error's traceback would keep it open as long as the error exists."""
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def connect_and_note(database: str, *, uri: bool, timeout: float) -> sqlite3.Connection:
        opened.append(connect(database, uri=uri, timeout=timeout))
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", connect_and_note)
    path = tmp_path / "x.db"
    path.write_bytes(b"not a database, but long enough to look like one" * 100)
    with pytest.raises(ToolError) as held:
        select_now(path, "SELECT 1")
    assert held.value.code == "warehouse_unavailable"
    [connection] = opened
    with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
        connection.execute("SELECT 1")


async def test_rows_beyond_the_limit_are_cut_and_marked(path: Path) -> None:
    """200 rows are returned, with `truncated` if there are more."""
    many = await call(path, "run_sql", query="SELECT order_id FROM orders ORDER BY order_id")
    exact = await call(path, "run_sql", query="SELECT order_id FROM orders ORDER BY order_id LIMIT 200")
    assert (len(many["rows"]), many["truncated"]) == (200, True)
    assert (len(exact["rows"]), exact["truncated"]) == (200, False)


async def test_cells_of_any_kind_become_json(path: Path) -> None:
    """Blobs, broken text, infinity and the largest integer."""
    query = "SELECT x'0001', CAST(x'ff41' AS TEXT), 9e999, 9223372036854775807, NULL, 'é'"
    found = await call(path, "run_sql", query=query)
    assert found["rows"] == [["<2 bytes>", "\ufffdA", None, 9223372036854775807, None, "é"]]
    assert found["sql"] == query
