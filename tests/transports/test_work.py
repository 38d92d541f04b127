"""The cost of a delivery, counted: frames made, writes, wake-ups, bytes. The benchmark measures time."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
from websockets.protocol import State
from websockets.server import ServerProtocol

from askstream.server.auth import ANONYMOUS
from askstream.server.bus import Bus, Channel
from askstream.server.connections import direct
from askstream.server.connections.direct import DirectSocket
from askstream.server.journal import open_journal
from askstream.transports import formats
from askstream.transports.base import TransportContext
from askstream.transports.sse import RunStream
from askstream.transports.websocket.endpoint import Endpoint
from tests.conformance.journals import entries, entry, record
from tests.transports.connections import DirectClient

VIEWERS, EVENTS = 100, 200


async def _sse(context: TransportContext, client: DirectClient) -> None:
    await client.get(RunStream(await context.bus.attach("r", after=1), context))


async def _websocket(context: TransportContext, client: DirectClient) -> None:
    core = ServerProtocol(state=State.OPEN)
    endpoint = Endpoint(context, ANONYMOUS)
    endpoint.opened(DirectSocket(cast(Any, client), set(), endpoint, core, send_seconds=1, is_paused=False))
    endpoint._deliver(await context.bus.attach("r", after=1))  # pyright: ignore[reportPrivateUsage]


OPEN = {"sse": _sse, "websocket": _websocket}
FRAMES = {"sse": (formats, "block"), "websocket": (direct, "text_frame")}


@pytest.fixture
async def context() -> AsyncIterator[TransportContext]:
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        journal = open_journal("memory://")
        await journal.create(record(last_id=1), entries(1, 1))
        bus = Bus(journal, group)
        yield TransportContext(runs=cast(Any, None), bus=bus)
        bus.close()


class Counted:
    """A function, and how often it was called."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function, self.calls = function, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return self._function(*args, **kwargs)


async def _opened(context: TransportContext, name: str) -> tuple[Channel, list[DirectClient]]:
    channel = context.bus.open("r", 1)
    transports = [DirectClient() for _ in range(VIEWERS)]
    for transport in transports:
        await OPEN[name](context, transport)
        transport.written.clear()
    return channel, transports


def _written(transport: DirectClient) -> int:
    """The id of the last event written: lines begin with theirs, and are filled up with dots."""
    return max((int(found) for found in re.findall(rb"(\d+)\.\.\.", b"".join(transport.written))), default=0)


@pytest.mark.parametrize("name", OPEN)
async def test_a_frame_is_made_once_for_all_and_joined_if_events_outrun_the_writes(
    context: TransportContext, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """For 20,000 deliveries: 200 frames, no task, no future, a tenth of the writes, each byte in memory once."""
    channel, transports = await _opened(context, name)
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
    context: TransportContext, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """One event wakes no task, and all viewers get the same bytes object."""
    channel, transports = await _opened(context, name)
    loop = asyncio.get_running_loop()
    tasks, futures, callbacks = Counted(loop.create_task), Counted(loop.create_future), Counted(loop.call_soon)
    for attribute, counted in (("create_task", tasks), ("create_future", futures), ("call_soon", callbacks)):
        monkeypatch.setattr(loop, attribute, counted)
    channel.extend([entry(2, size=300)])
    assert (tasks.calls, futures.calls) == (0, 0)
    assert callbacks.calls <= 1  # to measure the pass
    assert [len(transport.written) for transport in transports] == [1] * VIEWERS
    assert len({id(transport.written[0]) for transport in transports}) == 1
