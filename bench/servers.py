"""The servers under test: how each is started, and what the generator must say to watch it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from askstream.server.settings import Settings
from bench import builds, machine
from bench.ours import CONTROL_PATH, RUNS_PATH
from bench.peers import CONTROL_OFFSET

Transport: TypeAlias = Literal["sse", "websocket"]

ROOT = Path(__file__).parents[1]
START_SECONDS = 60
# More events than any measurement publishes: the run is still going on when its server is stopped.
ENDLESS = 9_000_000
# What the caller's shell may hold and no measured server may see.
_OUTSIDE = ("OPENAI_", "AZURE_", "ASKSTREAM_", "LOG_LEVEL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Watching:
    """What the generator sends: viewer i takes `requests[i % n]`, and on a WebSocket `greetings[i % n]` after it.

    `late` is the request of a viewer that comes later and reads a run of `late_events` events that has ended.
    """

    requests: list[str]
    greetings: list[str] = field(default_factory=list[str])
    control: str
    control_port: int
    late: str = ""
    late_events: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One way to serve, over one transport. `prepare` is called once it listens, with its port and a count of runs."""

    name: str
    transport: Transport
    command: Callable[[int, Path], list[str]]
    prepare: Callable[[int, int], Watching]
    environment: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Running:
    server: Server
    process: subprocess.Popen[bytes]
    port: int
    data: Path

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
    """Starts it on a core of its own and stops it at the end. Raises builds.Unmeasurable when it doesn't listen."""
    folder = Path(tempfile.mkdtemp(prefix="askstream-bench-"))
    port = free_port()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            server.command(port, folder),
            cwd=ROOT,
            env=environment(server.environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        os.sched_setaffinity(process.pid, {machine.cores()[0]})
        _await_port(process, port, folder / "log", server.name)
        yield Running(server, process, port, folder)
    finally:
        process.kill()  # what it holds is of no use to anybody
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """A port that is free, as the one after it most probably is."""
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
    raise builds.Unmeasurable(f"{name} does not start: {log.read_text(errors='replace')[-1000:]}")


# ---- what is said to them ----------------------------------------------------------------------------------


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


def start_runs(port: int, count: int, events: int) -> list[str]:
    """Starts runs in our server; their ids."""
    address = f"http://127.0.0.1:{port}{RUNS_PATH}?count={count}&events={events}"
    with urllib.request.urlopen(urllib.request.Request(address, method="POST"), timeout=60) as answer:
        ids: list[str] = json.load(answer)
    return ids


# ---- ours --------------------------------------------------------------------------------------------------


OURS, PLAIN = "askstream", "askstream, plain ASGI"


def has_plain_way() -> bool:
    """Whether the server can be told not to write to its connections directly, but as under any ASGI server."""
    return "direct" in Settings.model_fields


def ours(transport: Transport, *, journal: Literal["sqlite", "memory"] = "sqlite", plain: bool = False) -> Server:
    """The product's own command with its own defaults, limits aside that a benchmark must pass."""
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
        name=PLAIN if plain else OURS,
        transport=transport,
        command=lambda port, data: python("-m", "askstream.server", "serve", "--port", str(port), "--data", str(data)),
        prepare=prepare,
        environment=variables,
    )


# ---- peers -------------------------------------------------------------------------------------------------


def _peer(name: str, kind: str, transport: Transport, *, control_offset: int = 0) -> Server:
    ask = _upgrade if transport == "websocket" else _get

    def prepare(port: int, runs: int) -> Watching:
        control_port = port + control_offset
        control = _control("/control", control_port)
        requests = [ask(f"/watch/{run}", port) for run in range(runs)]
        return Watching(requests=requests, control=control, control_port=control_port)

    return Server(
        name=name,
        transport=transport,
        command=lambda port, _: python("-m", "bench.peers", kind, "--port", str(port)),
        prepare=prepare,
        environment={"PYTHONPATH": str(builds.PACKAGES)},
    )


FLOOR = "C send loop"


def floor() -> Server:
    """The C loop. Raises builds.Missing without a compiler."""
    program = builds.program("floor")
    return Server(
        name=FLOOR,
        transport="sse",
        command=lambda port, _: [str(program), str(port)],
        prepare=_peer("", "", "sse").prepare,
    )


BARE = Server(
    name="bare Python, durable",
    transport="sse",
    command=lambda port, data: python("-m", "bench.bare", "--port", str(port), "--data", str(data)),
    prepare=_peer("", "", "sse").prepare,
)
SSE_STARLETTE = _peer("sse-starlette", "sse-starlette", "sse")
STREAMING = _peer("StreamingResponse", "streaming", "sse")
SEND_TEXT = _peer("Starlette send_text", "send-text", "websocket")
WEBSOCKETS = _peer("websockets broadcast()", "websockets", "websocket", control_offset=CONTROL_OFFSET)
