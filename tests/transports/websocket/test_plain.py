"""A plain WebSocket whose client's messages all come at once: no viewer and no run of it stays, however it ends."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from starlette.types import Message

from askstream.server.auth import ACCESS, ANONYMOUS
from askstream.server.bus import Bus
from askstream.server.journal import open_journal
from askstream.server.runs import Answer, Limits, Question, Runs, Sink, Task
from askstream.transports.base import TransportContext
from tests.transports.websocket.clients import route_of


class Waits:
    """An Orchestrator whose team never emits anything."""

    model = "waits"

    async def run(self, task: Task, sink: Sink) -> Answer:
        await asyncio.Event().wait()
        raise AssertionError("an event that nobody sets was set")


@dataclass
class Wire:
    """A client whose messages have all come before the server reads, the disconnect last."""

    messages: list[Message]
    sent: list[Message] = field(default_factory=list[Message])
    stalls: Callable[[Message], bool] = lambda message: False
    breaks: Callable[[Message], bool] = lambda message: False

    async def receive(self) -> Message:
        if not self.messages:
            await asyncio.Event().wait()
        return self.messages.pop(0)

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        if self.breaks(message):
            raise OSError("the client is gone")
        if self.stalls(message):
            await asyncio.Event().wait()


@pytest.fixture
async def context() -> AsyncIterator[TransportContext]:
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        journal = open_journal("memory://")
        bus = Bus(journal, group)
        # The same ids in each test, so that their order in a set is the same, too.
        ids = (f"{number:032x}" for number in itertools.count())
        runs = Runs(journal, bus, cast(Any, Waits()), Limits(), group=group, new_id=lambda: next(ids))
        yield TransportContext(runs=runs, bus=bus, send_seconds=0.05)
        await runs.close()
        bus.close()


async def _talk(context: TransportContext, wire: Wire) -> None:
    scope: dict[str, Any] = {"type": "websocket", "path": "/ws", "headers": [], "subprotocols": [], ACCESS: ANONYMOUS}
    await route_of(context).handle(scope, wire.receive, wire.send)


def _received(messages: Iterable[dict[str, Any]], *, then_gone: bool = True) -> list[Message]:
    texts = [{"type": "websocket.receive", "text": json.dumps(message)} for message in messages]
    gone = [{"type": "websocket.disconnect", "code": 1001}] if then_gone else []
    return [{"type": "websocket.connect"}, *texts, *gone]


@pytest.mark.parametrize("last", [[], [{"type": "unsubscribe"}], [{"type": "unsubscribe"}, {"type": "subscribe"}]])
async def test_a_client_that_subscribes_and_leaves_at_once_leaves_no_viewer(
    context: TransportContext, last: list[dict[str, Any]]
) -> None:
    """Also if its delivery is stopped before its first step: a viewer that stayed would keep the run from being
    orphaned, and its log in memory."""
    record, _ = await context.runs.start(Question(text="why?", principal="anonymous"))
    messages = [{"type": "subscribe"}, *last]
    await _talk(context, Wire(_received({**message, "run_id": record.run_id} for message in messages)))
    await asyncio.sleep(0)
    assert context.bus.viewers(record.run_id) == 0


async def test_a_client_that_reads_nothing_is_closed_once(context: TransportContext) -> None:
    """It watches several runs; it may not read the close either."""
    records = [(await context.runs.start(Question(text="why?", principal="anonymous")))[0] for _ in range(3)]
    messages = [{"type": "subscribe", "run_id": record.run_id} for record in records]
    wire = Wire(_received(messages, then_gone=False), stalls=lambda m: '"started"' in m.get("text", ""))
    await _talk(context, wire)
    await asyncio.sleep(0)
    assert [m.get("code") for m in wire.sent if m["type"] == "websocket.close"] == [4008]
    assert [context.bus.viewers(record.run_id) for record in records] == [0, 0, 0]


@pytest.mark.parametrize("number", [0, 1])
async def test_a_forgotten_run_that_was_tied_to_the_socket_does_not_keep_the_others_running(
    context: TransportContext, number: int
) -> None:
    """All runs that the socket started with `on_disconnect: cancel` end with it, in any order."""
    asks = [{"type": "ask", "question": "why?", "on_disconnect": "cancel"} for _ in range(2)]
    wire = Wire(_received(asks, then_gone=False))
    talking = asyncio.ensure_future(_talk(context, wire))
    while len(replies := [m for m in wire.sent if '"reply"' in m.get("text", "")]) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0)
    ids = [json.loads(m["text"])["reply"]["run_id"] for m in replies]
    forgotten, other = ids[number], ids[1 - number]
    await context.runs.cancel(forgotten, "anonymous")
    await context.runs.outcome(forgotten)
    await context.runs.forget(forgotten, "anonymous")
    wire.messages.append({"type": "websocket.disconnect", "code": 1001})
    talking.cancel()
    await asyncio.wait({talking})
    assert (await context.runs.outcome(other)).event_type == "cancelled"


async def test_a_client_that_is_gone_ends_all_its_deliveries_without_an_error(context: TransportContext) -> None:
    """The first failed send is the last, and raises nothing."""
    records = [(await context.runs.start(Question(text="why?", principal="anonymous")))[0] for _ in range(3)]
    messages = [{"type": "subscribe", "run_id": record.run_id} for record in records]
    wire = Wire(_received(messages, then_gone=False), breaks=lambda m: '"started"' in m.get("text", ""))
    await _talk(context, wire)
    assert sum('"started"' in m.get("text", "") for m in wire.sent) == 1
    await asyncio.sleep(0)
    assert [context.bus.viewers(record.run_id) for record in records] == [0, 0, 0]
