"""Hostile SQL gets an error with a stable code, in time, and any database can be described."""

import asyncio
import sqlite3
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from askstream.agents.insights.sql import Rows, ToolError, open_read_only, select, select_here
from tests.agents.tool_calls import call, code_of
from tests.timing import GLANCE, MS, PATIENCE

Select: TypeAlias = Callable[..., Coroutine[Any, Any, Rows]]

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


BIG = "(SELECT printf('%.*c', 200000, 'x') AS big)"
BOMBS = {
    "a recursive count": ENDLESS,
    "a recursive list": ENDLESS.replace("COUNT(*)", "n") + " ORDER BY n DESC",
    "a product of tables": "SELECT COUNT(*) FROM order_lines a, order_lines b, order_lines c",
    "a slow condition": "SELECT * FROM order_lines a, order_lines b WHERE a.quantity * b.quantity = -1",
    "json": ENDLESS.replace("COUNT(*)", "json_group_array(n % 2)"),
    "one call of a function": "SELECT length(printf('%.*c', 2000000000, 'x'))",
    "one call of a function, by its other name": "SELECT length(format('%.2000000000c', 'x'))",
    "slow calls in a loop": ENDLESS.replace("COUNT(*)", "SUM(instr(big || n, substr(big, 9, 99999) || 'y'))")
    + f", {BIG}",
    "slow calls in a row": f"SELECT {'+'.join(['instr(big, substr(big, 1, 100000) || 1)'] * 200)} FROM {BIG}",
}


@pytest.mark.parametrize("query", BOMBS.values(), ids=BOMBS.keys())
def test_a_query_ends_at_its_deadline_whatever_it_holds(path: Path, query: str) -> None:
    """Its process is killed, and the thread that waited for it ends: closing the loop waits for threads. Some of these
    would need minutes, and SQLite's own interruption doesn't reach them."""
    began = time.monotonic()
    with pytest.raises(ToolError) as caught:
        asyncio.run(select(path, query, deadline=500 * MS))
    assert caught.value.code in ("sql_timeout", "cell_too_large")
    assert time.monotonic() - began < PATIENCE
    assert not children()


def children() -> list[str]:
    """The processes that this one has started and that are still there."""
    tasks = Path("/proc/self/task").glob("*/children")
    pids = [pid for task in tasks for pid in task.read_text().split()]
    commands = [Path(f"/proc/{pid}/cmdline") for pid in pids]
    return [text for each in commands if each.exists() and "select_child" in (text := each.read_text())]


@pytest.mark.parametrize("run", [select, select_here])
def test_cancelling_the_caller_stops_the_query(path: Path, run: Select) -> None:
    """Closing the loop waits for its threads, so a query that went on would delay it."""

    async def cancelled() -> None:
        task = asyncio.create_task(run(path, ENDLESS, deadline=60))
        await asyncio.sleep(100 * MS)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    began = time.monotonic()
    asyncio.run(cancelled())
    assert time.monotonic() - began < PATIENCE
    assert not children()


def test_our_own_queries_have_a_deadline_too(path: Path) -> None:
    """They run in a thread, which ends."""
    with pytest.raises(ToolError) as caught:
        asyncio.run(select_here(path, ENDLESS, deadline=100 * MS))
    assert caught.value.code == "sql_timeout"


async def test_a_query_without_a_process_gets_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine that has no more of them, or where the process is killed by somebody else."""
    for interpreter in ("/nowhere/python", "/bin/true"):
        monkeypatch.setattr(sys, "executable", interpreter)
        assert await code_of(path, "run_sql", query="SELECT 1") == "warehouse_unavailable"


READS = {
    "json_each": ("SELECT key, value FROM json_each('[7]')", [[0, 7]]),
    "json_tree": ("SELECT COUNT(*) FROM json_tree('[7]')", [[2]]),
    "json_each over a table": ("SELECT COUNT(*) FROM regions, json_each(json_array(name))", [[5]]),
    "table_info": ("SELECT name FROM pragma_table_info('regions')", [["region_id"], ["name"]]),
    "PRAGMA table_info": ("PRAGMA index_list(regions)", [[0, "sqlite_autoindex_regions_1", 1, "u", 0]]),
    "printf": ("SELECT printf('%.2f', 1.5), format('%5d', 3)", [["1.50", "    3"]]),
    "a WITH": ("WITH x AS (SELECT 1 AS a) SELECT a FROM x", [[1]]),
    "VALUES": ("VALUES (1), (2)", [[1], [2]]),
}


@pytest.mark.parametrize(("query", "rows"), READS.values(), ids=READS.keys())
async def test_what_only_reads_is_allowed(path: Path, query: str, rows: list[list[object]]) -> None:
    """SQLite reports a change of its own table where a table-valued function is used, and changes nothing."""
    assert (await call(path, "run_sql", query=query))["rows"] == rows


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("INSERT INTO regions VALUES (9, 'Moon')", "would insert rows"),
        ("UPDATE regions SET name = 'x'", "would change rows"),
        ("UPDATE sqlite_master SET sql = ''", "may not be modified"),
        ("DELETE FROM sqlite_master", "may not be modified"),
        ("CREATE TABLE x (a)", "would change the schema"),
        ("DROP TABLE orders", "would change the schema"),
        ("ALTER TABLE orders ADD COLUMN x", "would change the database"),
        ("ATTACH '/tmp/x.db' AS other", "would attach another file"),
        ("SELECT * FROM pragma_database_list", "PRAGMA database_list isn't allowed here; table_info, "),
        ("SELECT load_extension('/lib/x.so')", "The function load_extension isn't allowed here"),
        ("BEGIN", "would begin or end a transaction"),
    ],
)
async def test_a_refusal_says_truthfully_why(path: Path, query: str, words: str) -> None:
    """The model corrects its query by it."""
    with pytest.raises(ToolError) as caught:
        await select(path, query)
    assert words in caught.value.message


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
        open_read_only(path)
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
