"""Waiting for the first sign of life: of the process, and of a run."""

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
    say("first event")
    p50, p99 = startup.first_event_ms(scale.times * 10)
    first = Table("From a question to its first event, over HTTP", "Milliseconds")
    first.rows += [Row("p50", {OURS: p50}, 2, "first event", "p50"), Row("p99", {OURS: p99}, 2, "first event", "p99")]
    yield first
