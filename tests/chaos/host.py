"""A server that is killed, stopped and restarted over one data folder, and its clients' errors."""

import asyncio
import contextlib
import re
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from websockets.exceptions import WebSocketException

from tests.chaos.resource_usage import ResourceUsage
from tests.e2e.conftest import ServerProcess
from tests.e2e.viewers import client_of
from tests.timing import MS

SEND_SECONDS = 1000 * MS
DRAIN_SECONDS = 500 * MS
INPUT_SECONDS = 2000 * MS
# Short times, so that every timeout fires within the test.
SETTINGS = {
    "ASKSTREAM_SEND_SECONDS": str(SEND_SECONDS),
    "ASKSTREAM_DRAIN_SECONDS": str(DRAIN_SECONDS),
    "ASKSTREAM_INPUT_SECONDS": str(INPUT_SECONDS),
    "ASKSTREAM_ORPHAN_SECONDS": "3",
    "ASKSTREAM_HEARTBEAT_SECONDS": "0.3",
    "ASKSTREAM_ACTIVE_RUNS": "500",
    "ASKSTREAM_PRINCIPAL_RUNS": "500",
    "ASKSTREAM_RUN_STARTS": "100000",
    "ASKSTREAM_PRINCIPAL_CONNECTIONS": "10000",
    "ASKSTREAM_TRANSPORTS": '["sse", "websocket", "tests.chaos.resource_usage:UsageTransport"]',
    "LOG_LEVEL": "WARNING",
}
# The longest stop: the drain, 5 s for a team that ignores its cancel, 3 s for connections, and a busy machine.
STOP_SECONDS = DRAIN_SECONDS + 5 + 3 + 5000 * MS
# Between two tries of a client whose server is down.
RETRY_SECONDS = 50 * MS
# Texts that must never be in a server's output.
UNHEARD_OF = (
    "Exception in ASGI",
    "without completing",
    "never retrieved",
    "was destroyed",
    "can't be followed",
    "Traceback",
    "unhandled",
)


class Lost(Exception):
    """The connection or the server is gone. The client tries again."""


@contextlib.contextmanager
def faults() -> Generator[None]:
    """Turn every error that a network or a dying server causes into Lost."""
    try:
        yield
    except (httpx2.HTTPError, WebSocketException, OSError, TimeoutError) as fault:
        raise Lost(repr(fault)) from fault


@dataclass(slots=True)
class Host:
    """`url` is the current address; `kills` and `stops` count how often it went down."""

    data: Path
    options: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=dict[str, str])
    kills: int = 0
    stops: int = 0
    slowest_stop: float = 0.0
    _process: ServerProcess | None = None
    _up: asyncio.Event = field(default_factory=asyncio.Event)
    _said: list[str] = field(default_factory=list[str])

    @property
    def process(self) -> ServerProcess:
        assert self._process is not None
        return self._process

    @property
    def output(self) -> str:
        return "".join(self._said) + (self._process.output if self._process else "")

    @property
    def complaints(self) -> list[str]:
        """Records in the servers' output with a text that must never appear. A team's own failures may be reported."""
        records = re.split(r"\n(?=\d{4}-\d\d-\d\d )", self.output)
        ours = [record for record in records if "this turn fails" not in record]
        return [record for record in ours if any(word in record for word in UNHEARD_OF)]

    async def url(self) -> str:
        """Wait until a server is up."""
        await self._up.wait()
        return self.process.url

    async def begin(self) -> None:
        environment = {**SETTINGS, **self.settings}
        self._process = await asyncio.to_thread(lambda: ServerProcess(self.data, *self.options, **environment))
        self._up.set()

    async def kill(self) -> None:
        await self._end(self.process.kill, -9)
        self.kills += 1

    async def stop(self) -> None:
        """Send SIGTERM. Raises AssertionError if the server doesn't end in time with exit status 0."""
        began = time.monotonic()
        await self._end(self.process.stop, 0)
        self.stops += 1
        self.slowest_stop = max(self.slowest_stop, took := time.monotonic() - began)
        assert took < STOP_SECONDS, f"a drained server took {took:.1f} s to end"

    async def release(self) -> None:
        """Kill the process if it is still there, after a failure."""
        if self._process is not None:
            await asyncio.to_thread(self._process.release)

    async def _end(self, end: Callable[[], int], expected: int) -> None:
        self._up.clear()
        status = await asyncio.to_thread(end)
        self._said.append(self.process.output)
        assert status == expected, f"expected exit status {expected}, got {status}\n{self.output[-4000:]}"

    async def ended(self, run_id: str) -> dict[str, Any]:
        """The run's resource, once it has ended."""
        while (run := await self.get(f"/runs/{run_id}"))["ended_at"] is None:  # noqa: ASYNC110
            await asyncio.sleep(RETRY_SECONDS)
        return run

    async def held(self) -> ResourceUsage:
        return ResourceUsage.of(await self.get("/gauge"))

    async def get(self, path: str) -> Any:
        """Return JSON from the server; retry while it is down."""
        while True:
            with contextlib.suppress(Lost):
                return await self.got(path)
            await asyncio.sleep(RETRY_SECONDS)

    async def got(self, path: str) -> Any:
        with faults():
            async with client_of(await self.url()) as client:
                answer = await client.get(path)
                answer.raise_for_status()
                return answer.json()
