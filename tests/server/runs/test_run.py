"""One run: no failure in it affects its server or another run."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, cast

import pytest

from askstream.server.bus import Bus
from askstream.server.events import AgentResponse, AgentThinking, Completed, Draft, Failed, Usage, decode
from askstream.server.events.errors import Draining, InputNotFound, JournalError
from askstream.server.journal import Entry, Journal, RunRecord, RunUpdate, open_journal
from askstream.server.journal.memory import MemoryJournal
from askstream.server.runs import Answer, Limits, Question, Runs, Sink, Task
from askstream.server.runs.orchestrator import Inquiry
from tests.conformance.journals import Yielding

Team = Callable[[Task, Sink], Awaitable[Answer | Inquiry]]
ANSWER = Answer(final_response="42", total_messages=1, usage=Usage(), agent_name="A")


class Played:
    """An Orchestrator whose team is a test's own function."""

    model = "played"

    def __init__(self, team: Team) -> None:
        self.run = team


@pytest.fixture
async def group() -> AsyncIterator[asyncio.TaskGroup]:
    """The owner of the runs' tasks: an error that reaches it ends a server, and here the test."""
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        yield tasks


def runs_of(team: Team, group: asyncio.TaskGroup, journal: Journal | None = None, **limits: Any) -> tuple[Runs, Bus]:
    journal = journal or open_journal("memory://")
    bus = Bus(journal, group)
    return Runs(journal, bus, cast(Any, Played(team)), Limits(**limits), group=group), bus


async def _ask(runs: Runs) -> str:
    return (await runs.start(Question(text="why?", principal="p")))[0].run_id


class Held(MemoryJournal):
    """A journal whose appends with such an event wait until it is released, and then fail if `failing`."""

    survives = True

    def __init__(self, event_type: str, *, failing: bool = False) -> None:
        super().__init__()
        self._event_type, self._failing = event_type, failing
        self.reached, self.released = asyncio.Event(), asyncio.Event()

    async def append(self, update: RunUpdate, entries: Sequence[Entry], *, checkpoint: bytes | None = None) -> None:
        if any(entry.event_type == self._event_type for entry in entries):
            self.reached.set()
            await self.released.wait()
            if self._failing:
                raise JournalError("disk full")
        await super().append(update, entries, checkpoint=checkpoint)


async def test_an_input_for_a_request_that_was_never_durable_is_refused(group: asyncio.TaskGroup) -> None:
    """It can know the request from the run's resource, before the log is known to have failed. It must not hang."""

    async def asks(task: Task, sink: Sink) -> Inquiry:
        return Inquiry(agent_name="A", prompt="?", state=b"")

    journal = Held("input_requested", failing=True)
    runs, _ = runs_of(asks, group, journal)
    run_id = await _ask(runs)
    await journal.reached.wait()
    request = runs.pending(run_id)
    assert request is not None
    given = asyncio.ensure_future(runs.submit_input(run_id, "p", request["request_id"], "yes"))
    await asyncio.sleep(0)
    journal.released.set()
    with pytest.raises(InputNotFound):
        await given


async def test_a_cancel_that_comes_while_a_run_is_suspended_ends_it(group: asyncio.TaskGroup) -> None:
    """The client was told that the run stops: the next server must not go on with it."""

    async def thinks(task: Task, sink: Sink) -> Answer:
        await sink.emit(Draft("A", "hm", AgentThinking()))
        await asyncio.Event().wait()
        return ANSWER

    journal = Held("agent_thinking")
    runs, _ = runs_of(thinks, group, journal)
    run_id = await _ask(runs)
    await journal.reached.wait()
    closing = asyncio.ensure_future(runs.close())
    for _ in range(20):
        await asyncio.sleep(0)
    await runs.cancel(run_id, "p")
    journal.released.set()
    await closing
    record = await journal.record(run_id)
    assert record is not None
    assert record.state == "cancelled"


