"""A socket's endpoint, direct and plain: many runs, commands and replies, and no viewer or task after its end."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, cast

import pytest

from askstream.server.bus import Bus
from askstream.server.events import AgentThinking, Draft, Usage
from askstream.server.journal import Journal, RunRecord, open_journal
from askstream.server.runs import Answer, Limits, Question, Runs, Sink, Task
from askstream.transports.base import TransportContext
from askstream.transports.websocket.endpoint import HEARTBEAT_STEPS
from tests.conformance.journals import Yielding
from tests.transports.websocket.clients import Client, DirectClient, PlainClient

SIZE = 300


class Speaks:
    """An Orchestrator whose team emits as many events as the question says, each after a release of `may`."""

    model = "speaks"

    def __init__(self) -> None:
        self.may = asyncio.Semaphore(0)

    async def run(self, task: Task, sink: Sink) -> Answer:
        for number in range(int(task.question)):
            await self.may.acquire()
            await sink.emit(Draft("A", f"{number} ".ljust(SIZE, "."), AgentThinking(progress=1)))
        return Answer(final_response="Done.", total_messages=1, usage=Usage(), agent_name="A")


@pytest.fixture
def team() -> Speaks:
    return Speaks()


KINDS: dict[str, type[DirectClient | PlainClient]] = {"direct": DirectClient, "plain": PlainClient}
direct_only = pytest.mark.parametrize("harness", ["direct-prompt", "direct-yielding"], indirect=True)


@dataclass
class Harness:
    """An endpoint's context, and clients for it."""

    context: TransportContext
    kind: type[DirectClient | PlainClient]

    def client(self) -> Client:
        return self.kind(self.context)

    @property
    def runs(self) -> Runs:
        return self.context.runs

    @property
    def bus(self) -> Bus:
        return self.context.bus


@pytest.fixture(params=["direct-prompt", "direct-yielding", "plain-prompt", "plain-yielding"])
async def harness(request: pytest.FixtureRequest, team: Speaks) -> AsyncIterator[Harness]:
    way, _, journal_kind = request.param.partition("-")
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        memory = open_journal("memory://")
        journal = cast(Journal, Yielding(memory)) if journal_kind == "yielding" else memory
        bus = Bus(journal, group)
        runs = Runs(journal, bus, cast(Any, team), Limits(), group=group)
        context = TransportContext(runs=runs, bus=bus, send_seconds=0.05, heartbeat_seconds=0.2)
        yield Harness(context, KINDS[way])
        await context.tasks.close()
        await runs.close()
        bus.close()


async def _run(harness: Harness, events: int = 1) -> RunRecord:
    record, _ = await harness.runs.start(Question(text=str(events), principal="anonymous"))
    return record


async def _watching(harness: Harness, *records: RunRecord) -> Client:
    """Return a client that has the reply to its subscription of each run, and each run's first event."""
    client = harness.client()
    client.open()
    for record in records:
        client.send(type="subscribe", run_id=record.run_id)
    await client.until(2 * len(records))
    return client


def _ids(texts: list[dict[str, Any]]) -> list[int]:
    return [text["event"]["id"] for text in texts if "event" in text]


async def test_a_run_is_watched_to_its_end_and_the_socket_lives_on(harness: Harness, team: Speaks) -> None:
    """Reply first, then every event once; then the next command."""
    record = await _run(harness, 3)
    client = harness.client()
    client.open()
    client.send(type="subscribe", run_id=record.run_id, ref=1)
    await client.until(2)
    assert client.texts[0]["reply"]["ref"] == 1
    for number in range(3):
        team.may.release()
        await client.until(3 + number)
    assert _ids(await client.until(6)) == [1, 2, 3, 4, 5]
    assert not harness.bus.viewers(record.run_id)
    client.send(type="ping", ref=2)
    assert (await client.until(7))[-1]["reply"]["type"] == "pong"
    client.send(type="subscribe", run_id=record.run_id, ref=3, after=4)
    assert _ids(await client.until(9)) == [1, 2, 3, 4, 5, 5]


@direct_only
async def test_a_socket_without_commands_needs_no_task(harness: Harness) -> None:
    """Its heartbeat needs none either, while the client reads."""
    before = asyncio.all_tasks()
    client = harness.client()
    client.open()
    await client.until(2)
    assert all(text == {"reply": {"type": "heartbeat"}} for text in client.texts)
    assert asyncio.all_tasks() == before


