"""Waiting for the first sign of life."""

from collections.abc import Iterator

from bench import startup
from bench.contenders import say
from bench.report import Row, Table
from bench.scale import Scale
from bench.servers import OURS


def start(scale: Scale) -> Iterator[Table]:
    say("start-up")
    fresh, again = startup.serve_seconds(scale.times)
    bare = "Starlette and uvicorn alone"
    table = Table("Start-up", "Seconds")
    smallest = startup.starlette_seconds(scale.times)
    serve = "`askstream serve`, first answer of /health"
    table.rows.append(Row(f"{serve}, empty folder", {OURS: fresh, bare: smallest}, 2, "health", "empty folder"))
    table.rows.append(Row(f"{serve}, used folder", {OURS: again, bare: smallest}, 2, "health", "used folder"))
    interpreter = {"Python alone": startup.python_seconds(scale.times)}
    table.rows.append(Row("`askstream --help`", {OURS: startup.help_seconds(scale.times), **interpreter}, 2, "help"))
    yield table
