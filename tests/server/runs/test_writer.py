"""What the way of an event into the log costs, counted: appends, log records."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

import pytest

from server.bus import Channel
from server.events import AgentChunk, AgentResponse, AgentThinking, Completed, Draft, Usage
from server.journal import Entry, Head, Journal, open_journal
from server.runs.limits import Limits
from server.runs.writer import Writer
from server.telemetry import StreamLog
from tests.conformance.journals import Yielding, record

THOUGHT = Draft("A", "thinking", AgentThinking(progress=25))
ANSWERED = Draft(
    "A", "done", Completed(final_response="", total_messages=1, response_length=0, usage=Usage(), duration_ms=1)
)


def _writer(journal: Journal, run_id: str = "r", log: StreamLog | None = None) -> Writer:
    channel = Channel(run_id)
    return Writer(record(run_id), journal, channel, Limits(), clock=lambda: datetime.now(UTC), log=log or StreamLog())


async def _told(writer: Writer, journal: Journal, drafts: list[Draft]) -> None:
    """Emits them in one turn of the loop; returns when the run has ended and all of it is durable."""
    await journal.create(writer.record, [])
    async with asyncio.timeout(10):
        for draft in drafts:
            await writer.emit(draft)
        await writer.flush()
        await writer.end(ANSWERED, "completed")


async def test_what_comes_while_the_disk_is_busy_is_one_append() -> None:
    """300 events: the first goes alone, the others together behind it."""
    journal = open_journal("memory://")
    appended: list[int] = []
    append = journal.append

    async def counted(head: Head, entries: Sequence[Entry], *, checkpoint: bytes | None = None) -> None:
        appended.append(len(entries))
        await append(head, entries, checkpoint=checkpoint)

    setattr(journal, "append", counted)  # noqa: B010 - the protocol's method can't be assigned to
    await _told(_writer(journal), journal, [THOUGHT] * 300)
    assert appended == [1, 299, 1]  # the last one is the end
    assert len(await journal.read("r", 0)) == 301


async def test_the_record_counts_what_the_log_holds() -> None:
    """Events and bytes as they are in the journal, tokens by responses, progress that never falls."""
    journal = open_journal("memory://")
    writer = _writer(journal)
    response = AgentResponse(progress=50, usage=Usage(3, 4))
    drafts = [THOUGHT, Draft("A", "x", response), Draft("A", "x", AgentChunk(delta="x", message_id="m")), THOUGHT]
    await journal.create(writer.record, [])
    for draft in drafts:
        await writer.emit(draft)
    await writer.flush()
    log = await journal.read("r", 0)
    assert writer.durable == await journal.record("r") == writer.record
    assert writer.durable == record(
        last_id=4,
        log_events=4,
        log_bytes=sum(len(each.line) for each in log),
        progress=50,
        prompt_tokens=3,
        completion_tokens=4,
    )


async def test_what_happens_in_one_turn_of_the_loop_is_one_record_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """With a line for each event, whatever its run; chunks apart, since they are told at DEBUG."""
    caplog.set_level("DEBUG", logger="stream_events")
    log = StreamLog()
    for number in range(100):
        log.tell(f"r{number}", 1, "agent_thinking", "A")
    log.tell("r0", 2, "agent_chunk", "A")
    assert not caplog.records
    await asyncio.sleep(0)
    assert [r.levelno for r in caplog.records] == [logging.INFO, logging.DEBUG]
    lines = caplog.records[0].getMessage().splitlines()
    assert lines == [f"run=r{number} id=1 agent_thinking A" for number in range(100)]


async def test_a_log_that_is_off_is_told_nothing_and_asks_for_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Not even for a turn of the loop."""
    caplog.set_level("WARNING", logger="stream_events")
    log = StreamLog()
    log.tell("r", 1, "agent_thinking", "A")
    await asyncio.sleep(0)
    assert not caplog.records


async def test_nobody_sees_an_event_before_it_is_durable() -> None:
    """At no step of a slow journal do viewers know more than it holds."""
    memory = open_journal("memory://")
    writer = _writer(cast(Journal, Yielding(memory)))
    await memory.create(writer.record, [])
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        telling = group.create_task(_emit(writer, 100))
        seen: set[int] = set()
        while not telling.done():
            held = await memory.record("r")
            assert held is not None
            assert writer.channel.last_id <= held.last_id
            assert writer.durable.last_id <= held.last_id
            seen.add(writer.channel.last_id)
            await asyncio.sleep(0)
        await writer.end(ANSWERED, "completed")
    assert len(seen) > 10


async def _emit(writer: Writer, count: int) -> None:
    for _ in range(count):
        await writer.emit(THOUGHT)
        await asyncio.sleep(0)
    await writer.flush()


async def test_those_who_wait_for_the_disk_all_learn_that_it_is_done() -> None:
    """Any number of them; one who gives up takes nobody along."""
    journal = cast(Journal, Yielding(open_journal("memory://")))
    writer = _writer(journal)
    await journal.create(writer.record, [])
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        await writer.emit(THOUGHT)
        waiting = [group.create_task(writer.flush()) for _ in range(5)]
        await asyncio.sleep(0)
        waiting[2].cancel()
        await writer.checkpoint(b"c")
        await asyncio.wait(waiting)
        assert [task.cancelled() for task in waiting] == [False, False, True, False, False]
        await writer.end(ANSWERED, "completed")
    assert [each.id for each in await journal.read("r", 0)] == [1, 2]
