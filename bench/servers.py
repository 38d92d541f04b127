"""The servers under test: how each is started, and what the generator sends to watch it."""

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from bench import build, machine
from bench.build import Unmeasurable
from bench.ours import CONTROL_PATH, RUNS_PATH

Transport: TypeAlias = Literal["sse", "websocket"]

ROOT = Path(__file__).parents[1]
START_SECONDS = 60
# More events than any measurement publishes: a run must not end before its server is stopped.
ENDLESS = 9_000_000
# The caller's shell may hold these; no measured server may see them. With PYTHONDONTWRITEBYTECODE every start would
# compile all modules anew, which an installed server never does.
_OUTSIDE = ("OPENAI_", "AZURE_", "ASKSTREAM_", "LOG_LEVEL", "PYTHONDONTWRITEBYTECODE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Watching:
    """What the generator sends: viewer i sends `requests[i % n]`, and on a WebSocket `greetings[i % n]` after it.

    `late` is the request of a viewer that comes later and reads a run of `late_events` events that has ended.
    """

    requests: list[str]
    greetings: list[str] = field(default_factory=list[str])
    control: str
    control_port: int
    late: str = ""
    late_events: int = 0


def _unwatched(_port: int, _runs: int) -> Watching:
    raise Unmeasurable("this server has no viewers of the generator")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One way to serve over one transport. `prepare` is called when it listens, with its port and a number of runs."""

    name: str
    command: Callable[[int, Path], list[str]]
    transport: Transport = "sse"
    prepare: Callable[[int, int], Watching] = _unwatched
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    root: Path = ROOT


@dataclass(frozen=True, slots=True)
class Running:
    server: Server
    process: subprocess.Popen[bytes]
    port: int

    @property
    def pid(self) -> int:
        return self.process.pid


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OUTSIDE)}
    return {**kept, **extra}


@contextmanager
def running(server: Server) -> Generator[Running]:
    """Start it on a core of its own, and stop it at the end. Raises Unmeasurable when it doesn't listen."""
    folder = Path(tempfile.mkdtemp(prefix="askstream-bench-"))
    port = free_port()
    with (folder / "log").open("wb") as log:
        command, variables = server.command(port, folder), environment(server.environment)
        process = subprocess.Popen(
            command, cwd=server.root, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        os.sched_setaffinity(process.pid, {machine.cores()[0]})
        _await_port(process, port, folder / "log", server.name)
        yield Running(server, process, port)
    finally:
        process.kill()  # nobody needs its data
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """A port that is free; the one after it most probably is, too."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port if port < 65000 else free_port()


def _await_port(process: subprocess.Popen[bytes], port: int, log: Path, name: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise Unmeasurable(f"{name} does not start: {log.read_text(errors='replace')[-1000:]}")


# ---- what the generator sends ------------------------------------------------------------------------------


def _get(path: str, port: int) -> str:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/event-stream\r\n\r\n"


def _upgrade(path: str, port: int) -> str:
    key = "dGhlIHNhbXBsZSBub25jZQ=="  # of RFC 6455, section 1.3; nobody checks that it is random
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    )


def _control(path: str, port: int) -> str:
    return f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nTransfer-Encoding: chunked\r\n\r\n"


def request(port: int, path: str, body: Mapping[str, Any] | None = None) -> http.client.HTTPResponse:
    """The answer to a GET, or to a POST of `body`, over a connection of its own. Raises OSError, HTTPException."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Content-Type": "application/json", "Connection": "close"}
    if body is None:
        connection.request("GET", path, headers=headers)
    else:
        connection.request("POST", path, json.dumps(body), headers)
    return connection.getresponse()


def start_runs(port: int, count: int, events: int) -> list[str]:
    """Start runs in our server. Returns their ids."""
    ids: list[str] = json.load(request(port, f"{RUNS_PATH}?count={count}&events={events}", {}))
    return ids


# ---- ours --------------------------------------------------------------------------------------------------

OURS, PLAIN, OTHER = "askstream", "askstream, plain ASGI", "other checkout"
MEMORY = "askstream, journal in memory"


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
        """What its modules' names begin with. There was no one package once."""
        return "askstream." if (self.root / "src" / "askstream").is_dir() else ""

    def serve(self, port: int, data: Path) -> list[str]:
        command = [str(self.program("python")), "-m", f"{self.package}server", "serve"]
        return [*command, "--port", str(port), "--data", str(data)]


def here() -> Checkout:
    return Checkout(OURS, ROOT)


def ours(
    transport: Transport,
    *,
    checkout: Checkout | None = None,
    journal: Literal["sqlite", "memory"] = "sqlite",
    plain: bool = False,
) -> Server:
    """The product's own command with its own defaults, except for limits that a benchmark must exceed."""
    checkout = checkout or here()
    variables = {
        "ASKSTREAM_TRANSPORTS": json.dumps(["sse", "websocket", "bench.ours:Transport"]),
        "ASKSTREAM_ACTIVE_RUNS": "10000",
        "ASKSTREAM_RUN_SECONDS": "86400",
        "ASKSTREAM_SILENCE_SECONDS": "86400",
        "ASKSTREAM_ORPHAN_SECONDS": "never",
        "ASKSTREAM_LOG_EVENTS": "1000000000",
        "ASKSTREAM_LOG_BYTES": "1000000000000",
    }
    if journal == "memory":
        variables["ASKSTREAM_JOURNAL"] = "memory://"
    if plain:
        variables["ASKSTREAM_DIRECT"] = "false"

    def prepare(port: int, runs: int) -> Watching:
        ids = start_runs(port, runs, ENDLESS)
        control = _control(CONTROL_PATH, port)
        if transport == "sse":
            requests = [_get(f"/runs/{run}/events?after=latest", port) for run in ids]
            return Watching(requests=requests, control=control, control_port=port)
        greetings = [json.dumps({"type": "subscribe", "run_id": run, "after": "latest"}) for run in ids]
        return Watching(requests=[_upgrade("/ws", port)], greetings=greetings, control=control, control_port=port)

    return Server(
        name=PLAIN if plain else MEMORY if journal == "memory" else checkout.name,
        transport=transport,
        command=checkout.serve,
        prepare=prepare,
        environment=variables,
        root=checkout.root,
    )


# ---- peers -------------------------------------------------------------------------------------------------

# Where the `websockets` server, which serves no plain HTTP, accepts the control connection.
CONTROL_OFFSET = 1


def _peer(name: str, kind: str, transport: Transport, *, control_offset: int = 0) -> Server:
    ask = _upgrade if transport == "websocket" else _get

    def prepare(port: int, runs: int) -> Watching:
        control_port = port + control_offset
        requests = [ask(f"/watch/{run}", port) for run in range(runs)]
        return Watching(requests=requests, control=_control("/control", control_port), control_port=control_port)

    def command(port: int, data: Path) -> list[str]:
        if kind == "floor":
            return [str(build.program(kind)), str(port)]
        return python("-m", "bench.peers", kind, "--port", str(port), "--data", str(data))

    variables = {"PYTHONPATH": str(build.PACKAGES)}
    return Server(name=name, transport=transport, command=command, prepare=prepare, environment=variables)


FLOOR = _peer("C send loop", "floor", "sse")
BARE = _peer("bare Python, durable", "bare", "sse")
SSE_STARLETTE = _peer("sse-starlette", "sse-starlette", "sse")
STREAMING = _peer("StreamingResponse", "streaming", "sse")
SEND_TEXT = _peer("Starlette send_text", "send-text", "websocket")
WEBSOCKETS = _peer("websockets broadcast()", "websockets", "websocket", control_offset=CONTROL_OFFSET)
