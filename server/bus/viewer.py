"""One subscription of one client to one run: a cursor that pulls, or that its group moves."""

from time import monotonic
from typing import TYPE_CHECKING, Protocol

from askstream.server.bus.batch import Batch, Missing, batch_of
from askstream.server.bus.broadcast import Form, Group, Write
from askstream.server.bus.channel import Channel
from askstream.server.events import Filter
from askstream.server.journal import Entry, Journal

if TYPE_CHECKING:
    from askstream.server.bus.bus import Bus


class Listener(Protocol):
    """A connection that takes bytes at any time."""

    @property
    def write(self) -> Write: ...

    def ended(self) -> None:
        """The terminal event has been written; nothing follows."""
        ...

    def dismissed(self) -> None:
        """No more comes by itself: pull, and learn why."""
        ...


class Viewer:
    """Made by `Bus.attach`, given back with `close`."""

    __slots__ = (
        "_bus", "_channel", "_cursor", "_epoch", "_group", "_is_behind", "_journal", "_listener", "is_closed", "wanted"
    )  # fmt: skip

    def __init__(self, bus: "Bus", journal: Journal, channel: Channel, cursor: int, wanted: Filter) -> None:
        self._bus, self._journal, self._channel = bus, journal, channel
        self._cursor, self.wanted = cursor, wanted
        self._epoch = bus.epoch
        self._group: Group | None = None
        self._listener: Listener | None = None
        self._is_behind = False  # by more than the last read gave
        self.is_closed = False
        channel.viewers += 1

    @property
    def run_id(self) -> str:
        return self._channel.run_id

    @property
    def cursor(self) -> int:
        """The last id that this viewer has passed."""
        return self._group.cursor if self._group is not None else self._cursor

    @property
    def wrote_at(self) -> float:
        """When its group wrote last, by the monotonic clock; 0 for a viewer that pulls."""
        return self._group.wrote_at if self._group is not None else 0.0

    async def next(self, seconds: float | None = None) -> Batch:
        """Waits until there is something new for this viewer, and returns all of it up to READ_BYTES.

        A batch without entries tells that the cursor moved over hidden events, that no more comes, or, where it says
        nothing at all, that so many seconds have passed. Safe to cancel.
        """
        deadline = monotonic() + seconds if seconds is not None else None
        while True:
            left = deadline - monotonic() if deadline is not None else None
            batch = await self.step(left)
            if batch.says_something or (left is not None and left <= 0):
                return batch

    async def step(self, seconds: float | None = None) -> Batch:
        """As `next`, but it returns as soon as the cursor has moved or may, also where that says nothing."""
        if self._epoch != self._bus.epoch:
            return Batch([], self._cursor, drained=True)
        if self._is_behind:
            await self._bus.replays.enter()
        found = await self._pull()
        if found:
            batch = batch_of(found, self._cursor, self.wanted)
            self._cursor = batch.cursor
            self._is_behind = self._cursor < self._channel.last_id
            return batch
        if self._channel.ended:
            return self._rest()
        await self._channel.wait(self._cursor, seconds)
        return Batch([], self._cursor)

    def join(self, listener: Listener, form: Form) -> bool:
        """What follows the cursor goes to `listener` by itself from now on, until `leave` or until it is told.

        False, and nothing has changed, where there is something to pull first.
        """
        channel = self._channel
        if self.is_closed or channel.ended or self._cursor != channel.last_id or self._epoch != self._bus.epoch:
            return False
        self._listener, self._group = listener, channel.group(form, self.wanted)
        self._group.add(self, listener.write)
        return True

    def leave(self) -> None:
        """From now on this viewer pulls, from behind the last event that was written."""
        if self._group is not None:
            self._cursor = self._group.cursor
            self._group.remove(self)
            self._channel.close_empty(self._group)
            self._group = self._listener = None

    def dismissed(self, cursor: int, *, ended: bool) -> None:
        """Called by the group."""
        listener, self._listener, self._group, self._cursor = self._listener, None, None, cursor
        if listener is not None:
            listener.ended() if ended else listener.dismissed()

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self.leave()
            self._bus.release(self._channel)

    async def _pull(self) -> list[Entry]:
        recent = self._channel.after(self._cursor)
        if recent is not None:
            return recent
        return await self._journal.read(self.run_id, self._cursor)

    def _rest(self) -> Batch:
        """The end of a log of which nothing is left: who hasn't seen all of it is told what was dropped meanwhile."""
        last_id = self._channel.last_id
        if self._cursor >= last_id:
            return Batch([], self._cursor, ended=True)
        first, self._cursor = self._cursor + 1, last_id
        return Batch([Missing(first, last_id)], last_id, ended=True)
