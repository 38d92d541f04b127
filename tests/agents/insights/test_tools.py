"""The five tools: their figures equal those of plain SQL."""

import sqlite3
from pathlib import Path
from typing import Any

import orjson
import pytest
from autogen_core import CancellationToken
from autogen_core.tools import FunctionTool, StaticWorkbench

from askstream.agents.insights.tools import toolbox
from tests.agents.tool_calls import call, code_of


def rows(data: sqlite3.Connection, query: str) -> list[Any]:
    return data.execute(query).fetchall()


# Written without the view, so that an error in it can't hide.
REVENUE = """SELECT ROUND(SUM(l.quantity * l.unit_price * (1 - l.discount)), 2)
FROM orders o JOIN order_lines l USING (order_id) JOIN customers c USING (customer_id) JOIN regions r USING (region_id)
WHERE o.ordered_on LIKE '{month}%' AND r.name = '{region}'"""


async def test_compare_periods_gives_the_figures_of_plain_sql(path: Path, data: sqlite3.Connection) -> None:
    """Both values, the change, and SQL that returns the same values."""
    found = await call(
        path, "compare_periods", measure="revenue", current="2026-03", previous="2025-03", filters={"region": "north"}
    )
    now, then = (rows(data, REVENUE.format(month=month, region="North"))[0][0] for month in ("2026-03", "2025-03"))
    assert (found["current"]["value"], found["previous"]["value"]) == (now, then)
    assert found["change"] == pytest.approx(now - then, abs=0.01)
    assert found["change_percent"] == pytest.approx(100 * (now - then) / then, abs=0.01)
    assert rows(data, found["sql"]) == [(now, then)]


MEASURES = {
    "orders": "SELECT COUNT(DISTINCT order_id) FROM orders WHERE ordered_on LIKE '2026-03%'",
    "units": "SELECT SUM(quantity) FROM orders JOIN order_lines USING (order_id) WHERE ordered_on LIKE '2026-03%'",
    "customers": "SELECT COUNT(DISTINCT customer_id) FROM orders WHERE ordered_on LIKE '2026-03%'",
    "cost": "SELECT ROUND(SUM(quantity * unit_cost), 2) FROM orders JOIN order_lines USING (order_id)"
    " WHERE ordered_on LIKE '2026-03%'",
    "margin_rate": "SELECT ROUND(100 - 100 * SUM(quantity * unit_cost) / SUM(quantity * unit_price * (1 - discount)),"
    " 2) FROM orders JOIN order_lines USING (order_id) WHERE ordered_on LIKE '2026-03%'",
    "average_order": "SELECT ROUND(SUM(quantity * unit_price * (1 - discount)) / COUNT(DISTINCT order_id), 2)"
    " FROM orders JOIN order_lines USING (order_id) WHERE ordered_on LIKE '2026-03%'",
}


@pytest.mark.parametrize(("measure", "query"), MEASURES.items(), ids=MEASURES.keys())
async def test_every_measure_is_what_its_name_says(
    path: Path, data: sqlite3.Connection, measure: str, query: str
) -> None:
    """Counts, sums and ratios, over the tables themselves."""
    found = await call(path, "compare_periods", measure=measure, current="2026-03", previous="2026-02")
    assert found["current"]["value"] == pytest.approx(rows(data, query)[0][0])


@pytest.mark.parametrize(
    "dimension", ["product", "category", "region", "customer", "segment", "sales_person", "driver"]
)
async def test_the_parts_of_a_change_add_up_to_it(path: Path, dimension: str) -> None:
    """Nothing is lost and nothing counted twice, along any dimension."""
    arguments: dict[str, Any] = {"measure": "margin", "current": "2026-02", "previous": "2026-01"}
    found = await call(path, "break_down", **arguments, dimension=dimension, limit=50)
    if found.get("parts_in_all", 0) > 50:  # a second call gives the sum of the others
        told = [part["name"] for part in found["parts"]]
        rest = await call(path, "compare_periods", **arguments, exclude={dimension: told})
        found["parts"].append({"contribution": rest["change"]})
    assert sum(part["contribution"] for part in found["parts"]) == pytest.approx(found["change"], abs=0.5)


