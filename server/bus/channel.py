"""One run's recent events, the viewers who wait for the next one, and broadcasts to those who are caught up.

A broadcast has the viewers who want the same events in the same encoding. They share one cursor, so each batch is
encoded once and the same bytes are written to all of them, in one pass. A viewer that falls behind is detached with the
broadcast's cursor and pulls what it lacks.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Protocol, TypeAlias

from askstream.server.bus.batch import Batch, batch_of
from askstream.server.events import TERMINAL_TYPES, Filter
from askstream.server.journal import READ_BYTES, Entry, first_bytes
from askstream.server.scheduling import FEW_VIEWERS, FanoutScheduler

log = logging.getLogger(__name__)

# Recent events kept for each channel, at most: a full memory drops its older half. Viewers that are less behind than
# what is kept don't touch the disk.
RECENT_BYTES = 4 * READ_BYTES

Write: TypeAlias = Callable[[Any], None]
"""Accepts an encoded batch at any time, without being awaited. It may detach its subscriber while it is called."""


class Encoding(Protocol):
    """Turns a batch into data for a connection. `heartbeat` breaks each silence of `heartbeat_seconds`, 0 for none.

    Equal encodings share a broadcast, so it must be hashable.
    """

    @property
    def heartbeat(self) -> Any: ...

    @property
    def heartbeat_seconds(self) -> float: ...

    def encode(self, run_id: str, batch: Batch, /) -> Any: ...


class Subscriber(Protocol):
    def on_detached(self, cursor: int, *, ended: bool) -> None:
        """Nothing more is written to it. `ended`: the terminal event was written; else it must pull from `cursor`."""
        ...


@dataclass(slots=True, eq=False)
class Broadcast:
    """Made for its first subscriber, dropped by its channel after its last."""

    run_id: str
    encoding: Encoding
    wanted: Filter
    cursor: int
    wrote_at: float = field(default_factory=monotonic)
    subscribers: dict[Subscriber, Write] = field(default_factory=dict[Subscriber, Write])
    _heartbeat_timer: asyncio.TimerHandle | None = None

    def add(self, subscriber: Subscriber, write: Write) -> None:
        self.subscribers[subscriber] = write
        if self._heartbeat_timer is None and (seconds := self.encoding.heartbeat_seconds):
            self._heartbeat_timer = asyncio.get_running_loop().call_later(seconds, self._send_heartbeat)

    def remove(self, subscriber: Subscriber) -> None:
        self.subscribers.pop(subscriber, None)
        if not self.subscribers:
            self._stop()

    def publish(self, found: Sequence[Entry]) -> None:
        """Write the entries that follow the cursor, one or more, to all subscribers."""
        before, batch = self.cursor, batch_of(found, self.cursor, self.wanted)
        # Encode before the cursor moves: if that fails, viewers are detached at the last event that was written.
        data = self.encoding.encode(self.run_id, batch) if batch.items or batch.hidden else None
        self.cursor = batch.cursor  # before the writes: one of them may unsubscribe its viewer, at this cursor
        if data is not None:
            self._write(data, before)
        if batch.ended:
            self.detach_all(ended=True)

    def detach_all(self, *, ended: bool) -> None:
        subscribers, self.subscribers = self.subscribers, {}
        self._stop()
        for subscriber in subscribers:
            try:
                subscriber.on_detached(self.cursor, ended=ended)
            except Exception:  # the edge of each connection: the others must be detached as well
                log.exception("run=%s: a viewer can't be detached", self.run_id)

    def _write(self, data: Any, before: int) -> None:
        """Write to all; detach a subscriber whose write fails at `before`. It must harm neither the others nor the run,
        whose event has just become durable."""
        self.wrote_at = monotonic()
        for subscriber, write in tuple(self.subscribers.items()):
            try:
                write(data)
            except Exception:  # the edge of each connection
                log.exception("run=%s: a viewer can't be written to", self.run_id)
                self.remove(subscriber)
                subscriber.on_detached(before, ended=False)

    def _send_heartbeat(self) -> None:
        left = self.wrote_at + self.encoding.heartbeat_seconds - monotonic()
        if left <= 0:
            self._write(self.encoding.heartbeat, self.cursor)
            left = self.encoding.heartbeat_seconds
        if self.subscribers:
            self._heartbeat_timer = asyncio.get_running_loop().call_later(left, self._send_heartbeat)

    def _stop(self) -> None:
        if self._heartbeat_timer is not None:
            self._heartbeat_timer.cancel()
            self._heartbeat_timer = None


@dataclass(slots=True)
class Channel:
    """`entries[0]` has the id `base + 1`, and the ids that follow leave no gap.

    `wait` and `Viewer.subscribe` must not `await` between looking and waiting. The failure: the viewer has read up to
    7, event 8 is published, and only then does the viewer begin to wait. It would sleep until event 9, or for ever if 8
    was the last.
    """

    run_id: str
    base: int = 0
    entries: list[Entry] = field(default_factory=list[Entry])
    ended: bool = False
    is_abandoned: bool = False
    viewers: int = 0
    writers: int = 0
    unwatched_since: float = field(default_factory=monotonic)  # when the last viewer left
    _size: int = 0
    _waiting: set[asyncio.Future[None]] = field(default_factory=set[asyncio.Future[None]])
    _broadcasts: dict[tuple[Encoding, Filter], Broadcast] = field(
        default_factory=dict[tuple[Encoding, Filter], Broadcast]
    )
    _scheduler: FanoutScheduler = field(init=False)

    def __post_init__(self) -> None:
        self._scheduler = FanoutScheduler(self._notify)

    @property
    def last_id(self) -> int:
        return self.base + len(self.entries)

    def extend(self, entries: Sequence[Entry]) -> None:
        """Add durable events, in order. Events that are here already are skipped; a gap before them empties the memory.

        After a gap the viewers' cursors lie before `base`, so they read the missing events from the journal.
        """
        for entry in entries:
            expected = self.base + len(self.entries) + 1
            if entry.id < expected:
                continue
            if entry.id > expected:
                self.entries, self.base, self._size = [], entry.id - 1, 0
            self.entries.append(entry)
            self._size += len(entry.line)
            self.ended = self.ended or entry.event_type in TERMINAL_TYPES
        if self._size > RECENT_BYTES:
            self._trim()
        if self.viewers > FEW_VIEWERS:
            self._scheduler.schedule(len(entries))
        else:
            self._notify()

    def read_after(self, cursor: int) -> list[Entry] | None:
        """Return up to READ_BYTES of entries after the cursor; None if the channel has dropped the first of them."""
        start = cursor - self.base
        if start < 0:
            return None
        if start == len(self.entries) - 1:
            return self.entries[start:]  # the usual case: one event more
        return first_bytes(self.entries, start)

    def abandon(self) -> None:
        """The run can't be followed: its viewers' next pull raises JournalError, and their clients reconnect."""
        self.is_abandoned = True
        self.detach_viewers()

    async def wait(self, cursor: int, seconds: float | None = None) -> None:
        """Return when an event follows the cursor, after `detach_viewers`, or after `seconds`. Safe to cancel."""
        if self.last_id > cursor or self.ended or self.is_abandoned:
            return
        news = asyncio.get_running_loop().create_future()
        self._waiting.add(news)
        timer = news.get_loop().call_later(seconds, _resolve, news) if seconds is not None else None
        try:
            await news
        finally:
            self._waiting.discard(news)
            if timer is not None:
                timer.cancel()

    def detach_viewers(self) -> None:
        """Detach or wake all viewers; their next pull gives the reason."""
        for broadcast in list(self._broadcasts.values()):
            broadcast.detach_all(ended=False)
        self._broadcasts.clear()
        self._wake_waiting()

    def broadcast(self, encoding: Encoding, wanted: Filter) -> Broadcast:
        """Return the broadcast for this encoding and filter, at the newest event. Make it if there is none."""
        if (encoding, wanted) in self._broadcasts:
            # This may pause all of its subscribers, which drops it.
            self._publish(self._broadcasts[encoding, wanted])
        last_id = self.base + len(self.entries)
        return self._broadcasts.setdefault((encoding, wanted), Broadcast(self.run_id, encoding, wanted, last_id))

    def close_empty(self, broadcast: Broadcast) -> None:
        key = broadcast.encoding, broadcast.wanted
        if not broadcast.subscribers and self._broadcasts.get(key) is broadcast:
            del self._broadcasts[key]

    def _notify(self) -> int:
        """Write to all viewers; return at most how many there were."""
        for broadcast in tuple(self._broadcasts.values()):
            try:
                self._publish(broadcast)
            except Exception:  # an encoding that fails must not fail the run, whose event is durable
                log.exception("run=%s: its viewers can't be written to", self.run_id)
                broadcast.detach_all(ended=False)
        if self._waiting:
            self._wake_waiting()
        return self.viewers

    def _publish(self, broadcast: Broadcast) -> None:
        """Bring a broadcast up to the newest event; detach its viewers if the channel has dropped what they lack."""
        last_id = self.base + len(self.entries)
        while broadcast.cursor < last_id and broadcast.subscribers:
            found = self.read_after(broadcast.cursor)
            if found is None:
                broadcast.detach_all(ended=False)
            else:
                broadcast.publish(found)
        if not broadcast.subscribers:
            self.close_empty(broadcast)

    def _wake_waiting(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for news in waiting:
            _resolve(news)

    def _trim(self) -> None:
        """Drop the older half at once: trimming then costs constant time for each event."""
        half = 0
        while self._size > RECENT_BYTES // 2 and half < len(self.entries) - 1:
            self._size -= len(self.entries[half].line)
            half += 1
        del self.entries[:half]
        self.base += half


def _resolve(news: "asyncio.Future[None]") -> None:
    if not news.done():
        news.set_result(None)
