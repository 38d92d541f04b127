"""Publish and subscribe. A viewer is a cursor into a run's log; there is no queue for anybody.

Each run that is being written or watched has a channel: its recent events, as encoded bytes, and the viewers who wait
for the next one. A viewer pulls from its cursor: from the channel where that reaches back far enough, else from the
journal. So a slow viewer costs nothing but its cursor, and attaching leaves no hole: whatever is published between
reading the history and waiting is simply behind the cursor when the viewer pulls again.

A worked failure, against which `Channel.wait` has no `await` between looking and waiting: the viewer has read up to 7,
event 8 is published, and only then does the viewer begin to wait. It would sleep until event 9, or for ever if 8 was
the last.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic

from server.events import EVERYTHING, TERMINAL_TYPES, Filter
from server.events.cursor import place
from server.journal import READ_BYTES, Entry, Journal

log = logging.getLogger(__name__)

# Recent events kept for each channel. Four reads' worth: a viewer that is less than that behind never touches the disk.
RECENT_BYTES = 4 * READ_BYTES


@dataclass(frozen=True, slots=True)
class Missing:
    """Events that this viewer asked for and that the journal no longer has: the first and last id."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Batch:
    """What a viewer gets in one pull, in order. `cursor` is the last id passed, hidden events included.

    `hidden` says that the newest of them is hidden from this viewer. `ended`: the log is complete, and the viewer has
    passed all of it. `drained`: this server is going away; what comes next has to be asked of another.
    """

    items: list[Entry | Missing]
    cursor: int
    hidden: bool = False
    ended: bool = False
    drained: bool = False

    @property
    def entries(self) -> list[Entry]:
        return [item for item in self.items if isinstance(item, Entry)]


