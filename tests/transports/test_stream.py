"""A viewer of a stream, direct or plain: it gets every event once and in order, however it reads."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from askstream.agents.scope import TaskScope
from askstream.server.bus import Bus, Channel
from askstream.server.events import EVERYTHING, Filter
from askstream.server.events.errors import JournalError
from askstream.server.journal import READ_BYTES, Entry, Journal, open_journal
from askstream.transports import formats
from askstream.transports.base import TransportContext
from askstream.transports.framing import Decoder
from askstream.transports.sse import RunStream
from tests.conformance.journals import Yielding, entries, entry, record, update
from tests.transports.connections import LAST, DirectClient, PlainClient, StreamClient


@dataclass
class Run:
    """A run's writer, and the context of its viewers."""

    journal: Journal
    bus: Bus
    context: TransportContext
    kind: type[DirectClient | PlainClient]
    channel: Channel = field(init=False)
    last_id: int = 0
    clients: list[StreamClient] = field(default_factory=list[StreamClient])

    def client(self, *, full_after: int | None = None) -> StreamClient:
        """A client that has sent no request yet."""
        client = self.kind()
        client.full_after = full_after
        self.clients.append(client)
        return client

    async def begin(self, count: int = 1) -> None:
        self.last_id = count
        await self.journal.create(record(last_id=count), entries(1, count))
        self.channel = self.bus.open("r", count)

    async def add(self, *events: Entry) -> None:
        self.last_id = events[-1].id
        ended_at = 5.0 if events[-1].event_type == "completed" else None
        await self.journal.append(update(last_id=self.last_id, ended_at=ended_at), events)
        self.channel.extend(events)

    async def publish(self, count: int = 1, *, size: int = 10) -> None:
        for number in range(self.last_id + 1, self.last_id + 1 + count):
            await self.add(entry(number, size=size))

    async def end(self) -> None:
        await self.add(entry(self.last_id + 1, "completed"))

    async def view(self, client: StreamClient, *, after: int = 0, wanted: Filter = EVERYTHING, **options: Any) -> None:
        viewer = await self.bus.attach("r", after=after, wanted=wanted)
        await client.get(RunStream(viewer, self.context, options.pop("wire_format", formats.sse(2)), **options))


def ids(client: StreamClient) -> list[int]:
    return [int(message.last_event_id) for message in Decoder().feed(client.body)]


WAYS = {"direct": DirectClient, "plain": PlainClient}
direct_only = pytest.mark.parametrize("run", ["direct-prompt", "direct-yielding"], indirect=True)


@pytest.fixture(params=["direct-prompt", "direct-yielding", "plain-prompt", "plain-yielding"])
async def run(request: pytest.FixtureRequest) -> AsyncIterator[Run]:
    way, _, journal_kind = request.param.partition("-")
    kind = WAYS[way]
    memory = open_journal("memory://")
    journal = cast(Journal, Yielding(memory)) if journal_kind == "yielding" else memory
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        bus = Bus(journal, group)
        context = TransportContext(runs=cast(Any, None), bus=bus, send_seconds=0.05, heartbeat_seconds=0.05)
        yield Run(journal, bus, context, kind)
        await context.tasks.close()
        bus.close()


async def _until(client: StreamClient) -> None:
    while not client.closed:  # noqa: ASYNC110 - the fake has no events of its own
        await asyncio.sleep(0)


@direct_only
async def test_a_viewer_that_is_caught_up_is_written_to_without_a_task(run: Run) -> None:
    """The request is over, no task waits, and an event is written when it is published."""
    await run.begin()
    client = run.client()
    await run.view(client, after=1)
    tasks = asyncio.all_tasks()
    await run.publish()
    assert ids(client) == [2]
    assert asyncio.all_tasks() == tasks
    await run.end()
    await _until(client)
    assert ids(client) == [2, 3]
    assert client.written[-1] == LAST
    assert not run.channel.viewers


async def test_viewers_that_attach_at_any_moment_get_every_event_once(run: Run) -> None:
    """Between the history and the broadcast there is no gap and no overlap."""
    await run.begin(3)
    watching: list[tuple[int, StreamClient]] = []
    async with asyncio.TaskGroup() as group:
        for number in range(60):
            client = run.client()
            watching.append((number % 4, client))
            group.create_task(run.view(client, after=number % 4))
            for _ in range(number % 5):
                await asyncio.sleep(0)
            await run.publish()
    await run.end()
    for after, client in watching:
        await _until(client)
        assert ids(client) == list(range(after + 1, run.last_id + 1))


