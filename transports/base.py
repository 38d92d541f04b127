"""What a transport is, and which there are. A new one is a new file and one row in the table below.

A transport can also come from outside: a name of the form `package.module:attribute` is taken as it stands.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol, TypeAlias, TypeVar

from starlette.routing import BaseRoute, WebSocketRoute
from starlette.types import Scope
from starlette.websockets import WebSocket

from askstream.server import plugins
from askstream.server.bus import Batch, Bus, Missing
from askstream.server.connections.direct import Connection, Owner
from askstream.server.connections.uvicorn import EXTENSION, Welcome
from askstream.server.events import Drain, Gap, Notice, NoticeBody, encode_notice
from askstream.server.events.errors import AskstreamError
from askstream.server.journal import Entry
from askstream.server.requests import QUESTION_CHARACTERS
from askstream.server.runs import Runs

log = logging.getLogger("__main__")
T = TypeVar("T")

# Contract section 3: proxies close what is silent for a minute; half of the shortest common time-out is safe.
HEARTBEAT_SECONDS = 15.0
# Contract section 5, promise 2: how long a viewer may take nothing before it is cut.
SEND_SECONDS = 15.0
# Contract section 5, promise 9: over how long those who are sent away are told to come back.
SPREAD_MS = 10_000


class Tasks:
    """Work that no request waits for."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def spawn(
        self, work: Coroutine[Any, Any, T], ended: Callable[[asyncio.Task[T]], None] | None = None
    ) -> asyncio.Task[T]:
        """Runs it. `ended` takes what came of it; without one, what it raises is logged."""
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(ended or _complain)
        return task

    async def close(self) -> None:
        """Ends what is still at work."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)


def _complain(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (problem := task.exception()) is not None:
        log.error("a viewer's task failed", exc_info=problem)


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What a transport is given to work with. Times in seconds.

    `direct`: where the server lets us, viewers' connections are written to without a task for each.
    """

    runs: Runs
    bus: Bus
    tasks: Tasks = field(default_factory=Tasks)
    question_characters: int = QUESTION_CHARACTERS
    heartbeat_seconds: float = HEARTBEAT_SECONDS
    send_seconds: float = SEND_SECONDS
    direct: bool = True


def gap_line(run_id: str, missing: Missing) -> bytes:
    """The notice for events that a viewer asked for and that the journal no longer has."""
    body = Gap(from_=missing.first, to=missing.last, reason="trimmed")
    return _notice(run_id, f"Events {missing.first} to {missing.last} are no longer kept.", body)


def drain_line(run_id: str, retry_ms: int) -> bytes:
    """The notice that this server is going away."""
    return _notice(run_id, "This server is going away; the run goes on. Reconnect.", Drain(retry_ms=retry_ms))


def lines(run_id: str, batch: Batch) -> Iterator[bytes]:
    """The texts of a batch, in order: what a transport without any framing of its own sends."""
    for item in batch.items:
        yield item.line if isinstance(item, Entry) else gap_line(run_id, item)
    if batch.drained:
        yield drain_line(run_id, retry_spread())


def retry_spread() -> int:
    """After how many milliseconds one of many viewers should come back, so that they don't come all at once."""
    return random.randrange(SPREAD_MS)  # noqa: S311 - no secret: it only spreads


def _notice(run_id: str, message: str, body: NoticeBody) -> bytes:
    return encode_notice(Notice(run_id, datetime.now(UTC), message, body))


def offered(scope: Scope) -> dict[str, Any]:
    """What the server lets us do with this connection itself; nothing, under servers that aren't ours."""
    return scope.get("extensions", {}).get(EXTENSION, {})


def abort(scope: Scope) -> bool:
    """Cuts the connection at once, with what is buffered for it. Whether the server lets us."""
    cut = offered(scope).get("abort")
    if cut is not None:
        cut()
    return cut is not None


def take(scope: Scope, owner: Owner) -> Connection | None:
    """The connection itself, to be written to by `owner`; None where the server doesn't let us."""
    give: Callable[[Owner], Connection | None] | None = offered(scope).get("take")
    return give(owner) if give is not None else None


def told(problem: BaseException) -> str:
    """An error as a log may have it: what isn't ours may hold what a client or a model said."""
    return str(problem) if isinstance(problem, AskstreamError) else type(problem).__name__


class Transport(Protocol):
    """Carries encoded events from the bus to viewers, byte for byte, and their commands to the runs."""

    def routes(self) -> Sequence[BaseRoute]: ...


class SocketRoute(WebSocketRoute):
    """The address of WebSockets that a server may take in by itself: to `welcome` goes who needs no request for that.
    `endpoint` has the others, and everybody under other servers.
    """

    def __init__(self, path: str, endpoint: Callable[[WebSocket], Awaitable[None]], welcome: Welcome) -> None:
        super().__init__(path, endpoint)
        self.welcome = welcome


Factory: TypeAlias = Callable[[House], Transport]

TRANSPORTS = {"sse": "askstream.transports.sse:Sse", "websocket": "askstream.transports.websocket.endpoint:WebSockets"}


def factories(names: Iterable[str]) -> list[Factory]:
    """What makes the transports of these names. ValueError for one that is neither in the table nor importable."""
    return [plugins.named(name, TRANSPORTS, "a transport") for name in names]
