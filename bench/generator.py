"""Drive viewers.c: open the viewers, run one measurement after another, and return what the viewers saw."""

import json
import os
import subprocess
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from typing import Any

from bench import build, machine
from bench.build import Unmeasurable
from bench.servers import Running, Watching


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What all viewers together saw of one run: every event, once, in order. Times of a paced run in ms; else 0.

    `busy` is the share of a core that the generator used: near 1 the generator is what was measured. `late_ms` is the
    most by which it let an event go later than the pace. Late viewers read `replay_mb_s`.
    """

    delivered: int
    seconds: float
    busy: float
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    late_ms: float = 0.0
    replay_mb_s: float = 0.0


@dataclass(slots=True)
class Viewers:
    """`first` is the number of the next event, `connect_seconds` the time in which all viewers connected.

    `rush` and `pace` raise Unmeasurable where viewers did not see all events, or saw one twice.
    """

    process: subprocess.Popen[str]
    first: int
    connect_seconds: float

    def rush(self, events: int, *, window: int = 64, stalled: int = 0) -> Seen:
        """As fast as the slowest viewer reads; at most `window` events are on their way to it."""
        return self._run(events, window, 0, 1, stalled, 0)

    def pace(self, events: int, *, rate: float, parts: int = 1, late_pause_ms: int = 0) -> Seen:
        """`rate` events a second. The generator polls without sleeping, so that it is never late.

        Runs take turns in `parts` of a tick. A late viewer comes so long after the one before has read everything.
        """
        return self._run(events, 0, rate, parts, 0, late_pause_ms)

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise Unmeasurable("the generator ended; its reason is on standard error")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _run(self, events: int, *options: float) -> Seen:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, so its answer is missing, too
            print(events, *options, file=self.process.stdin, flush=True)
        seen = self.answer()
        self.first += events
        faults = {name: seen[name] for name in ("lost", "gaps", "repeats", "closed") if seen[name]}
        if faults:
            raise Unmeasurable(f"of {seen['delivered'] + seen['lost']:,} deliveries: {faults}")
        return Seen(**{field.name: seen[field.name] for field in fields(Seen) if field.name in seen})


@contextmanager
def watching(server: Running, how: Watching, count: int, *, first: int = 0) -> Generator[Viewers]:
    """`count` attached viewers of a running server. `first` is the number of its next event."""
    command = [build.program("viewers"), server.port, count, first, how.control]
    command += [how.late, how.late_events, len(how.requests), *how.requests, *how.greetings]
    process = subprocess.Popen([str(p) for p in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    os.sched_setaffinity(process.pid, {machine.cores()[1]})
    try:
        viewers = Viewers(process, first, 0.0)
        viewers.connect_seconds = viewers.answer()["connect_s"]
        yield viewers
    finally:
        process.kill()
        process.communicate()