async def test_a_ratio_is_split_by_its_own_change_and_by_its_weight(path: Path) -> None:
    """The contributions of a ratio are points that add up to its change."""
    found = await call(
        path, "break_down", measure="margin_rate", dimension="category", current="2025-08", previous="2025-07"
    )
    assert sum(part["contribution"] for part in found["parts"]) == pytest.approx(found["change"], abs=0.03)
    assert found["parts"][0]["name"] == "Textiles"


@pytest.mark.parametrize("measure", ["orders", "average_order"])
async def test_one_order_with_two_products_is_not_counted_as_two(path: Path, measure: str) -> None:
    """If parts overlap, they have no contributions, and the whole is still right."""
    arguments: dict[str, Any] = {"measure": measure, "current": "2026-02", "previous": "2026-01"}
    found = await call(path, "break_down", **arguments, dimension="product")
    whole = await call(path, "compare_periods", **arguments)
    assert all(part["contribution"] is None for part in found["parts"])
    assert (found["current"], found["previous"]) == (whole["current"], whole["previous"])


@pytest.mark.parametrize("measure", ["revenue", "margin_rate", "average_order", "average_price", "customers"])
async def test_a_breakdown_begins_with_the_whole(path: Path, measure: str) -> None:
    """The same values as the comparison of the periods."""
    arguments: dict[str, Any] = {"measure": measure, "current": "2026-03", "previous": "2025-03"}
    found = await call(path, "break_down", **arguments, dimension="region")
    whole = await call(path, "compare_periods", **arguments)
    assert (found["current"], found["previous"]) == (whole["current"], whole["previous"])
    assert sum(part["contribution"] for part in found["parts"]) == pytest.approx(whole["change"], abs=0.05)


async def test_the_most_unusual_part_comes_first(path: Path) -> None:
    """The lost customer is first, before larger ones that moved with the season."""
    found = await call(
        path, "break_down", measure="revenue", dimension="customer", current="2026-02", previous="2026-01", limit=3
    )
    assert found["parts"][0]["name"] == "Halvorsen Retail Group"
    assert len(found["parts"]) == 3


async def test_excluding_removes_a_member(path: Path, data: sqlite3.Connection) -> None:
    """The result is the whole less the excluded member."""
    arguments: dict[str, Any] = {"measure": "units", "current": "2026-05", "previous": "2026-04"}
    whole = await call(path, "compare_periods", **arguments)
    part = await call(path, "compare_periods", **arguments, filters={"category": ["Outdoor", "Audio"]})
    rest = await call(path, "compare_periods", **arguments, exclude={"category": ["Outdoor", "Audio"]})
    assert part["current"]["value"] + rest["current"]["value"] == whole["current"]["value"]
    assert part["current"]["value"] > 0


async def test_overlapping_periods_can_be_compared(path: Path) -> None:
    """A month with the quarter that has it."""
    month = await call(path, "compare_periods", measure="units", current="2026-03", previous="2026-Q1")
    apart = await call(path, "compare_periods", measure="units", current="2026-Q1", previous="2025-Q1")
    assert month["previous"]["value"] == apart["current"]["value"]
    assert month["current"]["value"] < month["previous"]["value"]


async def test_a_part_without_sales_is_zero_and_its_ratio_unknown(path: Path) -> None:
    """No division by zero, and no null for a sum of 0: the customer came half a year later."""
    asked = {"current": "2026-10", "previous": "2025-03", "filters": {"customer": "Blue Harbour Hotels"}}
    sums = await call(path, "compare_periods", measure="revenue", **asked)
    ratio = await call(path, "compare_periods", measure="margin_rate", **asked)
    assert (sums["previous"]["value"], sums["change_percent"]) == (0, None)
    assert (ratio["previous"]["value"], ratio["change"]) == (None, None)