@dataclass(slots=True)
class Channel:
    """One run's recent events: `entries[0]` has the id `base + 1`, and the ids that follow leave no hole."""

    run_id: str
    base: int = 0
    entries: list[Entry] = field(default_factory=list[Entry])
    ended: bool = False
    viewers: int = 0
    writers: int = 0
    unwatched_since: float = field(default_factory=monotonic)  # when the last viewer left
    _size: int = 0
    _waiting: set[asyncio.Future[None]] = field(default_factory=set[asyncio.Future[None]])

    @property
    def last_id(self) -> int:
        return self.base + len(self.entries)

    def extend(self, entries: Sequence[Entry]) -> None:
        """Takes durable events, in order. What it has already is dropped; a hole before them empties it.

        After a hole the viewers find their cursors before `base`, and read what lies between from the journal.
        """
        for entry in entries:
            match place(self.last_id, entry.id):
                case "seen":
                    continue
                case "gap":
                    self.entries, self.base, self._size = [], entry.id - 1, 0
                case "new":
                    pass
            self.entries.append(entry)
            self._size += len(entry.line)
            self.ended = self.ended or entry.event_type in TERMINAL_TYPES
        self._trim()
        self.wake()

    def after(self, cursor: int) -> list[Entry] | None:
        """Up to READ_BYTES of what follows the cursor; None where that reaches back before the channel's memory."""
        if cursor < self.base:
            return None
        found: list[Entry] = []
        size = 0
        for entry in self.entries[cursor - self.base :]:
            size += len(entry.line)
            if found and size > READ_BYTES:
                break
            found.append(entry)
        return found

    def cut(self) -> None:
        """No more comes from here: viewers see the log end without its terminal event, and come back for it."""
        self.ended = True
        self.wake()

    async def wait(self, cursor: int) -> None:
        """Returns once there is something after the cursor, or the log is complete. Safe to cancel."""
        if self.last_id > cursor or self.ended:
            return
        news = asyncio.get_running_loop().create_future()
        self._waiting.add(news)
        try:
            await news
        finally:
            self._waiting.discard(news)

    def wake(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for news in waiting:
            if not news.done():
                news.set_result(None)

    def _trim(self) -> None:
        """Forgets the older half once the bound is passed, so that trimming costs each event once."""
        if self._size <= RECENT_BYTES:
            return
        half = 0
        while self._size > RECENT_BYTES // 2 and half < len(self.entries) - 1:
            self._size -= len(self.entries[half].line)
            half += 1
        del self.entries[:half]
        self.base += half


class Viewer:
    """One subscription of one client to one run. Made by `Bus.attach`, given back with `close`."""

    def __init__(self, bus: "Bus", journal: Journal, channel: Channel, cursor: int, wanted: Filter) -> None:
        self._bus, self._journal, self._channel = bus, journal, channel
        self.cursor, self.wanted = cursor, wanted
        self._epoch = bus.epoch
        channel.viewers += 1
        self._closed = False

    @property
    def run_id(self) -> str:
        return self._channel.run_id

    async def next(self) -> Batch:
        """Waits until there is something new for this viewer, and returns all of it up to READ_BYTES.

        A batch without entries tells that the cursor moved over hidden events, or that no more comes. Safe to cancel.
        """
        while self._epoch == self._bus.epoch:
            found = await self._pull()
            if found:
                batch = self._batch(found)
                if batch.items or batch.hidden or batch.ended:
                    return batch
            elif self._channel.ended:
                return self._rest()
            else:
                await self._channel.wait(self.cursor)
        return Batch([], self.cursor, drained=True)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._bus.release(self._channel)

    async def _pull(self) -> list[Entry]:
        recent = self._channel.after(self.cursor)
        if recent is not None:
            return recent
        return await self._journal.read(self.run_id, self.cursor)

    def _rest(self) -> Batch:
        """The end of a log of which nothing is left: who hasn't seen all of it is told what was dropped meanwhile."""
        last_id = self._channel.last_id
        if self.cursor >= last_id:
            return Batch([], self.cursor, ended=True)
        first, self.cursor = self.cursor + 1, last_id
        return Batch([Missing(first, last_id)], last_id, ended=True)

    def _batch(self, found: list[Entry]) -> Batch:
        items: list[Entry | Missing] = []
        for entry in found:
            # Only chunks are ever dropped from a log that is still kept: who doesn't want them misses nothing.
            if place(self.cursor, entry.id) == "gap" and self.wanted.wants_chunks:
                items.append(Missing(self.cursor + 1, entry.id - 1))
            if self.wanted.wants(entry.event_type, entry.agent_name):
                items.append(entry)
            self.cursor = entry.id
        newest = found[-1]
        # Chunks come by the hundred and each is followed by its agent's response: hiding them moves nobody's cursor.
        hidden = newest not in items[-1:] and newest.event_type != "agent_chunk"
        return Batch(items, self.cursor, hidden, ended=newest.event_type in TERMINAL_TYPES)


class Bus:
    """Fans out what runs publish. Runs that are written elsewhere it follows through the journal."""

    def __init__(self, journal: Journal, group: asyncio.TaskGroup) -> None:
        self._journal, self._group = journal, group
        self.epoch = 0
        self._channels: dict[str, Channel] = {}
        self._followers: dict[str, asyncio.Task[None]] = {}

    def open(self, run_id: str, last_id: int) -> Channel:
        """A channel for the run's writer, who publishes through `Channel.extend` and gives it back with `release`.

        `last_id` is the last event that is durable already.
        """
        channel = self._channels.setdefault(run_id, Channel(run_id, base=last_id))
        channel.writers += 1
        self._stop_following(run_id)
        return channel

    async def attach(self, run_id: str, *, after: int = 0, wanted: Filter = EVERYTHING) -> Viewer:
        """A viewer of a run that the journal knows, from the cursor `after` on."""
        channel = self._channels.get(run_id)
        if channel is None:
            record = await self._journal.record(run_id)
            last_id, ended = (record.last_id, record.ended) if record else (0, True)
            channel = self._channels.setdefault(run_id, Channel(run_id, base=last_id, ended=ended))
        viewer = Viewer(self, self._journal, channel, after, wanted)
        if not channel.writers and not channel.ended:
            self._follow(channel)
        return viewer

    def release(self, channel: Channel, *, writer: bool = False) -> None:
        """Somebody leaves; the last one takes the channel along."""
        channel.writers -= writer
        channel.viewers -= not writer
        channel.unwatched_since = channel.unwatched_since if writer else monotonic()
        if channel.writers or channel.viewers:
            if not channel.writers and not channel.ended:
                self._follow(channel)  # its writer has gone without an end: another may go on
            return
        if self._channels.get(channel.run_id) is channel:
            del self._channels[channel.run_id]
        self._stop_following(channel.run_id)

    def _stop_following(self, run_id: str) -> None:
        follower = self._followers.pop(run_id, None)
        if follower is not None:
            follower.cancel()

    def drain(self) -> None:
        """Sends away all who view now. Who comes after that is served, until the next call."""
        self.epoch += 1
        for channel in self._channels.values():
            channel.wake()

    def close(self) -> None:
        """Stops following; whoever still waits for such a run learns that no more comes."""
        for run_id in list(self._followers):
            self._stop_following(run_id)
            self._channels[run_id].cut()

    @property
    def channels(self) -> int:
        return len(self._channels)

    def viewers(self, run_id: str) -> int:
        channel = self._channels.get(run_id)
        return channel.viewers if channel else 0

    def _follow(self, channel: Channel) -> None:
        if channel.run_id not in self._followers:
            task = self._group.create_task(self._relay(channel), name=f"follow {channel.run_id}")
            self._followers[channel.run_id] = task

    async def _relay(self, channel: Channel) -> None:
        try:
            async for entries in self._journal.watch(channel.run_id, channel.last_id):
                channel.extend(entries)
        except Exception:
            log.exception("run=%s can't be followed", channel.run_id)
            channel.cut()