@direct_only
async def test_heartbeats_of_many_sockets_go_out_together(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets that opened at different times share a timer's time: the process is woken for all of them at once."""
    loop, due = asyncio.get_running_loop(), list[float]()
    call_at = loop.call_at

    def counted(when: float, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:
        due.append(when)
        return call_at(when, *args, **kwargs)

    monkeypatch.setattr(loop, "call_at", counted)
    began = loop.time()
    for _ in range(100):
        harness.client().open()
    took = loop.time() - began
    assert len(due) == 100
    assert len(set(due)) <= 2 + took / (harness.context.heartbeat_seconds / HEARTBEAT_STEPS)


async def test_a_client_that_disconnects_leaves_no_viewer_and_no_task(harness: Harness, team: Speaks) -> None:
    """Its viewers are closed before anything else could be written to them, and its tasks end."""
    records = [await _run(harness) for _ in range(3)]
    client = await _watching(harness, *records)
    await client.leave()
    assert [harness.bus.viewers(record.run_id) for record in records] == [0, 0, 0]
    client.line.lose()
    written = len(client.line.written)
    for _ in records:
        team.may.release()
    for record in records:
        await harness.runs.outcome(record.run_id)
    assert len(client.line.written) == written
    while harness.context.tasks._running:  # pyright: ignore[reportPrivateUsage]  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_a_run_that_is_tied_to_its_socket_ends_with_it(harness: Harness) -> None:
    """`on_disconnect: cancel`."""
    client = harness.client()
    client.open()
    client.send(type="ask", question="5", on_disconnect="cancel")
    run_id = (await client.until(2))[0]["reply"]["run_id"]
    client.line.lose()
    assert (await harness.runs.outcome(run_id)).event_type == "cancelled"


async def test_commands_sent_before_a_disconnect_are_performed(harness: Harness) -> None:
    """A run that it asked for begins, and `on_disconnect` cancels it; a cancel works; no viewer stays."""
    running, watched = await _run(harness), await _run(harness)
    client = harness.client()
    client.open()
    client.send_together(
        {"type": "subscribe", "run_id": watched.run_id},
        {"type": "cancel", "run_id": running.run_id},
        {"type": "ask", "question": "7", "on_disconnect": "cancel"},
    )
    client.line.lose()
    assert (await harness.runs.outcome(running.run_id)).event_type == "cancelled"
    while harness.context.tasks._running or harness.runs.active > 1:  # pyright: ignore[reportPrivateUsage]  # noqa: ASYNC110
        await asyncio.sleep(0)
    asked = (await harness.runs.page("anonymous"))[0]
    assert (asked.question, asked.state) == ("7", "cancelled")
    assert not harness.bus.viewers(watched.run_id)


async def test_a_client_that_reads_nothing_gets_a_close_code_and_is_cut(harness: Harness, team: Speaks) -> None:
    """It gets 4008 once, as the last frame; other viewers get everything."""
    record = await _run(harness, 40)
    stalled, reads = await _watching(harness, record), await _watching(harness, record)
    stalled.line.full_after = 0
    for number in range(40):
        team.may.release()
        await reads.until(3 + number)
    await stalled.cut()
    assert stalled.close_code == 4008
    assert stalled.line.aborted
    assert _ids(stalled.texts) == list(range(1, len(_ids(stalled.texts)) + 1))
    assert _ids(await reads.until(43)) == list(range(1, 43))


async def test_a_client_that_resumes_in_time_gets_what_it_lacks(harness: Harness, team: Speaks) -> None:
    """In order, and every event once."""
    record = await _run(harness, 20)
    client = await _watching(harness, record)
    client.line.full_after = 0
    for _ in range(20):
        team.may.release()
    await harness.runs.outcome(record.run_id)
    client.line.drain()
    assert _ids(await client.until(23)) == list(range(1, 23))


async def test_a_drain_closes_the_socket_behind_its_notice(harness: Harness) -> None:
    """Once, with 4012, also if it watches several runs."""
    records = [await _run(harness) for _ in range(3)]
    client = await _watching(harness, *records)
    harness.bus.drain()
    assert await client.received_close() == 4012
    assert client.texts[-1]["event"]["event_type"] == "drain"
    assert [harness.bus.viewers(record.run_id) for record in records] == [0, 0, 0]


async def test_silence_is_broken_but_not_while_events_are_sent(harness: Harness, team: Speaks) -> None:
    """Writes of the broadcast count as well."""
    record = await _run(harness, 20)
    client = await _watching(harness, record)
    for number in range(15):
        team.may.release()
        await client.until(3 + number)
        await asyncio.sleep(0.02)
    assert {"reply": {"type": "heartbeat"}} in await client.until(18)
    beat = client.line.at[-1]
    assert beat - client.line.at[-2] >= harness.context.heartbeat_seconds * 0.95


async def test_messages_that_come_together_are_answered_one_after_the_other(harness: Harness) -> None:
    """Each once, in their order, also if one of them needs longer."""
    record = await _run(harness, 0)
    while harness.runs.active:  # noqa: ASYNC110 - then only the journal has it
        await asyncio.sleep(0)
    client = harness.client()
    client.open()
    client.send_together(
        {"type": "ping", "ref": 1},
        {"type": "subscribe", "run_id": record.run_id, "after": 2, "ref": 2},
        {"type": "unsubscribe", "run_id": "unknown", "ref": 3},
        {"type": "ping", "ref": 4},
    )
    client.send(type="ping", ref=5)
    assert [text["reply"]["ref"] for text in await client.until(5)] == [1, 2, 3, 4, 5]


@pytest.mark.serial  # a busy machine handles so few messages a second that they aren't a flood
async def test_a_flooding_client_is_refused_and_then_closed(harness: Harness) -> None:
    """The messages of one packet are handled one after the other; a client that never stops gets 4029."""
    client = harness.client()
    client.open()
    client.send_together(*[{"type": "ping"}] * 2000)
    assert await client.received_close() == 4029
    assert client.texts[-1]["reply"]["error"]["code"] == "rate_limited"