@pytest.mark.parametrize("seed", range(8))
async def test_a_client_that_pauses_at_any_moment_misses_nothing(run: Run, seed: int) -> None:
    """Three viewers pause and read at random while events of all sizes come, also far more than memory holds."""
    chance = random.Random(seed)
    await run.begin()
    run.context = TransportContext(runs=cast(Any, None), bus=run.bus, tasks=run.context.tasks, send_seconds=15)
    clients = [run.client() for _ in range(3)]
    for client in clients:
        await run.view(client, after=1)
    for _ in range(120):
        match chance.randrange(4):
            case 0:
                chance.choice(clients).full_after = 0
            case 1:
                chance.choice(clients).drain()
            case 2:
                await asyncio.sleep(0.003 * chance.random())
            case _:
                await run.publish(chance.randrange(1, 4), size=chance.choice([10, 10, READ_BYTES // 3]))
    await run.end()
    for client in clients:
        client.drain()
        await _until(client)
        assert ids(client) == list(range(2, run.last_id + 1))


async def test_a_client_that_reads_nothing_costs_nothing_and_is_cut(run: Run) -> None:
    """It leaves its broadcast when its buffer is full; later events are not kept for it."""
    await run.begin()
    stalled, reads = run.client(), run.client()
    stalled.full_after = 100
    for client in (stalled, reads):
        await run.view(client, after=1)
    for _ in range(20):
        await run.publish(size=READ_BYTES // 2)
        await asyncio.sleep(0.003)
    assert sum(map(len, stalled.written)) <= 4 * READ_BYTES
    assert ids(reads) == list(range(2, 22))
    await _until(stalled)
    assert stalled.aborted
    assert run.channel.viewers == 1


@direct_only
async def test_a_slow_client_is_not_cut_while_it_reads_something(run: Run) -> None:
    """It reads a byte five times per deadline, for five deadlines. Plain ASGI can't notice that."""
    await run.begin()
    slow = run.client()
    slow.full_after = 0
    await run.view(slow, after=1)
    await run.publish()
    for _ in range(25):
        slow.client_reads(1)
        await asyncio.sleep(run.context.send_seconds / 5)
    assert not slow.aborted
    slow.drain()
    await run.end()
    await _until(slow)
    assert ids(slow) == [2, 3]


async def test_a_late_viewer_gets_no_more_than_it_reads(run: Run) -> None:
    """A long log is read piece by piece, each after the one before has been sent."""
    await run.begin()
    await run.publish(40, size=READ_BYTES // 2)
    late = run.client()
    late.full_after = 1000
    await run.view(late)
    async with asyncio.timeout(20):
        while not late.written:  # noqa: ASYNC110 - the client has no event for it
            await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    assert sum(map(len, late.written)) < 3 * READ_BYTES
    late.drain()
    await run.end()
    await _until(late)
    assert ids(late) == list(range(1, 43))


async def test_a_client_that_leaves_closes_its_viewer_and_notifies_its_run(run: Run) -> None:
    """Caught up or behind, `on_disconnect` is called; once the log is complete it isn't."""
    await run.begin()
    disconnected: list[str] = []

    async def left(name: str) -> None:
        disconnected.append(name)

    level, behind, late = run.client(), run.client(full_after=0), run.client()
    for name, client in (("level", level), ("behind", behind), ("late", late)):
        await run.view(client, after=1, on_disconnect=lambda name=name: left(name))
    level.lose()
    behind.lose()
    while len(disconnected) < 2:  # noqa: ASYNC110 - the fake has no events of its own
        await asyncio.sleep(0)
    assert run.channel.viewers == 1
    await run.end()
    await _until(late)
    late.lose()
    await asyncio.sleep(0)
    assert sorted(disconnected) == ["behind", "level"]


async def test_a_viewer_that_waits_outlives_the_run_whose_event_made_it_wait(run: Run) -> None:
    """The end of a run cancels all tasks of its context, but not the task that pulls for a slow viewer."""
    await run.begin()
    client = run.client()
    await run.view(client, after=1)

    async def team() -> None:
        client.full_after = 0
        await run.publish(3, size=READ_BYTES)
        await asyncio.sleep(0.01)

    await TaskScope().run(team())
    client.drain()
    await run.end()
    await _until(client)
    assert ids(client) == [2, 3, 4, 5]


async def test_silence_is_broken_and_only_silence(run: Run) -> None:
    """A comment comes when nothing else has come for `heartbeat_seconds`."""
    await run.begin()
    client = run.client()
    await run.view(client, after=1)
    for _ in range(10):
        await run.publish()
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.15)
    beats = [place for place, data in enumerate(client.written) if data in (b"3\r\n:\n\n\r\n", b":\n\n")]
    assert beats
    silence = run.context.heartbeat_seconds
    assert all(client.at[place] - client.at[place - 1] >= silence * 0.95 for place in beats)


async def test_a_caught_up_viewer_of_hidden_events_gets_heartbeats(run: Run) -> None:
    """A reconnect in the middle of a text: only chunks follow, which this viewer doesn't want."""
    await run.begin()
    await run.add(entry(2, "agent_chunk"), entry(3, "agent_chunk"))
    client = run.client()
    await run.view(client, after=1, wanted=Filter())
    while b":\n\n" not in client.body:  # noqa: ASYNC110 - the fake has no events of its own
        await asyncio.sleep(0.01)
    assert ids(client) == []


@pytest.mark.parametrize("size", range(140))
async def test_a_client_that_stops_reading_anywhere_gets_the_end_once(
    run: Run, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Also in the last bytes, when everything has been written for it. The deadline is far."""
    run.context = TransportContext(runs=run.context.runs, bus=run.bus, tasks=run.context.tasks, send_seconds=15)
    await run.begin()
    client = run.client()
    client.full_after = size
    await run.view(client, after=1)
    await run.publish(2)
    await run.end()
    await asyncio.sleep(0.005)
    client.drain()
    await _until(client)
    for _ in range(5):
        await asyncio.sleep(0)
    assert ids(client) == [2, 3, 4]
    assert client.written.count(LAST) == (run.kind is DirectClient)
    assert not caplog.records


async def test_each_filter_has_its_own_broadcast(run: Run) -> None:
    """A filter hides events, and if the newest is hidden the viewer gets its cursor."""
    await run.begin()
    whole, answers = run.client(), run.client()
    await run.view(whole, after=1)
    await run.view(answers, after=1, wanted=Filter(include=frozenset({"agent_response"})))
    await run.add(entry(2, "agent_response"), entry(3))
    await run.end()
    for client in (whole, answers):
        await _until(client)
    assert ids(whole) == [2, 3, 4]
    assert ids(answers) == [2]
    assert answers.body.endswith(b"id: 4\n\n")


async def test_a_drain_notifies_caught_up_viewers(run: Run) -> None:
    """They get the notice and the end of the response; the log doesn't have the notice."""
    await run.begin()
    client = run.client()
    await run.view(client, after=1)
    run.bus.drain()
    await _until(client)
    last = Decoder().feed(client.body)[-1]
    assert json.loads(last.data)["event"]["event_type"] == "drain"
    assert not run.channel.viewers


@pytest.mark.parametrize("problem", [JournalError("no disk"), RuntimeError("a bug")])
async def test_a_journal_that_fails_cuts_only_the_viewers_that_need_it(
    run: Run, problem: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """A viewer that is far behind needs the journal; its client is cut and may reconnect. That is no disconnect."""
    await run.begin()

    class Failing(Yielding):
        async def read(self, run_id: str, after: int, *, limit: int = READ_BYTES) -> list[Entry]:
            raise problem

    async def left() -> None:
        raise AssertionError("the client was there all the time")

    level, late = run.client(), run.client()
    await run.view(level, after=1)
    run.bus._journal = cast(Journal, Failing(run.journal))  # pyright: ignore[reportPrivateUsage]
    await run.view(late, after=0, on_disconnect=left)
    await _until(late)
    assert late.aborted
    assert run.channel.viewers == 1
    await run.publish()
    while ids(level) != [2]:  # noqa: ASYNC110 - the fake has no events of its own
        await asyncio.sleep(0)
    assert [each.levelname for each in caplog.records] == ["ERROR"]
