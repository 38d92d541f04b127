"""The bus: no event is lost or repeated between reading the history and waiting for the next one."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from askstream.server.bus import RECENT_BYTES, Batch, Bus, Channel, Viewer
from askstream.server.events import Filter, Gap
from askstream.server.events.errors import JournalError
from askstream.server.journal import READ_BYTES, Entry, Journal, open_journal
from askstream.server.journal.memory import MemoryJournal
from tests.conformance.journals import Yielding, entries, entry, record, update


@dataclass
class Log:
    """A run's writer: durable first, then published, as in the server."""

    journal: Journal
    bus: Bus
    group: asyncio.TaskGroup
    last_id: int = 0
    channel: Channel | None = field(default=None)

    async def begin(self, count: int = 1, *, size: int = 10) -> None:
        self.last_id = count
        await self.journal.create(record(last_id=count), entries(1, count, size=size))
        self.channel = self.bus.open("r", count)

    async def add(self, *events: Entry, ended: bool = False) -> None:
        assert self.channel is not None
        self.last_id = events[-1].id
        ended_at = 5.0 if ended else None
        await self.journal.append(update(last_id=self.last_id, ended_at=ended_at), events)
        self.channel.extend(events)

    async def end(self) -> None:
        await self.add(entry(self.last_id + 1, "completed"), ended=True)


@pytest.fixture(params=["prompt", "yielding"])
async def log(request: pytest.FixtureRequest) -> AsyncIterator[Log]:
    memory = open_journal("memory://")
    journal = cast(Journal, Yielding(memory)) if request.param == "yielding" else memory
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        bus = Bus(journal, group)
        yield Log(journal, bus, group)
        bus.close()


async def _all(viewer: Viewer) -> list[int]:
    """Return every id that this viewer gets until the log is complete."""
    seen: list[int] = []
    while True:
        batch = await viewer.next()
        assert len(batch.items) == len(batch.entries)
        seen += [each.id for each in batch.entries]
        if batch.ended:
            viewer.close()
            return seen


async def test_viewers_who_attach_at_any_moment_see_every_event_once(log: Log) -> None:
    """Attaching while events are published leaves no gap and repeats nothing, from any cursor."""
    await log.begin(3)
    watching: list[tuple[int, asyncio.Task[list[int]]]] = []

    async def attach_and_watch(after: int) -> list[int]:
        return await _all(await log.bus.attach("r", after=after))

    for number in range(4, 60):
        after = number % 3
        watching.append((after, log.group.create_task(attach_and_watch(after))))
        for _ in range(number % 5):
            await asyncio.sleep(0)
        await log.add(entry(number))
    await log.end()
    for after, task in watching:
        assert await task == list(range(after + 1, 61))


async def test_a_viewer_behind_the_channels_memory_reads_the_journal(log: Log) -> None:
    """A late viewer of a long run gets old events from the journal and new ones from memory, without a gap."""
    await log.begin(1)
    size = RECENT_BYTES // 100
    for number in range(2, 400):
        await log.add(entry(number, size=size))
    viewer = await log.bus.attach("r")
    await log.end()
    assert await _all(viewer) == list(range(1, 401))


