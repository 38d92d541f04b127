"""Drives viewers.c: opens the viewers, runs one measurement after another, and says what they saw."""

import json
import os
import subprocess
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import builds, machine
from bench.servers import Running, Watching

# Between two rounds of reads the generator sleeps that long, lest each event wakes it and the server is billed for it.
NAP_US = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What all viewers together saw of one run: every event, once, in order. Times of a paced run in ms; else 0.

    `busy` is the share of a core that the generator took: near 1 it is what was measured. `late_ms` is by how much it
    let an event go later than the pace wanted. `replays` is how often a late viewer read its run, at so many MB/s.
    """

    delivered: int
    seconds: float
    busy: float
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    late_ms: float = 0.0
    replays: int = 0
    replay_mb_s: float = 0.0


class Incomplete(builds.Unmeasurable):
    """Viewers did not see all events, or one of them twice: what this server costs is of no interest."""


@dataclass(slots=True)
class Viewers:
    """`first` is the number of the next event, `connect_seconds` what opening all of them took.

    `rush` and `pace` raise Incomplete.
    """

    process: subprocess.Popen[str]
    first: int
    connect_seconds: float

    @property
    def pid(self) -> int:
        return self.process.pid

    def rush(self, events: int, *, window: int = 64, stalled: int = 0, silence: float = 20) -> Seen:
        """As fast as the slowest viewer allows, which has at most `window` events before it."""
        return self._run(events, window=window, nap_us=NAP_US if window > 1 else 0, stalled=stalled, silence=silence)

    def pace(self, events: int, *, rate: float, parts: int = 1, late_pause_ms: float = 0) -> Seen:
        """`rate` events a second. The generator polls without sleeping, so that it wakes nobody and is never late.

        Runs take turns in `parts` of a tick. A late viewer comes so long after the one before has read everything.
        """
        options = {"rate": rate, "spin": 1, "silence": 10 + 2 / rate, "parts": parts, "late_pause_ms": late_pause_ms}
        return self._run(events, **options)

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise builds.Unmeasurable("the generator ended; it says why on standard error")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _run(self, events: int, **options: float) -> Seen:
        assert self.process.stdin is not None
        words = " ".join(f"{name}={value}" for name, value in options.items())
        try:
            self.process.stdin.write(f"run events={events} {words}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; its answer is missing, too
        seen = self.answer()
        self.first += events
        faults = {name: seen[name] for name in ("lost", "gaps", "repeats", "closed") if seen[name]}
        if faults:
            raise Incomplete(f"of {seen['delivered'] + seen['lost']:,} deliveries: {faults}")
        return Seen(
            delivered=seen["delivered"],
            seconds=seen["wall_s"],
            busy=seen["busy"],
            p50_ms=seen.get("p50_us", 0) / 1000,
            p99_ms=seen.get("p99_us", 0) / 1000,
            late_ms=seen["late_us"] / 1000,
            replays=seen.get("replays", 0),
            replay_mb_s=seen.get("replay_mb_s", 0),
        )


@contextmanager
def watching(server: Running, how: Watching, count: int, *, first: int = 0) -> Generator[Viewers]:
    """`count` viewers of a running server, attached; `first` is the number of the next event there."""
    with tempfile.TemporaryDirectory(prefix="askstream-bench-") as name:
        folder = Path(name)
        options = _options(folder, how)
        command = [builds.program("viewers"), "--port", server.port, "--control-port", how.control_port]
        command += ["--viewers", count, "--transport", server.server.transport, "--first", first, *options]
        process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        os.sched_setaffinity(process.pid, {machine.cores()[1]})
        try:
            viewers = Viewers(process, first, 0.0)
            viewers.connect_seconds = viewers.answer()["connect_s"]
            yield viewers
        finally:
            process.kill()
            process.communicate()


def _options(folder: Path, how: Watching) -> list[str]:
    late = [how.late] if how.late else []
    texts = {"--requests": how.requests, "--greetings": how.greetings, "--control": [how.control], "--late": late}
    options = ["--late-events", str(how.late_events)]
    for option, given in texts.items():
        if given:
            options += [option, _file(folder, option, given)]
    return options


def _file(folder: Path, option: str, texts: Sequence[str]) -> str:
    path = folder / option.strip("-")
    path.write_text("".join(text + "\0" for text in texts))
    return str(path)
