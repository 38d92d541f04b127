"""A model's text on its way to a viewer, beside AutoGen's own stream."""

from collections.abc import Iterator

from bench import tokens
from bench.contenders import say
from bench.goals import named
from bench.report import Row, Table
from bench.scale import Scale
from bench.servers import OURS
from bench.tokens import Cost, Load

AUTOGEN = "AutoGen's run_stream"


def text(scale: Scale) -> Iterator[Table]:
    cost = Table("A piece of text, from the model to a viewer's frame", "CPU microseconds, all threads")
    delay = Table("How long a piece of text is on its way", "Milliseconds")
    whole = Table("A whole run whose answer is one piece", "CPU milliseconds, all threads")
    steady, rushed = scale.writing, scale.rushed
    case = f"{steady.runs} runs, {1 / steady.pause:.0f} pieces a second each"
    found = _measured(case, steady)
    cost.rows.append(Row(case, {name: c.cpu for name, c in found.items()}, 1, "text", "paced"))
    whole.rows.append(Row(f"{steady.runs} at once", {name: c.run_ms for name, c in found.items()}))
    delay.rows.append(Row(f"{case}, p50", {name: c.p50 for name, c in found.items()}))
    goal = named("text p99") if steady.runs >= 300 else ""
    delay.rows.append(Row(f"{case}, p99", {name: c.p99 for name, c in found.items()}, goal=goal))
    case = "one run, as fast as it is taken"
    fast = _measured(case, rushed)
    cost.rows.append(Row(case, {name: c.cpu for name, c in fast.items()}, 1, "text", "rushed"))
    cost.notes.append(
        "Taken off, in all columns: what a run costs beside its text; and what the benchmark's model and reader take "
        f"for a piece by themselves, {_own(found)} µs paced and {_own(fast)} µs rushed."
    )
    yield from (cost, delay, whole)


def _own(costs: dict[str, Cost]) -> str:
    """As each column has measured it."""
    return " and ".join(f"{cost.bench:.1f}" for cost in costs.values())


def _measured(case: str, load: Load) -> dict[str, Cost]:
    say(f"text: {case}")
    return {OURS: tokens.ours(load), AUTOGEN: tokens.autogen(load)}
