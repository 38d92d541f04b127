"""Start-up: the first answer of /health, the first question after it, and `--help`."""

import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import servers
from bench.build import Unmeasurable
from bench.goals import IMPORT, PYTHON, STARLETTE
from bench.report import Row, Table
from bench.servers import LOOK_SECONDS, STREAMING, Checkout, Server
from bench.suite import Scope, say
from bench.writers import QUESTION, quantiles

_LIBRARIES = "import autogen_agentchat.agents, autogen_agentchat.teams, autogen_ext.models.openai"
_FOLDERS = ("empty folder", "used folder")
HEALTH, TURN, MEANWHILE, HELP = "health", "cold", "meanwhile", "help"


def start(scope: Scope) -> Iterator[Table]:
    """All starts take turns, so that a busy minute hits each of them."""
    say("start-up")
    rounds = [_round(scope) for _ in range(8 if scope.is_full else 4)][1:]  # the first one compiles
    best = {key: min(found[key] for found in rounds) for key in rounds[0]}  # what disturbs a start only adds to it
    names = [checkout.name for checkout in scope.checkouts]
    table = Table("Start-up", "Seconds")
    turns = Table("A question that is asked as soon as /health answers", "Seconds until the first agent's turn")
    meanwhile = Table("/health while the first question waits", "Milliseconds, p99")
    for folder in _FOLDERS:
        at = {key: {name: best[name, key, folder] for name in names} for key in (HEALTH, TURN, MEANWHILE)}
        case = f"`askstream serve` until /health answers, {folder}"
        table.rows.append(Row(case, {**at[HEALTH], STARLETTE: best[STARLETTE, "", ""]}, 2, HEALTH, folder))
        turns.rows.append(Row(folder, {**at[TURN], IMPORT: best[IMPORT, "", ""]}, 2, TURN, folder))
        meanwhile.rows.append(Row(folder, at[MEANWHILE], 1, MEANWHILE, folder))
    helped = {**{name: best[name, HELP, ""] for name in names}, PYTHON: best[PYTHON, "", ""]}
    table.rows.append(Row("`askstream --help`", helped, 2, HELP))
    yield from (table, turns, meanwhile)


def _round(scope: Scope) -> dict[tuple[str, str, str], float]:
    """Who, what, in which folder: seconds, and milliseconds for /health meanwhile."""
    found = {(PYTHON, "", ""): _run(servers.python("-c", "pass"))}
    found[IMPORT, "", ""] = _run(servers.python("-c", _LIBRARIES)) - found[PYTHON, "", ""]
    with servers.running(STREAMING, is_up=servers.answers, on_one_core=False) as peer:
        found[STARLETTE, "", ""] = peer.start_seconds
    for checkout in scope.checkouts:
        found[checkout.name, HELP, ""] = _run([str(checkout.program("askstream")), "--help"])
        with servers.folder() as data:
            for folder in _FOLDERS:
                figures = _first_question(checkout, data)
                keys = [(checkout.name, key, folder) for key in (HEALTH, TURN, MEANWHILE)]
                found |= dict(zip(keys, figures, strict=True))
    return found


def _run(command: Sequence[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env=servers.environment({}))
    return time.perf_counter() - began


def _first_question(checkout: Checkout, data: Path) -> tuple[float, float, float]:
    """Seconds to the first answer of /health, seconds from a question to its first turn, /health meanwhile in ms."""
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
    return process.start_seconds, first_turn, quantiles(answered)[1] * 1e3


def _watch(port: int, done: threading.Event, took: list[float]) -> None:
    while not done.wait(LOOK_SECONDS) or len(took) < 2:
        began = time.perf_counter()
        if servers.answers(port):
            took.append(time.perf_counter() - began)


def _await_first_turn(port: int) -> None:
    with servers.request(port, "/ask-stream", {"question": QUESTION}) as answer:
        while line := answer.readline():
            if line.startswith(b"data:") and b'"event_type":"started"' not in line:
                return
    raise Unmeasurable("the first question's stream ended before its first turn")
