"""Switches one of the server's waits off, so that its gain can be measured. docs/latency.md lists the waits.

The server under test imports this by its transport or its model, before it makes anything. BENCH_WITHOUT names the
wait.
"""

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

VARIABLE = "BENCH_WITHOUT"


def _constant(module: str, name: str, value: int = 0) -> Callable[[], None]:
    return lambda: setattr(importlib.import_module(f"askstream.{module}"), name, value)


def _commit_delay() -> None:
    writer: Any = importlib.import_module("askstream.server.journal.sqlite.group_writer").GroupWriter
    writer.__init__.__kwdefaults__["commit_seconds"] = 0.0


def _replay_gate() -> None:
    async def enter(_gate: object) -> None:
        return

    importlib.import_module("askstream.server.scheduling").ReplayGate.enter = enter


WAITS: Mapping[str, Callable[[], None]] = {
    "joining of chunks": _constant("agents.chunk_buffer", "MERGE_SECONDS"),
    "commit delay": _commit_delay,
    "fan-out delay": _constant("server.scheduling", "FEW_VIEWERS", sys.maxsize),
    "replay gate": _replay_gate,
    "start gate": _constant("server.scheduling", "START_ITERATIONS"),
    "first event first": _constant("server.runs.run", "FIRST_EVENT_ITERATIONS"),
}


def switch_off() -> None:
    name = os.environ.get(VARIABLE)
    if name:
        WAITS[name]()
