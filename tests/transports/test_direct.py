"""A viewer on a connection that is ours: whatever it reads and whenever, it gets every event once and in order."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from starlette.types import Message

from askstream.server.bus import Bus, Channel
from askstream.server.events import EVERYTHING, Filter
from askstream.server.events.errors import JournalError
from askstream.server.journal import READ_BYTES, Entry, Journal, open_journal
from askstream.transports.base import House
from askstream.transports.framing import Decoder
from askstream.transports.sse import Stream
from tests.conformance.journals import Yielding, entries, entry, head, record
from tests.transports.connections import Transport, offering

LAST = b"0\r\n\r\n"


@dataclass
class Run:
    """A run's writer, and the house that its viewers are in."""

    journal: Journal
    bus: Bus
    house: House
    channel: Channel = field(init=False)
    last_id: int = 0

    async def begin(self, count: int = 1) -> None:
        self.last_id = count
        await self.journal.create(record(last_id=count), entries(1, count))
        self.channel = self.bus.open("r", count)

    async def add(self, *events: Entry) -> None:
        self.last_id = events[-1].id
        ended_at = 5.0 if events[-1].event_type == "completed" else None
        await self.journal.append(head(last_id=self.last_id, ended_at=ended_at), events)
        self.channel.extend(events)

    async def publish(self, count: int = 1, *, size: int = 10) -> None:
        for number in range(self.last_id + 1, self.last_id + 1 + count):
            await self.add(entry(number, size=size))

    async def end(self) -> None:
        await self.add(entry(self.last_id + 1, "completed"))

    async def view(self, transport: Transport, *, after: int = 0, wanted: Filter = EVERYTHING, **options: Any) -> None:
        """The request of a viewer, to its end: the connection goes on without it."""
        viewer = await self.bus.attach("r", after=after, wanted=wanted)
        scope: dict[str, Any] = {"type": "http", "method": "GET", "extensions": offering(transport)}
        await Stream(viewer, self.house, **options)(scope, _silence, _swallow)


async def _silence() -> Message:
    await asyncio.Event().wait()
    raise AssertionError("an event that nobody sets was set")


async def _swallow(message: Message) -> None:
    assert message["type"] == "http.response.start"
    assert (b"connection", b"close") in message["headers"]


def body_of(transport: Transport) -> bytes:
    """The body that the written chunks carry."""
    rest, body = b"".join(transport.written), b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        body, end, rest = body + rest[:length], rest[length : length + 2], rest[length + 2 :]
        assert end == b"\r\n"
        if not length:
            assert rest == b"", "bytes behind the last chunk"
    return body


def ids(transport: Transport) -> list[int]:
    return [int(message.last_event_id) for message in Decoder().feed(body_of(transport))]


@pytest.fixture(params=["prompt", "yielding"])
async def run(request: pytest.FixtureRequest) -> AsyncIterator[Run]:
    memory = open_journal("memory://")
    journal = cast(Journal, Yielding(memory)) if request.param == "yielding" else memory
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        bus = Bus(journal, group)
        house = House(runs=cast(Any, None), bus=bus, send_seconds=0.05, heartbeat_seconds=0.05)
        yield Run(journal, bus, house)
        await house.tasks.close()
        bus.close()


async def _until(transport: Transport) -> None:
    while not transport.closed:  # noqa: ASYNC110 - the fake has no events of its own
        await asyncio.sleep(0)


async def test_who_is_level_is_written_to_without_a_task(run: Run) -> None:
    """The request is over, nobody waits, and the event is there as soon as it is published."""
    await run.begin()
    transport = Transport()
    await run.view(transport, after=1)
    tasks = asyncio.all_tasks()
    await run.publish()
    assert ids(transport) == [2]
    assert asyncio.all_tasks() == tasks
    await run.end()
    await _until(transport)
    assert ids(transport) == [2, 3]
    assert transport.written[-1] == LAST
    assert not run.channel.viewers


