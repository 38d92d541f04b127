"""The servers under test: their commands, and the generator's requests to watch them."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeAlias

from bench import machine
from bench.machine import Unmeasurable
from bench.ours import CONTROL_PATH, RUNS_PATH

Transport: TypeAlias = Literal["sse", "websocket"]
Command: TypeAlias = Callable[[int, Path], list[str]]
"""For a port and a folder."""
Journal: TypeAlias = Literal["sqlite", "memory"]

TITLES: Mapping[Transport, str] = {"sse": "SSE", "websocket": "WebSocket"}
ROOT = Path(__file__).parents[1]
START_SECONDS = 60
# More events than any measurement publishes: a run must not end before its server is stopped.
ENDLESS = 9_000_000
# The caller's shell may hold these; no measured server may see them. With PYTHONDONTWRITEBYTECODE every start would
# compile all modules anew, which an installed server never does.
_OUTSIDE = ("OPENAI_", "AZURE_", "ASKSTREAM_", "LOG_LEVEL", "PYTHONDONTWRITEBYTECODE")
# Seconds between two checks whether a server is up: short beside a start, and cheap for the server.
LOOK_SECONDS = 0.01
_CHUNKED = "Transfer-Encoding: chunked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watching:
    """The generator's requests, as viewers.c describes them."""

    requests: list[str]
    greetings: list[str] = field(default_factory=list[str])
    control: str
    late: str = ""
    late_events: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One way to serve over one transport. `prepare` gets the port and a number of runs, once it listens."""

    name: str
    command: Command
    prepare: Callable[[int, int], Watching] = lambda port, runs: Watching(requests=[], control="")
    transport: Transport = "sse"
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    root: Path = ROOT


@dataclass(frozen=True, slots=True)
class Running:
    server: Server
    pid: int
    port: int
    start_seconds: float


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OUTSIDE)}
    return {**kept, **extra}


def folder() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="askstream-bench-", ignore_cleanup_errors=True)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    """A port that is free together with the next one. Connections that ended just now still hold theirs."""
    while True:
        with socket.socket() as probe, socket.socket() as following:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
            with suppress(OSError, OverflowError):
                following.bind(("127.0.0.1", port + 1))
                return port


def answers(port: int) -> bool:
    """Whether /health answers."""
    with suppress(OSError, http.client.HTTPException), request(port, "/health") as answer:
        return answer.status == 200
    return False


@contextmanager
def running(
    server: Server, *, data: Path | None = None, is_up: Callable[[int], bool] = listens, on_one_core: bool = True
) -> Generator[Running]:
    """Start a server, and stop it at the end. Keep its data only if `data` is given. Raises Unmeasurable."""
    with folder() as own, Path(own, "log").open("w+b") as log:
        port = _free_port()
        command, variables = server.command(port, data or Path(own)), environment(server.environment)
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=server.root, env=variables, stdout=log, stderr=log)
        try:
            if on_one_core:
                os.sched_setaffinity(process.pid, {machine.cores()[0]})
            while not is_up(port):
                if process.poll() is not None or time.perf_counter() - began > START_SECONDS:
                    log.seek(0)
                    raise Unmeasurable(f"{server.name} does not start: {log.read().decode(errors='replace')[-1000:]}")
                time.sleep(LOOK_SECONDS)
            yield Running(server, process.pid, port, time.perf_counter() - began)
        finally:
            process.kill()
            process.wait()


def head(method: str, path: str, port: int, *headers: str) -> str:
    """Return the head of a request."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", *headers, "", ""])