WRONG = {
    "a measure": ({"measure": "joy", "current": "2026", "previous": "2025"}, "unknown_measure"),
    "a period": ({"measure": "revenue", "current": "last week", "previous": "2025"}, "bad_period"),
    "a day": ({"measure": "revenue", "current": "2026-02-30", "previous": "2025"}, "bad_period"),
    "a backward period": ({"measure": "revenue", "current": "2026..2025", "previous": "2025"}, "bad_period"),
    "a dimension": (
        {"measure": "revenue", "current": "2026", "previous": "2025", "filters": {"planet": "Mars"}},
        "unknown_dimension",
    ),
    "a member": (
        {"measure": "revenue", "current": "2026", "previous": "2025", "filters": {"region": "Nowhere"}},
        "unknown_value",
    ),
    "a member that is SQL": (
        {"measure": "revenue", "current": "2026", "previous": "2025", "exclude": {"region": "x' OR '1'='1"}},
        "unknown_value",
    ),
}


@pytest.mark.parametrize(("arguments", "code"), WRONG.values(), ids=WRONG.keys())
async def test_wrong_arguments_are_named(path: Path, arguments: dict[str, Any], code: str) -> None:
    """So that a model can correct them."""
    assert await code_of(path, "compare_periods", **arguments) == code


async def test_unknown_dimensions_and_drivers_of_a_count_are_refused(path: Path) -> None:
    """Drivers split money, not counts."""
    arguments = {"measure": "orders", "current": "2026", "previous": "2025"}
    assert await code_of(path, "break_down", **arguments, dimension="driver") == "unknown_dimension"
    assert await code_of(path, "break_down", **arguments, dimension="weather") == "unknown_dimension"


# --- any database ----------------------------------------------------------------------------------------------------


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    path = tmp_path / "own # 50%? data.db"
    connection = sqlite3.connect(path)
    connection.executescript(
        """CREATE TABLE "odd ""name" (id INTEGER PRIMARY KEY, "a b" TEXT, blob BLOB, at TEXT);
        INSERT INTO "odd ""name" VALUES (1, 'x', x'00ff', '2024-01-01'), (2, CAST(x'ff' AS TEXT), NULL, '2025-01-01');
        CREATE TABLE child (parent INTEGER REFERENCES "odd ""name" (id));
        CREATE VIEW peek AS SELECT * FROM child;"""
    )
    connection.close()
    return path


async def test_any_sqlite_file_is_described_and_queried(foreign: Path) -> None:
    """Odd names, blobs, broken text, views and links."""
    found = await call(foreign, "describe_schema")
    tables = {table["name"]: table for table in found["tables"]}
    assert set(tables) == {'odd "name', "child", "peek"}
    assert tables['odd "name']["rows"] == 2
    assert tables["child"]["columns"][0]["references"] == 'odd "name.id'
    assert tables["peek"]["kind"] == "view"
    assert "measures" not in found
    columns = {column["name"]: column for column in tables['odd "name']["columns"]}
    assert (columns["at"]["from"], columns["at"]["to"]) == ("2024-01-01", "2025-01-01")
    assert (await call(foreign, "run_sql", query='SELECT COUNT(*) FROM "odd ""name"'))["rows"] == [[2]]


async def test_tools_for_the_bundled_schema_say_that_they_need_it(foreign: Path) -> None:
    """With other tables they can't work, and name the tool that does."""
    arguments = {"measure": "revenue", "current": "2026", "previous": "2025"}
    assert await code_of(foreign, "compare_periods", **arguments) == "not_this_schema"
    assert await code_of(foreign, "break_down", **arguments, dimension="product") == "not_this_schema"
    assert await code_of(foreign, "compare_periods", **arguments, filters={"region": "North"}) == "not_this_schema"


@pytest.mark.parametrize("content", [None, b"", b"not a database, but long enough to look like one" * 100])
async def test_a_file_that_is_no_database_is_named_so(tmp_path: Path, content: bytes | None) -> None:
    """Missing, empty and foreign files; in SQLite an empty file is an empty database."""
    path = tmp_path / "x.db"
    if content is not None:
        path.write_bytes(content)
    if content == b"":
        assert (await call(path, "describe_schema"))["tables"] == []
        return
    assert await code_of(path, "describe_schema") == "warehouse_unavailable"
    assert await code_of(path, "run_sql", query="SELECT 1") == "warehouse_unavailable"
    assert path.exists() == (content is not None)


