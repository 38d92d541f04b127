"""One pass over the viewers of a run who are caught up and want the same events in the same encoding.

They share one cursor, so each batch is encoded once and the same bytes are written to all of them. A viewer that
falls behind is detached with the broadcast's cursor and pulls what it lacks.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Protocol, TypeAlias

from askstream.server.bus.batch import Batch, batch_of
from askstream.server.events import Filter
from askstream.server.journal import Entry

log = logging.getLogger(__name__)

Write: TypeAlias = Callable[[Any], None]
"""Accepts an encoded batch at any time, without being awaited. It may detach its subscriber while it is called."""


class Encoding(Protocol):
    """What a connection is given for a batch. `heartbeat` breaks each silence of `heartbeat_seconds`; None means none.

    Equal encodings share a broadcast, so it must be hashable.
    """

    @property
    def heartbeat(self) -> Any: ...

    @property
    def heartbeat_seconds(self) -> float: ...

    def encode(self, run_id: str, batch: Batch, /) -> Any: ...


class Subscriber(Protocol):
    def on_detached(self, cursor: int, *, ended: bool) -> None:
        """Nothing more is written to it. `ended`: the terminal event was written; else there is something to pull."""
        ...


class Broadcast:
    """Made for its first subscriber, dropped by its channel after its last."""

    __slots__ = ("_heart", "cursor", "encoding", "run_id", "subscribers", "wanted", "wrote_at")

    def __init__(self, run_id: str, encoding: Encoding, wanted: Filter, cursor: int) -> None:
        self.run_id, self.encoding, self.wanted, self.cursor = run_id, encoding, wanted, cursor
        self.wrote_at = monotonic()
        self.subscribers: dict[Subscriber, Write] = {}
        self._heart: asyncio.TimerHandle | None = None

    def add(self, subscriber: Subscriber, write: Write) -> None:
        self.subscribers[subscriber] = write
        if self._heart is None and self.encoding.heartbeat is not None:
            self._beat()

    def remove(self, subscriber: Subscriber) -> None:
        self.subscribers.pop(subscriber, None)
        if not self.subscribers:
            self._stop()

    def publish(self, found: Sequence[Entry]) -> None:
        """Write the entries that follow the cursor, one or more, to all subscribers."""
        before, batch = self.cursor, batch_of(found, self.cursor, self.wanted)
        self.cursor = batch.cursor
        if batch.items or batch.hidden:
            self._write(self.encoding.encode(self.run_id, batch), before)
        if batch.ended:
            self.detach_all(ended=True)

    def detach_all(self, *, ended: bool) -> None:
        subscribers, self.subscribers = self.subscribers, {}
        self._stop()
        for subscriber in subscribers:
            subscriber.on_detached(self.cursor, ended=ended)

    def _write(self, data: Any, before: int) -> None:
        """A subscriber that can't be written to is detached at `before`. It must harm neither the others nor the run,
        whose event has just become durable."""
        self.wrote_at = monotonic()
        for subscriber, write in tuple(self.subscribers.items()):
            try:
                write(data)
            except Exception:  # the edge of each connection
                log.exception("run=%s: a viewer can't be written to", self.run_id)
                self.remove(subscriber)
                subscriber.on_detached(before, ended=False)

    def _beat(self) -> None:
        left = self.wrote_at + self.encoding.heartbeat_seconds - monotonic()
        if left <= 0:
            self._write(self.encoding.heartbeat, self.cursor)
            left = self.encoding.heartbeat_seconds
        if self.subscribers:
            self._heart = asyncio.get_running_loop().call_later(left, self._beat)

    def _stop(self) -> None:
        if self._heart is not None:
            self._heart.cancel()
            self._heart = None