async def test_memory_is_bounded(log: Log) -> None:
    """A long run keeps no more in memory than a short one."""
    await log.begin(1)
    for number in range(2, 1000):
        await log.add(entry(number, size=RECENT_BYTES // 50))
    assert log.channel is not None
    assert sum(len(each.line) for each in log.channel.entries) <= RECENT_BYTES


async def test_a_lagging_viewer_gets_what_it_lacks_in_large_pieces(log: Log) -> None:
    """Up to READ_BYTES at once, and never more."""
    await log.begin(1)
    viewer = await log.bus.attach("r", after=1)
    for number in range(2, 102):
        await log.add(entry(number, size=READ_BYTES // 50))
    first = await viewer.next()
    assert 45 <= len(first.entries) <= 50
    assert sum(len(each.line) for each in first.entries) <= READ_BYTES
    viewer.close()


@pytest.mark.parametrize("log", ["prompt"], indirect=True)
async def test_a_viewer_that_catches_up_yields_after_each_piece(log: Log) -> None:
    """Reading from memory never waits: without a yield five viewers would each get the whole log in one iteration of
    the event loop. Only the first piece comes at once."""
    await log.begin(1)
    await log.add(*(entry(number, size=READ_BYTES // 4) for number in range(2, 42)))
    iteration = 0
    later = list[int]()

    async def catch_up(viewer: Viewer) -> None:
        await viewer.next()
        while viewer.cursor < 41:
            await viewer.next()
            later.append(iteration)
        viewer.close()

    viewers = [log.group.create_task(catch_up(await log.bus.attach("r"))) for _ in range(5)]
    while not all(viewer.done() for viewer in viewers):
        await asyncio.sleep(0)
        iteration += 1
    assert len(set(later)) == len(later) >= 5 * 9


async def test_a_publish_wakes_only_viewers_that_wait(log: Log) -> None:
    """A viewer that is behind has no queue: after a thousand events it has only its cursor."""
    await log.begin(1)
    behind = await log.bus.attach("r", after=0)
    level = await log.bus.attach("r", after=1)
    waiting = log.group.create_task(level.next())
    await asyncio.sleep(0.01)
    for number in range(2, 1002):
        await log.add(entry(number))
    assert behind.cursor == 0
    assert (await waiting).entries[0].id == 2
    behind.close()
    level.close()


async def test_cancelling_a_wait_loses_nothing(log: Log) -> None:
    """A heartbeat interrupts the wait again and again; the next event is still the next."""
    await log.begin(1)
    viewer = await log.bus.attach("r", after=1)
    for number in range(2, 20):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await viewer.next()
        await log.add(entry(number))
        assert [each.id for each in (await viewer.next()).entries] == [number]
    viewer.close()


async def test_no_wake_up_is_lost_whenever_the_event_comes(log: Log) -> None:
    """An event that is published at any step of a viewer's wait reaches it, although no other follows."""
    await log.begin(1)
    for iterations in range(12):
        viewer = await log.bus.attach("r", after=log.last_id)
        waiting = log.group.create_task(viewer.next())
        for _ in range(iterations):
            await asyncio.sleep(0)
        await log.add(entry(log.last_id + 1))
        assert [each.id for each in (await waiting).entries] == [log.last_id]
        viewer.close()


async def test_waiting_for_a_published_event_returns_at_once(log: Log) -> None:
    """Looking and beginning to wait are one step."""
    await log.begin(2)
    assert log.channel is not None
    await log.channel.wait(1)
    await log.end()
    await log.channel.wait(3)


async def test_hidden_events_move_the_cursor(log: Log) -> None:
    """Nothing is renumbered, and if the newest events are hidden the viewer gets its cursor."""
    await log.begin(1)
    viewer = await log.bus.attach("r", after=1, wanted=Filter(include=frozenset({"agent_response"})))
    await log.add(entry(2, "agent_response"), entry(3), entry(4))
    batch = await viewer.next()
    assert ([each.id for each in batch.entries], batch.cursor, batch.hidden) == ([2], 4, True)
    await log.add(entry(5), entry(6, "agent_response"))
    batch = await viewer.next()
    assert ([each.id for each in batch.entries], batch.cursor, batch.hidden) == ([6], 6, False)
    await log.end()
    assert await viewer.next() == Batch([], 7, hidden=True, ended=True)
    viewer.close()


async def test_hidden_chunks_alone_send_nothing(log: Log) -> None:
    """They come by the hundred; a viewer that doesn't want them isn't woken for them."""
    await log.begin(1)
    viewer = await log.bus.attach("r", after=1, wanted=Filter())
    await log.add(entry(2, "agent_chunk"), entry(3, "agent_chunk"))
    waiting = log.group.create_task(viewer.next())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not waiting.done()
    await log.add(entry(4, "agent_response"))
    assert (await waiting).entries[0].id == 4
    viewer.close()


async def test_a_run_that_another_process_writes_is_followed_through_the_journal(log: Log) -> None:
    """With two buses on one journal, an event that is published on one reaches the viewers of the other."""
    await log.begin(2)
    elsewhere = Bus(log.journal, log.group)
    first = log.group.create_task(_all(await elsewhere.attach("r")))
    second = log.group.create_task(_all(await elsewhere.attach("r", after=2)))
    for number in range(3, 20):
        await log.add(entry(number))
    await log.end()
    assert await first == list(range(1, 21))
    assert await second == list(range(3, 21))


async def test_a_writer_that_leaves_without_an_end_leaves_its_viewers_to_the_journal(log: Log) -> None:
    """Another server may resume the run; its viewers here see that."""
    await log.begin(1)
    viewer = await log.bus.attach("r")
    watching = log.group.create_task(_all(viewer))
    await asyncio.sleep(0.01)
    assert log.channel is not None
    log.bus.release(log.channel, writer=True)
    await log.journal.append(update(last_id=2, ended_at=5.0), [entry(2, "completed")])
    assert await watching == [1, 2]


async def test_events_that_are_gone_are_announced_as_a_gap(log: Log) -> None:
    """A gap in the journal is announced with its first and last id, never skipped in silence."""
    await log.begin(1)
    viewer = await log.bus.attach("r", after=0)
    await log.end()

    class WithGap(Yielding):
        async def read(self, run_id: str, after: int, *, limit: int = READ_BYTES) -> list[Entry]:
            return [entry(5), entry(6, "completed")]

    viewer._journal = cast(Journal, WithGap(log.journal))  # pyright: ignore[reportPrivateUsage]
    batch = await viewer.next()
    assert batch.items == [Gap(from_=1, to=4, reason="trimmed"), entry(5), entry(6, "completed")]
    viewer.close()


async def test_a_viewer_without_chunks_misses_nothing_when_they_are_dropped(log: Log) -> None:
    """Compaction drops only chunks, so only viewers of tokens get a gap."""
    events = [entry(2, "agent_chunk"), entry(3, "agent_chunk"), entry(4, "agent_response"), entry(5, "completed")]
    await log.begin(1)
    await log.add(*events, ended=True)
    assert log.channel is not None
    log.bus.release(log.channel, writer=True)
    await log.journal.compact("r")
    plain = await log.bus.attach("r", wanted=Filter())
    assert (await plain.next()).items == [entry(1), *events[2:]]
    tokens = await log.bus.attach("r", wanted=Filter(tokens=True))
    assert (await tokens.next()).items == [entry(1), Gap(from_=2, to=3, reason="trimmed"), *events[2:]]
    plain.close()
    tokens.close()


async def test_a_drain_sends_away_present_viewers_only(log: Log) -> None:
    """A viewer that waits is woken; one that is behind keeps its cursor."""
    await log.begin(1)
    waits = await log.bus.attach("r", after=1)
    behind = await log.bus.attach("r", after=0)
    waiting = log.group.create_task(waits.next())
    await asyncio.sleep(0.01)
    log.bus.drain()
    assert await waiting == Batch([], 1, drained=True)
    assert await behind.next() == Batch([], 0, drained=True)
    later = await log.bus.attach("r", after=0)
    assert (await later.next()).entries == [entry(1)]
    for viewer in (waits, behind, later):
        viewer.close()


async def test_a_channel_is_dropped_after_its_last_user(log: Log) -> None:
    """A run without writer and viewers has no channel."""
    await log.begin(1)
    viewer = await log.bus.attach("r")
    assert log.bus.viewers("r") == 1
    await log.end()
    assert log.channel is not None
    log.bus.release(log.channel, writer=True)
    assert await _all(viewer) == [1, 2]
    viewer.close()
    assert log.bus.viewers("r") == 0
    assert log.bus.channels == 0


async def test_a_channel_keeps_each_event_once_and_drops_those_before_a_gap() -> None:
    """Repeated events are skipped; cursors before the gap lie outside, so viewers read the journal."""
    channel = Channel("r", base=2)
    channel.extend(entries(1, 4))
    channel.extend(entries(3, 5))
    assert [each.id for each in channel.read_after(2) or []] == [3, 4, 5]
    channel.extend(entries(8, 9))
    assert channel.read_after(5) is None
    assert [each.id for each in channel.read_after(7) or []] == [8, 9]


@pytest.mark.parametrize("seen", [0, 1])
async def test_a_log_that_is_dropped_while_it_is_read_ends_with_a_gap(log: Log, seen: int) -> None:
    """A slow or late viewer gets the gap and the end; it doesn't pull for ever."""
    await log.begin(3)
    await log.end()
    assert log.channel is not None
    log.bus.release(log.channel, writer=True)
    viewer = await log.bus.attach("r", after=seen)
    assert await log.journal.forget("r")
    assert await viewer.next() == Batch([Gap(from_=seen + 1, to=4, reason="trimmed")], 4, ended=True)
    assert await viewer.next() == Batch([], 4, ended=True)
    viewer.close()


async def test_an_encoding_that_fails_leaves_no_subscriber_with_a_gap(log: Log) -> None:
    """The viewer still lacks the event that could not be encoded, and no later one is written."""

    class Broken:
        heartbeat, heartbeat_seconds = b"", 0.0

        def encode(self, run_id: str, batch: Batch, /) -> bytes:
            if batch.cursor == 2:
                raise RuntimeError("broken")
            return b"later"

    await log.begin(1)
    await log.add(entry(2))
    viewer = await log.bus.attach("r", after=1)
    written: list[bytes] = []
    with pytest.raises(RuntimeError):
        viewer.subscribe(cast(Any, None), written.append, Broken())
    await log.add(entry(3))
    await asyncio.sleep(0.01)
    assert (written, viewer.cursor) == ([], 1)
    viewer.close()


async def test_a_run_that_cannot_be_followed_is_reported_and_followed_again(log: Log) -> None:
    """Its log isn't complete: a viewer that took it for complete would wait for an end that it never gets."""

    class Unreadable(MemoryJournal):
        is_readable = False

        async def watch(self, run_id: str, after: int) -> AsyncIterator[Sequence[Entry]]:
            if not self.is_readable:
                raise JournalError("disk full")
            async for found in super().watch(run_id, after):
                yield found

    journal = Unreadable()
    await journal.create(record(last_id=1), entries(1, 1))
    bus = Bus(journal, log.group)
    viewer = await bus.attach("r")
    assert [each.id for each in (await viewer.next()).entries] == [1]
    with pytest.raises(JournalError):
        await viewer.next()
    journal.is_readable = True
    later = await bus.attach("r", after=1)
    await journal.append(update(last_id=2, ended_at=5.0), [entry(2, "completed")])
    assert (await later.next()).ended
    viewer.close()
    later.close()
    bus.close()
