"""The cost of an event's way into the log, counted in appends; and failures on this way."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

import pytest

from askstream.agents.scope import TaskScope
from askstream.server.bus import Channel
from askstream.server.events import AgentChunk, AgentResponse, AgentThinking, Completed, Draft, Usage
from askstream.server.events.errors import JournalError, RunFailed
from askstream.server.journal import Entry, Journal, RunUpdate, open_journal
from askstream.server.journal.memory import MemoryJournal
from askstream.server.runs.limits import Limits
from askstream.server.runs.log_writer import COMPACT_CHUNKS, Burst, LogWriter
from askstream.server.telemetry import StreamLog
from tests.conformance.journals import Yielding, record

THOUGHT = Draft("A", "thinking", AgentThinking(progress=25))
ANSWERED = Draft(
    "A", "done", Completed(final_response="", total_messages=1, response_length=0, usage=Usage(), duration_ms=1)
)


def _writer(journal: Journal, limits: Limits | None = None) -> LogWriter:
    return LogWriter(
        record(),
        journal,
        Channel("r"),
        limits or Limits(),
        clock=lambda: datetime.now(UTC),
        log=StreamLog(),
        burst=Burst(journal),
    )


@pytest.fixture
def appended(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bytes | None]]:
    """The appends to journals in memory: how many events, and the checkpoint."""
    seen: list[tuple[int, bytes | None]] = []
    append = MemoryJournal.append

    async def counted(
        journal: MemoryJournal, update: RunUpdate, entries: Sequence[Entry], *, checkpoint: bytes | None = None
    ) -> None:
        seen.append((len(entries), checkpoint))
        await append(journal, update, entries, checkpoint=checkpoint)

    monkeypatch.setattr(MemoryJournal, "append", counted)
    return seen


async def test_events_of_one_loop_iteration_are_one_append(appended: list[tuple[int, bytes | None]]) -> None:
    """Events and the checkpoint after them are durable together: a server that dies has both or neither."""
    journal = open_journal("memory://")
    writer = _writer(journal)
    await journal.create(writer.record, [])
    await writer.emit(THOUGHT)
    await writer.emit(THOUGHT)
    await writer.checkpoint(b"c")
    assert appended == [(2, b"c")]


async def test_an_append_outlives_the_team_that_emitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a team cancels all tasks of its context, but no append that is on its way to the disk."""
    append = MemoryJournal.append

    async def slowly(
        journal: MemoryJournal, update: RunUpdate, entries: Sequence[Entry], *, checkpoint: bytes | None = None
    ) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        await append(journal, update, entries, checkpoint=checkpoint)

    monkeypatch.setattr(MemoryJournal, "append", slowly)
    journal = open_journal("memory://")
    writer = _writer(journal)
    await journal.create(writer.record, [])

    async def team() -> None:
        for _ in range(2):
            await writer.emit(THOUGHT)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    await TaskScope().run(team())
    await writer.flush()
    assert [entry.id for entry in await journal.read("r", 0)] == [1, 2]


async def test_a_journal_that_raises_at_once_breaks_the_log_and_not_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A custom journal's `append` may be no coroutine function. Waiters get its error."""

    def refuses(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(MemoryJournal, "append", refuses)
    writer = _writer(open_journal("memory://"))
    await writer.emit(THOUGHT)
    with pytest.raises(JournalError):
        await writer.flush()


async def test_events_that_come_during_an_append_are_one_append(appended: list[tuple[int, bytes | None]]) -> None:
    """300 events are two appends, however many iterations of the loop the first one takes."""
    journal = open_journal("memory://")
    writer = _writer(cast(Journal, Yielding(journal, turns=500)))
    await journal.create(writer.record, [])
    async with asyncio.timeout(10):
        await _emit(writer, 300)
    assert [count for count, _ in appended] == [1, 299]


async def test_the_record_counts_what_the_log_holds() -> None:
    """It counts events and bytes of the journal, and tokens of responses; its progress never falls."""
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


async def test_nobody_sees_an_event_before_it_is_durable() -> None:
    """At each step of a slow journal viewers have only events that it holds."""
    memory = open_journal("memory://")
    writer = _writer(cast(Journal, Yielding(memory)))
    await memory.create(writer.record, [])
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        emitting = group.create_task(_emit(writer, 100))
        seen: set[int] = set()
        while not emitting.done():
            held = await memory.record("r")
            assert held is not None
            assert writer.channel.last_id <= held.last_id
            assert writer.durable.last_id <= held.last_id
            seen.add(writer.channel.last_id)
            await asyncio.sleep(0)
        await writer.end(ANSWERED, "completed")
    assert len(seen) > 10


async def _emit(writer: LogWriter, count: int) -> None:
    for _ in range(count):
        await writer.emit(THOUGHT)
        await asyncio.sleep(0)
    await writer.flush()


async def test_every_waiter_is_notified_of_an_append() -> None:
    """Any number of them. A cancelled waiter affects no other."""
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


async def test_a_writer_that_is_closed_writes_only_what_is_on_its_way() -> None:
    """A team that was given up may emit for hours, but only the next server writes."""
    journal = open_journal("memory://")
    writer = _writer(cast(Journal, Yielding(journal)))
    await journal.create(writer.record, [])
    await writer.emit(THOUGHT)
    await asyncio.sleep(0)  # that one is on its way
    await writer.emit(THOUGHT)
    writer.close()
    with pytest.raises(RunFailed):
        await writer.emit(THOUGHT)
    for _ in range(20):
        await asyncio.sleep(0)
    assert [each.id for each in await journal.read("r", 0)] == [1]


async def test_a_journal_that_breaks_in_an_unforeseen_way_ends_the_wait_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Waiters and later calls of `emit` get a JournalError, without the error's own text."""

    async def broken(*_args: object, **_options: object) -> None:
        raise RuntimeError("secret")

    journal = open_journal("memory://")
    monkeypatch.setattr(journal, "append", broken)
    writer = _writer(journal)
    async with asyncio.timeout(10):
        await writer.emit(THOUGHT)
        with pytest.raises(JournalError, match="RuntimeError"):
            await writer.flush()
        with pytest.raises(JournalError):
            await writer.emit(THOUGHT)


@pytest.mark.parametrize("kind", ["prompt", "yielding"])
async def test_a_log_that_outgrows_its_bound_drops_the_chunks_of_whole_messages(kind: str) -> None:
    """The record counts the remaining events, and the run goes on meanwhile and afterwards."""
    memory = open_journal("memory://")
    journal = cast(Journal, Yielding(memory)) if kind == "yielding" else memory
    writer = _writer(journal, Limits(log_events=COMPACT_CHUNKS + 50))
    await journal.create(writer.record, [])
    async with asyncio.timeout(10):
        for _ in range(COMPACT_CHUNKS + 10):
            await writer.emit(Draft("A", "", AgentChunk(delta="x", message_id="m")))
        await writer.emit(Draft("A", "x", AgentResponse(progress=50, usage=Usage())))
        for _ in range(60):
            await writer.emit(THOUGHT)
        await writer.flush()
        await writer.emit(THOUGHT)
        await writer.end(ANSWERED, "completed")
    left = await journal.read("r", 0)
    assert {each.event_type for each in left} == {"agent_response", "agent_thinking", "completed"}
    assert len(left) == writer.durable.log_events == 63
    assert sum(len(each.line) for each in left) == writer.durable.log_bytes
