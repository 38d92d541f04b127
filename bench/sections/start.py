"""Start-up: the first answer of /health, the first question after it, and `--help`."""

import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench import servers
from bench.fanout import Scope
from bench.machine import Unmeasurable, say
from bench.report import IMPORT, PYTHON, STARLETTE, Row, Table
from bench.servers import LOOK_SECONDS, STREAMING, Checkout, Server
from bench.writers import QUESTION, quantiles

_LIBRARIES = "import autogen_agentchat.agents, autogen_agentchat.teams, autogen_ext.models.openai"
_FOLDERS = ("empty folder", "used folder")


def start(scope: Scope) -> Iterator[Table]:
    """Measure starts. They take turns, so that a busy minute affects all of them."""
    say("start-up")
    rounds = [_round(scope) for _ in range(8 if scope.is_full else 4)][1:]  # the first one compiles
    tables = {
        "health": Table("`askstream serve` until /health answers", "Seconds"),
        "cold": Table("A question that is asked as soon as /health answers", "Seconds until the first agent's turn"),
        "meanwhile": Table("/health while the first question waits", "Milliseconds, p99"),
        "help": Table("`askstream --help`", "Seconds"),
    }
    for (key, folder), figures in rounds[0].items():
        # Disturbances only add to a start's time.
        best = {name: min(found[key, folder][name] for found in rounds) for name in figures}
        tables[key].rows.append(Row(folder or "from exec to exit", best, 2, key, folder))
    yield from tables.values()


def _round(scope: Scope) -> Mapping[tuple[str, str], dict[str, float]]:
    """Return the figure of each server, by measurement and folder."""
    found: defaultdict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for checkout in scope.checkouts:
        found["help", ""][checkout.name] = _run([str(checkout.program("askstream")), "--help"])
        with servers.folder() as data:
            for folder in _FOLDERS:
                figures = _first_question(checkout, Path(data))
                for key, figure in zip(("health", "cold", "meanwhile"), figures, strict=True):
                    found[key, folder][checkout.name] = figure
    found["help", ""][PYTHON] = python = _run([sys.executable, "-c", "pass"])
    imports = _run([sys.executable, "-c", _LIBRARIES]) - python
    with servers.running(STREAMING, is_up=servers.answers, on_one_core=False) as peer:
        for folder in _FOLDERS:
            found["health", folder][STARLETTE] = peer.start_seconds
            found["cold", folder][IMPORT] = imports
    return found


def _run(command: Sequence[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env=servers.environment({}))
    return time.perf_counter() - began


def _first_question(checkout: Checkout, data: Path) -> tuple[float, float, float]:
    """Return the seconds to /health's first answer, and from a question to its first turn; /health meanwhile in ms."""
    server = Server(name=checkout.name, command=checkout.serve(), root=checkout.root)
    with servers.running(server, data=data, is_up=servers.answers, on_one_core=False) as process:
        answered: list[float] = []
        done = threading.Event()
        watcher = threading.Thread(target=_watch, args=(process.port, done, answered))
        watcher.start()
        began = time.perf_counter()
        _await_first_turn(process.port)
        first_turn = time.perf_counter() - began
        done.set()
        watcher.join()
    return process.start_seconds, first_turn, quantiles(answered)[1]


def _watch(port: int, done: threading.Event, took: list[float]) -> None:
    while not done.wait(LOOK_SECONDS) or len(took) < 2:
        began = time.perf_counter()
        if servers.answers(port):
            took.append((time.perf_counter() - began) * 1e3)


def _await_first_turn(port: int) -> None:
    with servers.request(port, "/ask-stream", {"question": QUESTION}) as answer:
        while line := answer.readline():
            if line.startswith(b"data:") and b'"event_type":"started"' not in line:
                return
    raise Unmeasurable("the first question's stream ended before its first turn")
