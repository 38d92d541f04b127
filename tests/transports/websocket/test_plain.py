"""A plain WebSocket whose client's messages are all there at once: however it ends, nothing of it stays behind."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from starlette.types import Message

from askstream.server.bus import Bus
from askstream.server.journal import open_journal
from askstream.server.runs import Answer, Limits, Question, Runs, Sink, Task
from askstream.transports.base import TransportContext
from tests.transports.websocket.clients import route_of


class Waits:
    """An Orchestrator whose team never says anything."""

    model = "waits"

    async def run(self, task: Task, sink: Sink) -> Answer:
        await asyncio.Event().wait()
        raise AssertionError("an event that nobody sets was set")


@dataclass
class Wire:
    """A client whose messages are all there before the server looks, and whose last one is that it has gone."""

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
        ids = (
            f"{number:032x}" for number in itertools.count()
        )  # the same in each test, and so is their order in a set
        runs = Runs(journal, bus, cast(Any, Waits()), Limits(), group=group, new_id=lambda: next(ids))
        yield TransportContext(runs=runs, bus=bus, send_seconds=0.05)
        await runs.close()
        bus.close()


async def _talk(context: TransportContext, wire: Wire) -> None:
    scope: dict[str, Any] = {"type": "websocket", "path": "/ws", "headers": [], "subprotocols": []}
    await route_of(context).handle(scope, wire.receive, wire.send)


def _said(messages: Iterable[dict[str, Any]], *, then_gone: bool = True) -> list[Message]:
    texts = [{"type": "websocket.receive", "text": json.dumps(message)} for message in messages]
    gone = [{"type": "websocket.disconnect", "code": 1001}] if then_gone else []
    return [{"type": "websocket.connect"}, *texts, *gone]


@pytest.mark.parametrize("last", [[], [{"type": "unsubscribe"}], [{"type": "unsubscribe"}, {"type": "subscribe"}]])
async def test_who_subscribes_and_goes_at_once_leaves_no_viewer(
    context: TransportContext, last: list[dict[str, Any]]
) -> None:
    """Also where the relay is stopped before its first step: a viewer that stayed would keep the run from being
    orphaned, and its log in memory."""
    record, _ = await context.runs.start(Question(text="why?", principal="anonymous"))
    messages = [{"type": "subscribe"}, *last]
    await _talk(context, Wire(_said({**message, "run_id": record.run_id} for message in messages)))
    await asyncio.sleep(0)
    assert context.bus.viewers(record.run_id) == 0


async def test_a_client_that_takes_nothing_is_closed_once(context: TransportContext) -> None:
    """Several relays notice it at the same time; the close may not be taken either."""
    records = [(await context.runs.start(Question(text="why?", principal="anonymous")))[0] for _ in range(3)]
    messages = [{"type": "subscribe", "run_id": record.run_id} for record in records]
    wire = Wire(_said(messages, then_gone=False), stalls=lambda m: '"started"' in m.get("text", ""))
    await _talk(context, wire)
    await asyncio.sleep(0)
    assert [m.get("code") for m in wire.sent if m["type"] == "websocket.close"] == [4008]
    assert [context.bus.viewers(record.run_id) for record in records] == [0, 0, 0]


@pytest.mark.parametrize("number", [0, 1])
async def test_a_run_that_was_tied_to_the_socket_and_forgotten_does_not_save_the_others(
    context: TransportContext, number: int
) -> None:
    """All that the socket started with `on_disconnect: cancel` end with it, whichever of them it lets go of first."""
    asks = [{"type": "ask", "question": "why?", "on_disconnect": "cancel"} for _ in range(2)]
    wire = Wire(_said(asks, then_gone=False))
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


async def test_a_client_that_is_gone_ends_all_its_relays_in_silence(context: TransportContext) -> None:
    """Each of them notices it in the middle of a send; the first one's news are no error of the others."""
    records = [(await context.runs.start(Question(text="why?", principal="anonymous")))[0] for _ in range(3)]
    messages = [{"type": "subscribe", "run_id": record.run_id} for record in records]
    wire = Wire(_said(messages, then_gone=False), breaks=lambda m: '"started"' in m.get("text", ""))
    await _talk(context, wire)
    assert sum('"started"' in m.get("text", "") for m in wire.sent) == 1
    await asyncio.sleep(0)
    assert [context.bus.viewers(record.run_id) for record in records] == [0, 0, 0]
