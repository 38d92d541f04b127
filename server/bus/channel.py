"""One run's recent events, and those who want the next one."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic

from askstream.server.bus.broadcast import Form, Group
from askstream.server.events import TERMINAL_TYPES, Filter
from askstream.server.events.cursor import place
from askstream.server.journal import READ_BYTES, Entry, first_bytes
from askstream.server.scheduling import FanoutScheduler

# Recent events kept for each channel. Four reads' worth: a viewer that is less than that behind never touches the disk.
RECENT_BYTES = 4 * READ_BYTES


@dataclass(slots=True)
class Channel:
    """`entries[0]` has the id `base + 1`, and the ids that follow leave no hole.

    A worked failure, against which `wait` and `Viewer.join` have no `await` between looking and waiting: the viewer has
    read up to 7, event 8 is published, and only then does the viewer begin to wait. It would sleep until event 9, or
    for ever if 8 was the last.
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
    _groups: dict[tuple[Form, Filter], Group] = field(default_factory=dict[tuple[Form, Filter], Group])
    _scheduler: FanoutScheduler = field(init=False)

    def __post_init__(self) -> None:
        self._scheduler = FanoutScheduler(self._notify)

    @property
    def last_id(self) -> int:
        return self.base + len(self.entries)

    def extend(self, entries: Sequence[Entry]) -> None:
        """Takes durable events, in order. What it has already is dropped; a hole before them empties it.

        After a hole the viewers find their cursors before `base`, and read what lies between from the journal.
        """
        last_id = self.last_id
        for entry in entries:
            match place(last_id, entry.id):
                case "new":
                    pass
                case "seen":
                    continue
                case "gap":
                    self.entries, self.base, self._size = [], entry.id - 1, 0
            last_id = entry.id
            self.entries.append(entry)
            self._size += len(entry.line)
            self.ended = self.ended or entry.event_type in TERMINAL_TYPES
        if self._size > RECENT_BYTES:
            self._trim()
        self._scheduler.schedule(len(entries))

    def after(self, cursor: int) -> list[Entry] | None:
        """Up to READ_BYTES of what follows the cursor; None where that reaches back before the channel's memory."""
        if cursor < self.base:
            return None
        return first_bytes(self.entries, cursor - self.base)

    def cut(self) -> None:
        """No more comes from here: viewers see the log end without its terminal event, and come back for it."""
        self.ended = True
        self.wake()

    async def wait(self, cursor: int, seconds: float | None = None) -> None:
        """Returns once there is something after the cursor, or a reason to look, or after so many seconds.

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
        """All viewers look for themselves, now."""
        for group in list(self._groups.values()):
            group.dismiss(ended=False)
        self._groups.clear()
        self._wake_waiting()

    def group(self, form: Form, wanted: Filter) -> Group:
        """Those who are level and want this, up to the newest event; made where there is none."""
        if (form, wanted) in self._groups:
            self._publish(self._groups[form, wanted])  # which may be too much for all of its members, and its end
        return self._groups.setdefault((form, wanted), Group(self.run_id, form, wanted, self.last_id))

    def close_empty(self, group: Group) -> None:
        if not group.members and self._groups.get(key := (group.form, group.wanted)) is group:
            del self._groups[key]

    def _notify(self) -> int:
        """Everybody; how many that may be."""
        for group in tuple(self._groups.values()):
            self._publish(group)
        if self._waiting:
            self._wake_waiting()
        return self.viewers

    def _publish(self, group: Group) -> None:
        """Brings a group up to the newest event, or lets it go where that reaches back before our memory."""
        last_id = self.last_id
        while group.cursor < last_id and group.members:
            found = self.after(group.cursor)
            if found is None:
                group.dismiss(ended=False)
            else:
                group.publish(found)
        self.close_empty(group)

    def _wake_waiting(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for news in waiting:
            _resolve(news)

    def _trim(self) -> None:
        """Forgets the older half, so that trimming costs each event once."""
        half = 0
        while self._size > RECENT_BYTES // 2 and half < len(self.entries) - 1:
            self._size -= len(self.entries[half].line)
            half += 1
        del self.entries[:half]
        self.base += half


def _resolve(news: "asyncio.Future[None]") -> None:
    if not news.done():
        news.set_result(None)