@pytest.mark.parametrize(
    ("inquiry", "code"),
    [
        (Inquiry(agent_name="x" * 300_000, prompt="?", state=b""), "event_too_large"),
        (Inquiry(agent_name="A", prompt="?", state=b"", seconds=cast(Any, "soon")), "internal"),
    ],
)
async def test_a_question_to_a_human_that_cannot_be_asked_ends_its_run_alone(
    group: asyncio.TaskGroup, inquiry: Inquiry, code: str
) -> None:
    """The run has a stable code, and the server goes on."""

    async def asks(task: Task, sink: Sink) -> Inquiry:
        return inquiry

    runs, _ = runs_of(asks, group)
    body = (await runs.outcome(await _ask(runs))).body
    assert isinstance(body, Failed)
    assert body.error == code


async def test_a_full_log_ends_a_run_that_goes_on_after_a_crash(group: asyncio.TaskGroup) -> None:
    """There is no room for `resumed`. That ends the run, not the server that has just started."""
    reached = asyncio.Event()

    async def fills(task: Task, sink: Sink) -> Answer:
        for _ in range(3):
            await sink.emit(Draft("A", "hm", AgentThinking()))
        reached.set()
        await asyncio.Event().wait()
        return ANSWER

    journal = open_journal("memory://")
    first, _ = runs_of(fills, group, journal, log_events=3)
    run_id = await _ask(first)
    await reached.wait()
    while (await first.find(run_id, "p")).last_id < 4:  # noqa: ASYNC110 - durability has no event of its own
        await asyncio.sleep(0)
    second, _ = runs_of(fills, group, journal, log_events=3)
    await second.recover()
    body = (await second.outcome(run_id)).body
    assert isinstance(body, Failed)
    assert body.error == "log_full"
    await first.close()


async def test_an_awaited_answer_comes_in_a_drain_or_is_refused(group: asyncio.TaskGroup) -> None:
    """A run that ends during the drain is answered; for one that the next server resumes the wait is refused."""
    release, working = asyncio.Event(), asyncio.Event()

    async def waits(task: Task, sink: Sink) -> Answer:
        working.set()
        await release.wait()
        await sink.emit(Draft("A", "42", AgentResponse()))
        return ANSWER

    class Durable(Yielding):
        def __init__(self, journal: Journal) -> None:
            super().__init__(journal)
            self.survives = True

    journal = cast(Journal, Durable(open_journal("memory://")))
    for in_time in (True, False):
        release.clear()
        working.clear()
        runs, bus = runs_of(waits, group, journal)
        waiting = group.create_task(_outcome(runs, await _ask(runs)))
        await working.wait()
        bus.drain()
        draining = group.create_task(runs.drain(5 if in_time else 0))
        if in_time:
            release.set()
        await draining
        bus.drain()
        assert (await waiting) is (Completed if in_time else Draining)
        bus.close()


async def _outcome(runs: Runs, run_id: str) -> type[object]:
    try:
        return type((await runs.outcome(run_id)).body)
    except Draining as refusal:
        return type(refusal)


async def test_a_run_whose_client_disconnects_during_its_creation_goes_on(group: asyncio.TaskGroup) -> None:
    """It is in the journal, and would have no end there."""
    writing, written = asyncio.Event(), asyncio.Event()
    memory = open_journal("memory://")

    class Slow(Yielding):
        async def create(self, record: RunRecord, entries: Sequence[Entry]) -> RunRecord:
            writing.set()
            await written.wait()
            return await memory.create(record, entries)

    async def answers(task: Task, sink: Sink) -> Answer:
        return ANSWER

    runs, _ = runs_of(answers, group, cast(Journal, Slow(memory)))
    asking = asyncio.ensure_future(_ask(runs))
    await writing.wait()
    asking.cancel()
    await asyncio.wait({asking})
    written.set()
    while not (found := await memory.runs("p")) or runs.active:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert [decode(entry.line).event_type for entry in await memory.read(found[0].run_id, 0)] == [
        "started",
        "completed",
    ]
