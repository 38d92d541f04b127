"""One run's recent events, and the viewers who wait for the next one."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic

from askstream.server.bus.broadcast import Broadcast, Encoding
from askstream.server.events import TERMINAL_TYPES, Filter
from askstream.server.journal import READ_BYTES, Entry, first_bytes
from askstream.server.scheduling import FanoutScheduler

# Recent events kept for each channel. Four reads' worth: a viewer that is less than that behind never touches the disk.
RECENT_BYTES = 4 * READ_BYTES


@dataclass(slots=True)
class Channel:
    """`entries[0]` has the id `base + 1`, and the ids that follow leave no gap.

    A worked failure, against which `wait` and `Viewer.subscribe` have no `await` between looking and waiting: the
    viewer has read up to 7, event 8 is published, and only then does the viewer begin to wait. It would sleep until
    event 9, or for ever if 8 was the last.
    """

    run_id: str
    base: int = 0
    entries: list[Entry] = field(default_factory=list[Entry])
    ended: bool = False
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

        After a gap the viewers find their cursors before `base`, and read what lies between from the journal.
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
        self._scheduler.schedule(len(entries))

    def after(self, cursor: int) -> list[Entry] | None:
        """Up to READ_BYTES of what follows the cursor; None where that reaches back before the channel's memory."""
        start = cursor - self.base
        if start < 0:
            return None
        if start == len(self.entries) - 1:
            return self.entries[start:]  # the usual case: one event more
        return first_bytes(self.entries, start)

    def cut(self) -> None:
        """No more comes from here: viewers see the log end without its terminal event, and come back for it."""
        self.ended = True
        self.wake()

    async def wait(self, cursor: int, seconds: float | None = None) -> None:
        """Return once there is something after the cursor, or a reason to look, or after so many seconds.

        Safe to cancel.
        """
        if self.last_id > cursor or self.ended:
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

    def wake(self) -> None:
        """Have all viewers look for themselves, now."""
        for broadcast in list(self._broadcasts.values()):
            broadcast.detach_all(ended=False)
        self._broadcasts.clear()
        self._wake_waiting()

    def broadcast(self, encoding: Encoding, wanted: Filter) -> Broadcast:
        """The broadcast to those who are caught up and want this, up to the newest event; made where there is none."""
        if (encoding, wanted) in self._broadcasts:
            # This may be too much for all of its subscribers, and so its end.
            self._publish(self._broadcasts[encoding, wanted])
        return self._broadcasts.setdefault((encoding, wanted), Broadcast(self.run_id, encoding, wanted, self.last_id))

    def close_empty(self, broadcast: Broadcast) -> None:
        key = broadcast.encoding, broadcast.wanted
        if not broadcast.subscribers and self._broadcasts.get(key) is broadcast:
            del self._broadcasts[key]

    def _notify(self) -> int:
        """Write to all viewers; returns how many that may be."""
        for broadcast in tuple(self._broadcasts.values()):
            self._publish(broadcast)
        if self._waiting:
            self._wake_waiting()
        return self.viewers

    def _publish(self, broadcast: Broadcast) -> None:
        """Bring a broadcast up to the newest event, or detach its viewers where that reaches back before our memory."""
        last_id = self.base + len(self.entries)
        while broadcast.cursor < last_id and broadcast.subscribers:
            found = self.after(broadcast.cursor)
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
        """Drop the older half, so that trimming costs each event once."""
        half = 0
        while self._size > RECENT_BYTES // 2 and half < len(self.entries) - 1:
            self._size -= len(self.entries[half].line)
            half += 1
        del self.entries[:half]
        self.base += half


def _resolve(news: "asyncio.Future[None]") -> None:
    if not news.done():
        news.set_result(None)