def _watch(transport: Transport, path: str, port: int) -> str:
    if transport == "sse":
        return head("GET", path, port, "Accept: text/event-stream")
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="  # of RFC 6455, section 1.3; nobody checks that it is random
    return head("GET", path, port, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", key)


def request(port: int, path: str, body: Mapping[str, Any] | None = None) -> http.client.HTTPResponse:
    """Return the answer to a GET, or to a POST of `body`, on a new connection. Raises OSError, HTTPException."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Content-Type": "application/json", "Connection": "close"}
    method, text = ("GET", None) if body is None else ("POST", json.dumps(body))
    connection.request(method, path, text, headers)
    return connection.getresponse()


def start_runs(port: int, count: int, events: int) -> list[str]:
    """Start runs in our server. Return their ids."""
    ids: list[str] = json.load(request(port, f"{RUNS_PATH}?count={count}&events={events}", {}))
    return ids


def state(port: int, run_id: str) -> str:
    """Return the state of a run in our server."""
    return str(json.load(request(port, f"/runs/{run_id}"))["state"])


OURS, PLAIN, OTHER = "askstream", "askstream, plain ASGI", "other checkout"
MEMORY = "askstream, journal in memory"

# Limits that a benchmark must exceed. All else is the product's default.
LIMITS: Mapping[str, str] = {
    "ASKSTREAM_ACTIVE_RUNS": "10000",
    "ASKSTREAM_RUN_SECONDS": "86400",
    "ASKSTREAM_SILENCE_SECONDS": "86400",
    "ASKSTREAM_ORPHAN_SECONDS": "never",
    "ASKSTREAM_LOG_EVENTS": "1000000000",
    "ASKSTREAM_LOG_BYTES": "1000000000000",
}


@dataclass(frozen=True, slots=True)
class Checkout:
    """Our server in a folder that holds the project with its virtual environment."""

    name: str
    root: Path

    def __post_init__(self) -> None:
        if not self.program("python").exists():
            raise Unmeasurable(f"expected a checkout with .venv/bin/python: {self.root}")

    def program(self, name: str) -> Path:
        return self.root / ".venv" / "bin" / name

    @property
    def package(self) -> str:
        """The prefix of its modules' names. An old checkout has no package."""
        return "askstream." if (self.root / "src" / "askstream").is_dir() else ""

    def serve(self, *program: str) -> Command:
        """Return the product's command, or that of a `program` which starts it."""
        before = [str(self.program("python")), *(program or ("-m", f"{self.package}server")), "serve"]
        return lambda port, data: [*before, "--port", str(port), "--data", str(data)]


def here() -> Checkout:
    return Checkout(OURS, ROOT)


def ours(
    transport: Transport,
    *,
    checkout: Checkout | None = None,
    journal: Journal = "sqlite",
    plain: bool = False,
    extra: Mapping[str, str] | None = None,
) -> Server:
    """The product's own command, with `extra` variables. Its runs are those of bench/ours.py."""
    checkout = checkout or here()
    variables = {**LIMITS, **(extra or {}), "ASKSTREAM_TRANSPORTS": '["sse", "websocket", "bench.ours:Transport"]'}
    if journal == "memory":
        variables["ASKSTREAM_JOURNAL"] = "memory://"
    if plain:
        variables["ASKSTREAM_DIRECT"] = "false"

    def prepare(port: int, runs: int) -> Watching:
        ids = start_runs(port, runs, ENDLESS)
        control = head("POST", CONTROL_PATH, port, _CHUNKED)
        if transport == "sse":
            paths = [f"/runs/{run}/events?after=latest" for run in ids]
            return Watching(requests=[_watch(transport, path, port) for path in paths], control=control)
        greetings = [json.dumps({"type": "subscribe", "run_id": run, "after": "latest"}) for run in ids]
        return Watching(requests=[_watch(transport, "/ws", port)], greetings=greetings, control=control)

    return Server(
        name=PLAIN if plain else MEMORY if journal == "memory" else checkout.name,
        transport=transport,
        command=checkout.serve(),
        prepare=prepare,
        environment=variables,
        root=checkout.root,
    )


def _peer(
    name: str, path: str, transport: Transport = "sse", command: Command | None = None, *, port_offset: int = 0
) -> Server:
    """`port_offset`: its viewers connect that many ports above its control connection."""

    def prepare(port: int, runs: int) -> Watching:
        requests = [_watch(transport, f"/{path}/{run}", port + port_offset) for run in range(runs)]
        return Watching(requests=requests, control=head("POST", "/control", port, _CHUNKED))

    variables = {"PYTHONPATH": str(machine.packages())}
    return Server(name=name, transport=transport, command=command or _uvicorn, prepare=prepare, environment=variables)


def _uvicorn(port: int, _data: Path) -> list[str]:
    """Return the command of uvicorn, with the options of our server."""
    options = ["--ws", "websockets-sansio", "--ws-per-message-deflate", "false", "--backlog", "2048", "--no-access-log"]
    return [sys.executable, "-m", "uvicorn", "bench.peers:app", "--port", str(port), "--log-level", "warning", *options]


FLOOR = _peer("C send loop", "watch", command=lambda port, _: [str(machine.program("floor")), str(port)])
BARE = _peer(
    "bare Python, durable",
    "watch",
    command=lambda port, data: [sys.executable, "-m", "bench.bare", str(port), str(data)],
)
SSE_STARLETTE = _peer("sse-starlette", "sse-starlette")
STREAMING = _peer("StreamingResponse", "streaming")
SEND_TEXT = _peer("Starlette send_text", "send-text", "websocket")
BROADCAST = _peer("websockets broadcast()", "broadcast", "websocket", port_offset=1)
