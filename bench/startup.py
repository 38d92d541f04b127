"""How long the process takes until it says anything."""

import http.client
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench import servers
from bench.builds import Unmeasurable

COMMAND = Path(sys.prefix) / "bin" / "askstream"
_LONGEST = 60.0
# Between two looks whether it answers: small beside what is measured, and cheap for who starts.
_LOOK = 0.01


def help_seconds(times: int) -> float:
    """`askstream --help`, from exec to exit."""
    return statistics.median(_run([str(COMMAND), "--help"]) for _ in range(times))


def python_seconds(times: int) -> float:
    """The interpreter alone."""
    return statistics.median(_run(servers.python("-c", "pass")) for _ in range(times))


def serve_seconds(times: int) -> tuple[float, float]:
    """`askstream serve`, from exec to the first answer of /health: in an empty data folder, and in a used one."""
    fresh: list[float] = []
    again: list[float] = []
    for _ in range(times):
        with tempfile.TemporaryDirectory(prefix="askstream-bench-") as folder:
            fresh.append(_first_answer(_serve(folder)))
            again.append(_first_answer(_serve(folder)))
    return statistics.median(fresh), statistics.median(again)


def starlette_seconds(times: int) -> float:
    """The smallest peer: Starlette and uvicorn alone."""
    peer = servers.STREAMING
    return statistics.median(
        _first_answer(peer.command(port, Path()), port, peer.environment)
        for port in (servers.free_port() for _ in range(times))
    )


def _serve(folder: str) -> list[str]:
    return [str(COMMAND), "serve", "--data", folder]


def _run(command: Sequence[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env=servers.environment({}))
    return time.perf_counter() - began


def _first_answer(command: Sequence[str], port: int = 0, extra: Mapping[str, str] | None = None) -> float:
    if not port:
        port = servers.free_port()
        command = [*command, "--port", str(port)]
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=servers.ROOT,
        env=servers.environment(extra or {}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not _answers(port):
            if process.poll() is not None or time.perf_counter() - began > _LONGEST:
                raise Unmeasurable(f"{command[0]} does not answer")
            time.sleep(_LOOK)
        return time.perf_counter() - began
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
