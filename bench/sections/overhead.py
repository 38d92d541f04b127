"""What a whole run costs over HTTP, and how soon its first event comes."""

from collections.abc import Iterator, Mapping

from bench import overhead
from bench.builds import Unmeasurable
from bench.contenders import say
from bench.overhead import BUNDLED, Shape
from bench.report import Row, Table
from bench.scale import Scale
from bench.servers import OURS

AUTOGEN = "AutoGen's run_stream"
# More agents and more pieces than a run needs that does something, and fewer than one that does much.
SHAPES: Mapping[str, Shape] = {
    "bundled team": BUNDLED,
    "3 agents, 50 pieces each": Shape(agents=3, pieces=50),
    "3 agents, 50 pieces each, 20 a second": Shape(agents=3, pieces=50, pause=0.05),
}


def run(scale: Scale) -> Iterator[Table]:
    cost = Table("A run over HTTP beside the same team driven in process", "CPU milliseconds a run, all threads")
    times = Table("The same as a ratio", "Times the CPU of AutoGen's own run_stream")
    runs, rounds = scale.overhead
    for case, shape in SHAPES.items():
        if scale.few and shape.pause:
            continue  # takes as long as its text does
        say(f"overhead: {case}")
        try:
            found = overhead.costs(shape, runs=runs, times=rounds)
        except Unmeasurable as problem:
            cost.notes.append(f"{case}: failed, {problem}.")
            continue
        cost.rows.append(Row(case, {OURS: found.ours, AUTOGEN: found.autogens}))
        times.rows.append(Row(case, {OURS: found.ours / found.autogens}, goal="overhead", of=case))
    cost.notes.append(f"{runs} runs at once.")
    yield from (cost, times)
    yield from first_event(scale)


def first_event(scale: Scale) -> Iterator[Table]:
    table = Table("From a question to its first event, over HTTP", "Milliseconds")
    for going, goal in ((0, "first event"), (200, "first event busy")):
        say(f"first event while {going} runs are going")
        p50, p99 = overhead.first_event_ms(going=going, asked=scale.asked)
        case = f"while {going} runs are going" if going else "at rest"
        table.rows.append(Row(f"{case}, p50", {OURS: p50}, 2, goal, "p50"))
        table.rows.append(Row(f"{case}, p99", {OURS: p99}, 2, goal, "p99"))
    yield table
