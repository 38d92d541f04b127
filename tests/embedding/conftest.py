"""Our application under other ASGI servers, as real processes on free ports."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import pytest

ROOT = Path(__file__).parents[2]
START_SECONDS = 60
# Variables of the shell that runs the tests, hidden from them.
_OUTSIDE = ("OPENAI_", "AZURE_", "ASKSTREAM_", "LOG_LEVEL", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS")
_ADDRESS = re.compile(r"http://127\.0\.0\.1:([1-9]\d*)")


class Process:
    """A program of a test's own. `lines`: its output so far."""

    def __init__(self, command: Sequence[str], *, cwd: Path = ROOT, **environment: str) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OUTSIDE)}
        paths = {"PYTHONPATH": os.pathsep.join([str(cwd), str(ROOT)]), "PYTHONUNBUFFERED": "1"}
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**kept, **paths, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def wait_for(self, what: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not what():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.release()
                raise RuntimeError(f"it ended with {self.process.returncode}:\n{self.output}")
            time.sleep(0.02)

    def end(self, number: int = signal.SIGTERM, *, seconds: float = 30) -> int:
        """Send the signal. Return the exit status, negative for a signal."""
        self.process.send_signal(number)
        return self.wait(seconds)

    def wait(self, seconds: float = START_SECONDS) -> int:
        status = self.process.wait(seconds)
        self._reader.join(seconds)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status

    def release(self) -> None:
        """End it and its workers, which would keep its output open. Idempotent."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.wait()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(iter(self.process.stdout.readline, ""))


class Server(Process):
    """A process that answers at `url`."""

    def __init__(self, kind: str, app: str, data: Path, *options: str, cwd: Path = ROOT, **environment: str) -> None:
        brief = {"ASKSTREAM_DATA": str(data), "ASKSTREAM_DRAIN_SECONDS": "0.5"}
        with _reserved() as port:
            command = [sys.executable, "-m", *COMMANDS[kind](app, port), *options]
            super().__init__(command, cwd=cwd, **{**brief, **environment})
            self.wait_for(lambda: _ADDRESS.search(self.output) is not None and self._answers())

    @property
    def url(self) -> str:
        found = _ADDRESS.search(self.output)
        assert found, self.output
        return found[0]

    def _answers(self) -> bool:
        """Whether it answers yet. A server prints its address before it listens."""
        host, port = self.url.removeprefix("http://").split(":")
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            return False
        return True


@contextmanager
def _reserved() -> Generator[int]:
    """Reserve a port that nobody else gets, but that a server which shares its ports can listen on."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def _uvicorn(app: str, _port: int) -> list[str]:
    return ["uvicorn", app, "--port", "0"]


def _hypercorn(app: str, _port: int) -> list[str]:
    """Use uvloop: from Python 3.12 on its other worker waits for open streams without a timeout."""
    return ["hypercorn", app, "--bind", "127.0.0.1:0", "--graceful-timeout", "1", "--worker-class", "uvloop"]


def _granian(app: str, port: int) -> list[str]:
    """It doesn't print the port that it chooses for 0."""
    return ["granian", "--interface", "asgi", "--port", str(port), app]


COMMANDS: dict[str, Callable[[str, int], list[str]]] = {
    "uvicorn": _uvicorn,
    "hypercorn": _hypercorn,
    "granian": _granian,
}


class Start(Protocol):
    def __call__(self, kind: str, app: str, *options: str, cwd: Path = ROOT, **environment: str) -> Server: ...


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start servers on one data folder: `start("uvicorn", "package.module:app")`."""
    started: list[Server] = []

    def begin(kind: str, app: str, *options: str, cwd: Path = ROOT, **environment: str) -> Server:
        started.append(Server(kind, app, tmp_path / "data", *options, cwd=cwd, **environment))
        return started[-1]

    try:
        yield begin
    finally:
        for server in started:
            server.release()