async def test_the_schema_of_the_warehouse_lists_measures_and_dimensions(path: Path) -> None:
    """Last day, measures, dimensions, and the members to filter by."""
    found = await call(path, "describe_schema")
    assert (found["first_day"], found["last_day"]) == ("2024-11-01", "2026-10-31")
    assert {"revenue", "orders", "units", "margin"} <= set(found["measures"])
    regions = next(table for table in found["tables"] if table["name"] == "regions")
    assert regions["columns"][1]["values"] == ["Central", "East", "North", "South", "West"]


async def test_a_description_ends_at_its_deadline(tmp_path: Path) -> None:
    """Parts that would come later are left out; the others are there."""
    path = tmp_path / "large.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (a)")
    with connection:
        connection.executemany("INSERT INTO t VALUES (?)", ((n,) for n in range(200_000)))
    connection.close()
    hasty = orjson.loads(await toolbox(path, deadline=0)["describe_schema"]())
    patient = orjson.loads(await toolbox(path)["describe_schema"]())
    assert hasty["tables"][0]["columns"] == [{"name": "a", "type": ""}]
    assert patient["tables"][0]["columns"] == [{"name": "a", "type": "", "from": 0, "to": 199_999}]


# --- charts ----------------------------------------------------------------------------------------------------------


async def test_a_chart_is_returned_unchanged(path: Path) -> None:
    """The page draws from this alone."""
    spec: dict[str, Any] = {
        "type": "line",
        "title": "Revenue",
        "labels": ["2026-09", "2026-10"],
        "series": [{"name": "Revenue", "values": [1.5, None]}],
        "unit": "EUR",
    }
    assert await call(path, "make_chart", **spec) == {"chart": spec}


NAN = float("nan")
BAD_CHARTS: dict[str, tuple[str, list[str], list[dict[str, Any]]]] = {
    "no labels": ("bar", [], [{"name": "a", "values": []}]),
    "no series": ("bar", ["x"], []),
    "too few values": ("bar", ["x", "y"], [{"name": "a", "values": [1.0]}]),
    "no number": ("bar", ["x"], [{"name": "a", "values": [NAN]}]),
    "a negative slice": ("pie", ["x"], [{"name": "a", "values": [-1.0]}]),
    "two pies": ("pie", ["x"], [{"name": "a", "values": [1.0]}, {"name": "b", "values": [1.0]}]),
    "too many labels": ("bar", ["x"] * 61, [{"name": "a", "values": [1.0] * 61}]),
}


@pytest.mark.parametrize(("kind", "labels", "series"), BAD_CHARTS.values(), ids=BAD_CHARTS.keys())
async def test_a_chart_that_cant_be_drawn_is_refused(
    path: Path, kind: str, labels: list[str], series: list[dict[str, Any]]
) -> None:
    """The model can correct an error, but not an empty picture."""
    assert await code_of(path, "make_chart", type=kind, title="", labels=labels, series=series) == "bad_chart"


# --- as AutoGen uses them --------------------------------------------------------------------------------------------


async def test_the_tools_work_as_autogens_function_tools(path: Path) -> None:
    """Schemas come from the signatures; a refusal is a result marked as an error, and the run continues."""
    tools = [FunctionTool(tool, description=tool.__doc__ or "") for tool in toolbox(path).values()]
    bench = StaticWorkbench(tools)  # pyright: ignore[reportArgumentType] - its list is invariant
    token = CancellationToken()
    series = [{"name": "a", "values": [1, None]}]
    chart = await bench.call_tool(
        "make_chart", {"type": "bar", "title": "t", "labels": ["x", "y"], "series": series}, token
    )
    refused = await bench.call_tool("run_sql", {"query": "DROP TABLE orders"}, token)
    assert orjson.loads(chart.to_text())["chart"]["series"] == series
    assert not chart.is_error
    assert refused.is_error
    assert orjson.loads(refused.to_text())["error"]["code"] == "sql_not_allowed"
    assert all(tool.description for tool in tools)


