"""What a delivery costs, counted: frames made, writes, wake-ups, bytes. Time is for the benchmark."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, cast

import pytest

from askstream.server.bus import Bus, Channel
from askstream.server.connections.direct import Rest
from askstream.server.journal import open_journal
from askstream.transports import formats
from askstream.transports.base import House
from askstream.transports.sse import Stream
from askstream.transports.websocket import subscription
from askstream.transports.websocket.subscription import Direct
from tests.conformance.journals import entries, entry, record
from tests.transports.connections import Transport, offering

VIEWERS, EVENTS = 100, 200


class Sockets:
    """Stands for the sockets of all viewers; none has anything to do."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        work.close()
        raise AssertionError("a viewer that is level needs no task")

    async def send(self, text: str) -> None:
        raise AssertionError("a viewer that is level is sent nothing by its socket")

    def over(self, run_id: str, *, drained: bool) -> None: ...


async def _sse(house: House, transport: Transport) -> None:
    async def send(message: Any) -> None: ...

    scope: dict[str, Any] = {"type": "http", "method": "GET", "extensions": offering(transport)}
    await Stream(await house.bus.attach("r", after=1), house)(scope, cast(Any, None), send)


async def _websocket(house: House, transport: Transport) -> None:
    sockets = Sockets()
    connection = Rest(cast(Any, transport), cast(Any, sockets), set(), is_paused=False)
    Direct(await house.bus.attach("r", after=1), sockets, connection, send_seconds=1).begin()


OPEN = {"sse": _sse, "websocket": _websocket}
FRAMES = {"sse": (formats, "block"), "websocket": (subscription, "frame")}


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        journal = open_journal("memory://")
        await journal.create(record(last_id=1), entries(1, 1))
        bus = Bus(journal, group)
        yield House(runs=cast(Any, None), bus=bus)
        bus.close()


class Counted:
    """A function, and how often it was called."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function, self.calls = function, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return self._function(*args, **kwargs)


async def _opened(house: House, name: str) -> tuple[Channel, list[Transport]]:
    channel = house.bus.open("r", 1)
    transports = [Transport() for _ in range(VIEWERS)]
    for transport in transports:
        await OPEN[name](house, transport)
        transport.written.clear()
    return channel, transports


def _written(transport: Transport) -> int:
    """The id of the last event written: lines begin with theirs, and are filled up with dots."""
    return max((int(found) for found in re.findall(rb"(\d+)\.\.\.", b"".join(transport.written))), default=0)


@pytest.mark.parametrize("name", OPEN)
async def test_a_frame_is_made_once_for_all_and_joined_where_events_outrun_the_writes(
    house: House, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """For 20,000 deliveries: 200 frames, no task, no future, a tenth of the writes, each byte in memory once."""
    channel, transports = await _opened(house, name)
    module, function = FRAMES[name]
    frames = Counted(getattr(module, function))
    monkeypatch.setattr(module, function, frames)
    loop = asyncio.get_running_loop()
    tasks, futures = Counted(loop.create_task), Counted(loop.create_future)
    monkeypatch.setattr(loop, "create_task", tasks)
    monkeypatch.setattr(loop, "create_future", futures)
    for number in range(2, 2 + EVENTS):
        channel.extend([entry(number, size=300)])
        if not number % 20:
            await asyncio.sleep(0)
    assert (tasks.calls, futures.calls) == (0, 0)
    while channel.last_id > _written(transports[0]):  # noqa: ASYNC110 - the fake has no events of its own
        await asyncio.sleep(0.001)
    assert frames.calls == EVENTS
    writes = sum(len(transport.written) for transport in transports)
    assert writes <= VIEWERS * EVENTS / 10
    kept = {id(data): len(data) for transport in transports for data in transport.written}
    assert sum(kept.values()) <= EVENTS * 400


@pytest.mark.parametrize("name", OPEN)
async def test_one_event_in_flight_is_one_write_for_each_viewer_and_nothing_else(
    house: House, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Where nothing can be joined nobody is woken either, and all get the very same bytes."""
    channel, transports = await _opened(house, name)
    loop = asyncio.get_running_loop()
    tasks, futures, callbacks = Counted(loop.create_task), Counted(loop.create_future), Counted(loop.call_soon)
    for attribute, counted in (("create_task", tasks), ("create_future", futures), ("call_soon", callbacks)):
        monkeypatch.setattr(loop, attribute, counted)
    channel.extend([entry(2, size=300)])
    assert (tasks.calls, futures.calls) == (0, 0)
    assert callbacks.calls <= 1  # to learn what the pass has cost
    assert [len(transport.written) for transport in transports] == [1] * VIEWERS
    assert len({id(transport.written[0]) for transport in transports}) == 1