async def test_viewers_who_come_at_any_moment_get_every_event_once(run: Run) -> None:
    """Between the history and the group there is no hole, and no overlap."""
    await run.begin(3)
    watching: list[tuple[int, Transport]] = []
    async with asyncio.TaskGroup() as group:
        for number in range(60):
            transport = Transport()
            watching.append((number % 4, transport))
            group.create_task(run.view(transport, after=number % 4))
            for _ in range(number % 5):
                await asyncio.sleep(0)
            await run.publish()
    await run.end()
    for after, transport in watching:
        await _until(transport)
        assert ids(transport) == list(range(after + 1, run.last_id + 1))


@pytest.mark.parametrize("seed", range(8))
async def test_whoever_stops_reading_and_goes_on_at_any_moment_misses_nothing(run: Run, seed: int) -> None:
    """Three viewers that fill up and drain by chance, while events of all sizes come, also far more than memory."""
    chance = random.Random(seed)
    await run.begin()
    run.house = House(runs=cast(Any, None), bus=run.bus, tasks=run.house.tasks, send_seconds=15)
    transports = [Transport() for _ in range(3)]
    for transport in transports:
        await run.view(transport, after=1)
    for _ in range(120):
        match chance.randrange(4):
            case 0:
                chance.choice(transports).full_after = 0
            case 1:
                chance.choice(transports).drain()
            case 2:
                await asyncio.sleep(0.003 * chance.random())
            case _:
                await run.publish(chance.randrange(1, 4), size=chance.choice([10, 10, READ_BYTES // 3]))
    await run.end()
    for transport in transports:
        transport.drain()
        await _until(transport)
        assert ids(transport) == list(range(2, run.last_id + 1))


async def test_who_reads_nothing_costs_nothing_and_is_cut(run: Run) -> None:
    """It leaves its group with the first bytes too many; what comes later is not kept for it."""
    await run.begin()
    stalled, reads = Transport(), Transport()
    stalled.full_after = 100
    for transport in (stalled, reads):
        await run.view(transport, after=1)
    for _ in range(20):
        await run.publish(size=READ_BYTES // 2)
        await asyncio.sleep(0.003)
    assert sum(map(len, stalled.written)) <= 4 * READ_BYTES
    assert ids(reads) == list(range(2, 22))
    await _until(stalled)
    assert stalled.aborted
    assert run.channel.viewers == 1


async def test_who_is_slow_is_not_cut_while_it_takes_something(run: Run) -> None:
    """Five times the seconds in which a client must take something pass; it takes a byte in each."""
    await run.begin()
    slow = Transport()
    slow.full_after = 0
    await run.view(slow, after=1)
    await run.publish()
    for _ in range(25):
        slow.take_some(1)
        await asyncio.sleep(run.house.send_seconds / 5)
    assert not slow.aborted
    slow.drain()
    await run.end()
    await _until(slow)
    assert ids(slow) == [2, 3]


async def test_a_late_viewer_gets_no_more_than_it_takes(run: Run) -> None:
    """However long the log is, it is read piece by piece, each when the one before has been sent."""
    await run.begin()
    await run.publish(40, size=READ_BYTES // 2)
    late = Transport()
    late.full_after = 1000
    await run.view(late)
    await asyncio.sleep(0.01)
    assert sum(map(len, late.written)) < 3 * READ_BYTES
    late.drain()
    await run.end()
    await _until(late)
    assert ids(late) == list(range(1, 43))


async def test_a_client_that_goes_leaves_no_viewer_and_tells_its_run(run: Run) -> None:
    """Level or behind, `on_disconnect` counts; once the log is complete it doesn't."""
    await run.begin()
    told: list[str] = []

    async def left(name: str) -> None:
        told.append(name)

    level, behind, late = Transport(), Transport(), Transport()
    behind.is_paused = True
    for name, transport in (("level", level), ("behind", behind), ("late", late)):
        await run.view(transport, after=1, left=lambda name=name: left(name))
    level.lose()
    behind.lose()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert run.channel.viewers == 1
    await run.end()
    await _until(late)
    late.lose()
    await asyncio.sleep(0)
    assert sorted(told) == ["behind", "level"]


async def test_silence_is_broken_and_only_silence(run: Run) -> None:
    """A comment comes when nothing else has come for so long, to all of a group."""
    await run.begin()
    transport = Transport()
    await run.view(transport, after=1)
    for _ in range(10):
        await run.publish()
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.15)
    beats = [place for place, data in enumerate(transport.written) if data == b"3\r\n:\n\n\r\n"]
    assert beats
    silence = run.house.heartbeat_seconds
    assert all(transport.at[place] - transport.at[place - 1] >= silence * 0.95 for place in beats)


async def test_who_is_level_but_for_what_is_hidden_from_it_hears_that_we_are_there(run: Run) -> None:
    """An ordinary reconnect in the middle of a text: all that follows are chunks that this viewer doesn't want."""
    await run.begin()
    await run.add(entry(2, "agent_chunk"), entry(3, "agent_chunk"))
    transport = Transport()
    await run.view(transport, after=1, wanted=Filter())
    while b":\n\n" not in body_of(transport):  # noqa: ASYNC110 - the fake has no events of its own
        await asyncio.sleep(0.01)
    assert ids(transport) == []


@pytest.mark.parametrize("size", range(140))
async def test_wherever_a_client_stops_reading_the_end_comes_once(
    run: Run, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Also in the last bytes, when nothing is left to be done for it. The deadline isn't looked at."""
    run.house = House(runs=run.house.runs, bus=run.bus, tasks=run.house.tasks, send_seconds=15)
    await run.begin()
    transport = Transport()
    transport.full_after = size
    await run.view(transport, after=1)
    await run.publish(2)
    await run.end()
    await asyncio.sleep(0.005)
    transport.drain()
    await _until(transport)
    for _ in range(5):
        await asyncio.sleep(0)
    assert ids(transport) == [2, 3, 4]
    assert transport.written.count(LAST) == 1
    assert not caplog.records


async def test_filters_have_groups_of_their_own(run: Run) -> None:
    """Who wants less gets less, and where the newest is hidden its cursor moves."""
    await run.begin()
    whole, answers = Transport(), Transport()
    await run.view(whole, after=1)
    await run.view(answers, after=1, wanted=Filter(include=frozenset({"agent_response"})))
    await run.add(entry(2, "agent_response"), entry(3))
    await run.end()
    for transport in (whole, answers):
        await _until(transport)
    assert ids(whole) == [2, 3, 4]
    assert ids(answers) == [2]
    assert body_of(answers).endswith(b"id: 4\n\n")


async def test_a_drain_tells_those_who_are_level(run: Run) -> None:
    """They get the notice and the end of the response; the log says nothing of it."""
    await run.begin()
    transport = Transport()
    await run.view(transport, after=1)
    run.bus.drain()
    await _until(transport)
    last = Decoder().feed(body_of(transport))[-1]
    assert json.loads(last.data)["event"]["event_type"] == "drain"
    assert not run.channel.viewers


@pytest.mark.parametrize("problem", [JournalError("no disk"), RuntimeError("a bug")])
async def test_a_journal_that_fails_costs_the_viewer_its_connection_and_nobody_else(
    run: Run, problem: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Who is far behind needs the journal; without it the client is cut, and may come back. It isn't it that left."""
    await run.begin()

    class Failing(Yielding):
        async def read(self, run_id: str, after: int, *, limit: int = READ_BYTES) -> list[Entry]:
            raise problem

    async def left() -> None:
        raise AssertionError("the client was there all the time")

    level, late = Transport(), Transport()
    await run.view(level, after=1)
    run.bus._journal = cast(Journal, Failing(run.journal))  # pyright: ignore[reportPrivateUsage]
    await run.view(late, after=0, left=left)
    await _until(late)
    assert late.aborted
    assert run.channel.viewers == 1
    await run.publish()
    assert ids(level) == [2]
    assert [each.levelname for each in caplog.records] == ["ERROR"]
