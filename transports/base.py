"""The protocol of a transport, the context that it works with, and the table of transports.

A new one is a new file, a row in the table, and its name in the setting `transports`. That also takes
`package.module:attribute`.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeAlias, TypeVar

from starlette.routing import BaseRoute

from askstream.server import plugins
from askstream.server.auth import LiveStreams
from askstream.server.bus import Bus
from askstream.server.connections import InboundLimits, PrincipalConnections
from askstream.server.events.errors import AskstreamError
from askstream.server.requests import QUESTION_CHARACTERS
from askstream.server.runs import Runs

log = logging.getLogger("__main__")
T = TypeVar("T")

# Proxies close a connection that is silent for a minute; half of the shortest common timeout is safe.
HEARTBEAT_SECONDS = 15.0
# PROTOCOL.md, promise 2: how long a viewer may read nothing before it is cut.
SEND_SECONDS = 15.0


class Tasks:
    """Tasks that no request waits for."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def spawn(
        self, work: Coroutine[Any, Any, T], ended: Callable[[asyncio.Task[T]], None] | None = None
    ) -> asyncio.Task[T]:
        """Run `work`. `ended` gets the finished task; without `ended`, an exception is logged.

        The task gets its own context: one that is created while a run publishes would inherit the run's, and the run's
        end cancels all tasks in that. The viewer would get nothing more.
        """
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(ended or _log_failure)
        return task

    async def close(self) -> None:
        """Cancel all running tasks, and wait for them."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)


def _log_failure(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (problem := task.exception()) is not None:
        log.error("a viewer's task failed", exc_info=problem)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportContext:
    """All that a transport may use of the server. Times in seconds."""

    runs: Runs
    bus: Bus
    tasks: Tasks = field(default_factory=Tasks)
    streams: LiveStreams = field(default_factory=partial(LiveStreams, lambda _: True))
    question_characters: int = QUESTION_CHARACTERS
    heartbeat_seconds: float = HEARTBEAT_SECONDS
    send_seconds: float = SEND_SECONDS
    inbound: InboundLimits = field(default_factory=InboundLimits)
    connections: PrincipalConnections = field(default_factory=PrincipalConnections)


def loggable(problem: BaseException) -> str:
    """Return an error's text for the log; only the type if its text may quote a client or a model."""
    return str(problem) if isinstance(problem, AskstreamError) else type(problem).__name__


class Transport(Protocol):
    """Carries encoded events from the bus to viewers, byte for byte, and their commands to the runs."""

    def routes(self) -> Sequence[BaseRoute]: ...


TransportFactory: TypeAlias = Callable[[TransportContext], Transport]

TRANSPORTS = {
    "sse": "askstream.transports.sse:Sse",
    "websocket": "askstream.transports.websocket.endpoint:WebSockets",
}


def factories(names: Iterable[str]) -> list[TransportFactory]:
    """Return the factories of these transports. Raises ValueError for a name that is not in the table or importable."""
    return [plugins.named(name, TRANSPORTS, "a transport") for name in names]