async def test_a_period_that_isnt_over_is_compared_like_for_like(path: Path, data: sqlite3.Connection) -> None:
    """This year against last: as many months of both, and the result says so. A month in a quarter as well."""
    total = "SELECT ROUND(SUM(quantity * unit_price * (1 - discount)), 2) FROM orders JOIN order_lines USING (order_id)"
    for current, previous, now, then in (
        ("2026", "2025", ("2026-01-01", "2026-10-31"), ("2025-01-01", "2025-10-31")),
        ("2026-Q4", "2026-Q3", ("2026-10-01", "2026-10-31"), ("2026-07-01", "2026-07-31")),
        (
            "2026-10-26..2026-11-08",
            "2026-10-12..2026-10-25",
            ("2026-10-26", "2026-10-31"),
            ("2026-10-12", "2026-10-17"),
        ),
    ):
        for tool, more in (("compare_periods", {}), ("break_down", {"dimension": "region"})):
            found = await call(path, tool, measure="revenue", current=current, previous=previous, **more)
            assert "isn't over: the data ends on 2026-10-31" in found["note"]
            for side, days in (("current", now), ("previous", then)):
                assert (found[side]["from"], found[side]["to"]) == days
                expected = rows(data, f"{total} WHERE ordered_on BETWEEN '{days[0]}' AND '{days[1]}'")[0][0]
                assert found[side]["value"] == pytest.approx(expected, abs=0.01)
    assert "note" not in await call(path, "compare_periods", measure="revenue", current="2026-10", previous="2026-09")


@pytest.mark.parametrize("filters", [{"month": "October 2026"}, {"region": []}, {"month": []}, {"segment": "x"}])
async def test_a_filter_that_matches_nothing_is_an_error(path: Path, filters: dict[str, Any]) -> None:
    """Not a zero, which a model would take for a figure."""
    for name in ("filters", "exclude"):
        arguments = {"measure": "revenue", "current": "2026-10", "previous": "2026-09", name: filters}
        assert await code_of(path, "compare_periods", **arguments) == "unknown_value"


@pytest.mark.parametrize(("current", "previous"), [("2027", "2026"), ("2026-10", "2023-10"), ("2026", "2024")])
async def test_a_period_without_data_is_an_error(path: Path, current: str, previous: str) -> None:
    """Nothing was sold in days that the data doesn't cover, and that is no figure."""
    arguments = {"measure": "revenue", "current": current, "previous": previous}
    assert await code_of(path, "compare_periods", **arguments) == "bad_period"


async def test_columns_have_their_meaning_and_unit(path: Path) -> None:
    """Prices, costs and discounts at least."""
    tables = {table["name"]: table for table in (await call(path, "describe_schema"))["tables"]}
    columns = {column["name"]: column for column in tables["order_lines"]["columns"]}
    assert columns["unit_price"]["unit"] == "EUR"
    assert "before the discount" in columns["unit_price"]["meaning"]
    assert columns["discount"]["unit"] == "share"
    sales = {column["name"]: column for column in tables["sales"]["columns"]}
    assert "unit" in sales["revenue"]


async def test_all_dimensions_at_once_give_the_parts_that_weigh_most(path: Path, data: sqlite3.Connection) -> None:
    """The customer that left comes before its region, with the figures of plain SQL."""
    found = await call(
        path, "break_down", measure="revenue", dimension="all", current="2026-02", previous="2026-01", limit=3
    )
    first = found["parts"][0]
    assert (first["dimension"], first["name"]) == ("customer", "Halvorsen Retail Group")
    query = "SELECT SUM(revenue) FROM sales WHERE customer = 'Halvorsen Retail Group' AND month = '2026-01'"
    assert first["previous"] == pytest.approx(rows(data, query)[0][0], abs=0.01)
    assert len(found["parts"]) == 3
