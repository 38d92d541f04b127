"""A late viewer reads a run of 10,000 events that has ended, over HTTP, alone and while others watch a live run."""

import json
import socket
import time
import urllib.request
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from bench import fanout, machine, servers
from bench.builds import Unmeasurable
from bench.generator import watching
from bench.ours import CONTROL_PATH
from bench.servers import Running, Transport, Watching

EVENTS = 10_000
# Between the end of one replay and the begin of the next: they take a good part of the time, and not all of it.
PAUSE_MS = 100.0
ALONE_PAUSE_MS = 20.0
ALONE_SECONDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """MB a second, `alone` and `beside` the live viewers; their latency in ms, without and with replays.

    `noise` is the share of the cores' time that others took.
    """

    alone: float
    beside: float = 0
    p50: float = 0
    p99: float = 0
    p50_beside: float = 0
    p99_beside: float = 0
    replays: int = 0
    noise: float = 0


def measure(transport: Transport, journal: Literal["sqlite", "memory"], live: int, seconds: float) -> Replay:
    """`live` viewers of a live run. Raises Unmeasurable."""
    with servers.running(servers.ours(transport, journal=journal)) as process:
        how = _with_late(process, process.server.prepare(process.port, 1))
        alone, first = _alone(process, how, first=EVENTS)
        with watching(process, how, live, first=first) as viewers:
            machine.settle(process.pid)
            pids = process.pid, viewers.pid
            load = machine.load(*pids)
            rate = fanout.paced_rate(live)
            events = max(10, round(seconds * rate))
            pace = partial(viewers.pace, events, rate=rate)
            quiet = machine.least_disturbed(pace, pids)
            beside = machine.least_disturbed(partial(pace, late_pause_ms=PAUSE_MS), pids)
            noise = machine.load(*pids).others_since(load)
    return Replay(
        alone=alone,
        beside=beside.replay_mb_s,
        p50=quiet.p50_ms,
        p99=quiet.p99_ms,
        p50_beside=beside.p50_ms,
        p99_beside=beside.p99_ms,
        replays=beside.replays,
        noise=noise,
    )


def floor() -> Replay:
    """The C loop: the same bytes from its memory with as few system calls as it takes. Raises Unmeasurable."""
    with servers.running(servers.floor()) as process:
        how = replace(process.server.prepare(process.port, 1), late=_request("/late", process.port), late_events=EVENTS)
        return Replay(alone=_alone(process, how, first=0)[0])


def _alone(process: Running, how: Watching, *, first: int) -> tuple[float, int]:
    """One replay after another; the one viewer of the live run sees an event a second. MB a second, next number."""
    with watching(process, how, 1, first=first) as viewers:
        machine.settle(process.pid)
        alone = partial(viewers.pace, ALONE_SECONDS, rate=1, late_pause_ms=ALONE_PAUSE_MS)
        return machine.least_disturbed(alone, (process.pid, viewers.pid)).replay_mb_s, viewers.first


def _with_late(process: Running, how: Watching) -> Watching:
    """Lets the live run and one more publish EVENTS events; that one ends with them."""
    [run_id] = servers.start_runs(process.port, 1, EVENTS)
    _publish(process.port, EVENTS)
    _await_end(process.port, run_id)
    machine.settle(process.pid)
    return replace(how, late=_request(f"/runs/{run_id}/events", process.port), late_events=EVENTS)


def _request(path: str, port: int) -> str:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"


def _publish(port: int, events: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as control:
        line = f"upto {events:07d}.00\n"
        head = f"POST {CONTROL_PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(line)}\r\n\r\n"
        control.sendall(f"{head}{line}".encode())
        control.recv(1024)


def _await_end(port: int, run_id: str) -> None:
    for _ in range(600):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/runs/{run_id}", timeout=10) as answer:
            if json.load(answer)["state"] == "completed":
                return
        time.sleep(0.1)
    raise Unmeasurable("the run to be replayed did not end within a minute")
