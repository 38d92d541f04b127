"""One subscription of one client to one run: a cursor that pulls, or that a broadcast moves.

behind:     `next` or `step` pulls from the channel's memory, or older events from the journal
caught up:  `subscribe` succeeds; a broadcast moves the cursor and writes to the client
detached:   the client is slow, or the broadcast ends: behind again, from the last event that was written

transports/delivery.py explains who switches, and why no event is lost or repeated.
"""

from time import monotonic
from typing import TYPE_CHECKING, Protocol

from askstream.server.bus.batch import Batch, batch_of
from askstream.server.bus.channel import Broadcast, Channel, Encoding, Write
from askstream.server.events import Filter, Gap
from askstream.server.events.errors import JournalError
from askstream.server.journal import Entry, Journal

if TYPE_CHECKING:
    from askstream.server.bus.bus import Bus


class ViewerHandler(Protocol):
    """Called when the broadcast stops writing to the viewer."""

    def on_ended(self) -> None:
        """The terminal event has been written; nothing follows."""
        ...

    def on_detached(self) -> None:
        """The broadcast writes no more: pull. The next batch gives the reason."""
        ...


class Viewer:
    """Made by `Bus.attach`; must be closed."""

    __slots__ = (
        "_broadcast", "_bus", "_channel", "_cursor", "_drain_count", "_handler", "_is_behind", "_journal", "is_closed",
        "run_id", "wanted",
    )  # fmt: skip

    def __init__(self, bus: "Bus", journal: Journal, channel: Channel, cursor: int, wanted: Filter) -> None:
        self._bus, self._journal, self._channel = bus, journal, channel
        self.run_id, self._cursor, self.wanted = channel.run_id, cursor, wanted
        self._drain_count = bus.drain_count
        self._broadcast: Broadcast | None = None
        self._handler: ViewerHandler | None = None
        self._is_behind = False  # more events follow than the last read returned
        self.is_closed = False
        channel.viewers += 1

    @property
    def cursor(self) -> int:
        """The last id that this viewer has passed."""
        return self._broadcast.cursor if self._broadcast is not None else self._cursor

    @property
    def wrote_at(self) -> float:
        """Time of its broadcast's last write, by the monotonic clock; 0 for a viewer that pulls."""
        return self._broadcast.wrote_at if self._broadcast is not None else 0.0

    async def next(self, seconds: float | None = None) -> Batch:
        """Wait until there is something new for this viewer, and return all of it up to READ_BYTES.

        A batch without items means that the cursor moved over hidden events, that no more comes, or, if `has_news`
        is False, that `seconds` have passed. Safe to cancel.
        """
        deadline = monotonic() + seconds if seconds is not None else None
        while True:
            left = deadline - monotonic() if deadline is not None else None
            batch = await self.step(left)
            if batch.has_news or (left is not None and left <= 0):
                return batch

    async def step(self, seconds: float | None = None) -> Batch:
        """As `next`, but return after one read or one wait, even without news. Raises JournalError."""
        if self._drain_count != self._bus.drain_count:
            return Batch([], self._cursor, drained=True)
        if self._is_behind:
            await self._bus.replay_gate.enter()
        found = await self._pull()
        if found:
            batch = batch_of(found, self._cursor, self.wanted)
            self._cursor = batch.cursor
            self._is_behind = self._cursor < self._channel.last_id
            return batch
        if self._channel.ended:
            return self._end()
        if self._channel.is_abandoned:
            raise JournalError("the run can't be followed")
        await self._channel.wait(self._cursor, seconds)
        return Batch([], self._cursor)

    def subscribe(self, handler: ViewerHandler, write: Write, encoding: Encoding) -> bool:
        """`write` what the viewer lacks, and have the run's broadcast write what follows, until `unsubscribe` or a call
        to `handler`.

        Returns False without effect if the viewer must pull: one read from the channel's memory doesn't bring it up to
        date, the log has ended, or the server drains. Nothing is published between looking and subscribing, because
        there is no `await`. `write` comes last, since it may unsubscribe the viewer.
        """
        channel = self._channel
        found = channel.read_after(self._cursor)
        is_behind = found is None or self._cursor + len(found) != channel.base + len(channel.entries)
        is_over = channel.ended or channel.is_abandoned or self._drain_count != self._bus.drain_count
        if found is None or is_behind or is_over or self.is_closed:
            return False
        batch = batch_of(found, self._cursor, self.wanted) if found else None
        # Encoded before it subscribes: an encoding that fails must not leave a subscriber that lacks these events.
        data = encoding.encode(self.run_id, batch) if batch is not None and (batch.items or batch.hidden) else None
        self._handler, self._broadcast = handler, channel.broadcast(encoding, self.wanted)
        self._broadcast.add(self, write)
        if data is not None:
            write(data)
        return True

    def unsubscribe(self) -> None:
        """Pull from now on, from the last event that was written. Idempotent."""
        if self._broadcast is not None:
            self._cursor = self._broadcast.cursor
            self._broadcast.remove(self)
            self._channel.close_empty(self._broadcast)
            self._broadcast = self._handler = None

    def on_detached(self, cursor: int, *, ended: bool) -> None:
        """Called by the broadcast."""
        handler, self._handler, self._broadcast, self._cursor = self._handler, None, None, cursor
        if handler is not None:
            handler.on_ended() if ended else handler.on_detached()

    def close(self) -> None:
        """Idempotent."""
        if not self.is_closed:
            self.is_closed = True
            self.unsubscribe()
            self._bus.release(self._channel)

    async def _pull(self) -> list[Entry]:
        recent = self._channel.read_after(self._cursor)
        if recent is not None:
            return recent
        return await self._journal.read(self.run_id, self._cursor)

    def _end(self) -> Batch:
        """Return the end of a log of which no entry is left. Events that the viewer lacks were dropped: a gap."""
        last_id = self._channel.last_id
        if self._cursor >= last_id:
            return Batch([], self._cursor, ended=True)
        first, self._cursor = self._cursor + 1, last_id
        return Batch([Gap(from_=first, to=last_id, reason="trimmed")], last_id, ended=True)
