"""What a transport is, and which there are. A new one is a new file and one row in the table below.

A transport can also come from outside: a name of the form `package.module:attribute` is taken as it stands.
"""

import importlib
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, TypeAlias

from starlette.routing import BaseRoute
from starlette.types import Scope

from server.ask import QUESTION_CHARACTERS
from server.bus import Bus, Missing
from server.events import Drain, Gap, Notice, NoticeBody, encode_notice
from server.protocols import EXTENSION
from server.runs import Runs

# Contract section 3: proxies close what is silent for a minute; half of the shortest common time-out is safe.
HEARTBEAT_SECONDS = 15.0
# Contract section 5, promise 2: how long a viewer may take nothing before it is cut.
SEND_SECONDS = 15.0
# Contract section 5, promise 9: over how long those who are sent away are told to come back.
SPREAD_MS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What a transport is given to work with. Times in seconds."""

    runs: Runs
    bus: Bus
    question_characters: int = QUESTION_CHARACTERS
    heartbeat_seconds: float = HEARTBEAT_SECONDS
    send_seconds: float = SEND_SECONDS


def gap_line(run_id: str, missing: Missing) -> bytes:
    """The notice for events that a viewer asked for and that the journal no longer has."""
    body = Gap(from_=missing.first, to=missing.last, reason="trimmed")
    return _notice(run_id, f"Events {missing.first} to {missing.last} are no longer kept.", body)


def drain_line(run_id: str, retry_ms: int) -> bytes:
    """The notice that this server is going away."""
    return _notice(run_id, "This server is going away; the run goes on. Reconnect.", Drain(retry_ms=retry_ms))


def retry_spread() -> int:
    """After how many milliseconds one of many viewers should come back, so that they don't come all at once."""
    return random.randrange(SPREAD_MS)  # noqa: S311 - no secret: it only spreads


def _notice(run_id: str, message: str, body: NoticeBody) -> bytes:
    return encode_notice(Notice(run_id, datetime.now(UTC), message, body))


def abort(scope: Scope) -> bool:
    """Cuts the connection at once, with what is buffered for it. Whether the server lets us."""
    offered = scope.get("extensions", {}).get(EXTENSION)
    if offered is None:
        return False
    offered["abort"]()
    return True


class Transport(Protocol):
    """Carries encoded events from the bus to viewers, byte for byte, and their commands to the runs."""

    def routes(self) -> Sequence[BaseRoute]: ...


Factory: TypeAlias = Callable[[House], Transport]

TRANSPORTS = {"sse": "transports.sse:Sse", "websocket": "transports.websocket:WebSockets"}


def factories(names: Iterable[str]) -> list[Factory]:
    """What makes the transports of these names. ValueError for one that is neither in the table nor importable."""
    return [_factory(name) for name in names]


def _factory(name: str) -> Factory:
    module, _, attribute = TRANSPORTS.get(name, name).partition(":")
    try:
        factory: Factory = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as problem:
        expected = f"one of {sorted(TRANSPORTS)} or package.module:attribute"
        raise ValueError(f"expected the name of a transport, {expected}, got {name!r}") from problem
    return factory
