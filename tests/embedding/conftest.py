"""Our application under ASGI servers that aren't ours, as real processes on free ports."""

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
# What the shell that runs the tests may hold and no test may see.
_OUTSIDE = ("OPENAI_", "AZURE_", "ASKSTREAM_", "LOG_LEVEL", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS")
_ADDRESS = re.compile(r"http://127\.0\.0\.1:([1-9]\d*)")


class Process:
    """A program of a test's own. `lines` is what it has written so far."""

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
        """Sends the signal; the exit status, negative for a signal."""
        self.process.send_signal(number)
        return self.wait(seconds)

    def wait(self, seconds: float = START_SECONDS) -> int:
        status = self.process.wait(seconds)
        self._reader.join(seconds)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status

    def release(self) -> None:
        """Ends it with its workers, which keep what they write to open otherwise. Idempotent."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.wait()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(iter(self.process.stdout.readline, ""))


class Server(Process):
    """`url` is where it answers."""

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
        """A server writes where it listens before it does."""
        host, port = self.url.removeprefix("http://").split(":")
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            return False
        return True


@contextmanager
def _reserved() -> Generator[int]:
    """A port that nobody else gets meanwhile, and that a server which shares its ports can still listen on."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def _uvicorn(app: str, _port: int) -> list[str]:
    return ["uvicorn", app, "--port", "0"]


def _hypercorn(app: str, _port: int) -> list[str]:
    """On uvloop: from Python 3.12 on its other worker waits for open streams without end, whatever the timeout."""
    return ["hypercorn", app, "--bind", "127.0.0.1:0", "--graceful-timeout", "1", "--worker-class", "uvloop"]


def _granian(app: str, port: int) -> list[str]:
    """It doesn't say which port a 0 became."""
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
    """Starts servers on one data folder: `start("uvicorn", "package.module:app")`."""
    started: list[Server] = []

    def begin(kind: str, app: str, *options: str, cwd: Path = ROOT, **environment: str) -> Server:
        started.append(Server(kind, app, tmp_path / "data", *options, cwd=cwd, **environment))
        return started[-1]

    try:
        yield begin
    finally:
        for server in started:
            server.release()
