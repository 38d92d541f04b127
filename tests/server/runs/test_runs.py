"""A run's life: one writer, ids without a hole, exactly one terminal event whatever is raised."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from server.bus import Bus
from server.events import (
    AgentChunk,
    AgentResponse,
    AgentThinking,
    Cancelled,
    Completed,
    Draft,
    Event,
    Failed,
    Resumed,
    ToolExecution,
    Usage,
    decode,
)
from server.events.errors import (
    Draining,
    IdempotencyConflict,
    JournalError,
    RunFailed,
    RunNotFound,
    TooManyRuns,
)
from server.journal import Journal, RunRecord, open_journal
from server.runs import Answer, Limits, Question, Runs, Sink, Task
from tests.conformance.journals import Yielding

ANSWER = Answer(final_response="42", total_messages=1, usage=Usage(3, 4), agent_name="A")
Team = Callable[[Task, Sink], Awaitable[Answer]]


@dataclass
class Scripted:
    """An orchestrator whose team is a test's own function."""

    team: Team
    model: str = "scripted"
    tasks: list[Task] = field(default_factory=list[Task])

    async def run(self, task: Task, sink: Sink) -> Answer:
        self.tasks.append(task)
        return await self.team(task, sink)


@dataclass
class House:
    """Runs over a journal, with the limits of a test."""

    journal: Journal
    group: asyncio.TaskGroup

    def open(self, team: Team, **limits: Any) -> Runs:
        return Runs(self.journal, Bus(self.journal, self.group), Scripted(team), Limits(**limits), group=self.group)

    async def log(self, run_id: str) -> list[Event]:
        found: list[Event] = []
        while more := await self.journal.read(run_id, len(found)):
            found += [decode(each.line) for each in more]
        return found


@pytest.fixture(params=["prompt", "yielding"])
async def house(request: pytest.FixtureRequest) -> AsyncIterator[House]:
    memory = open_journal("memory://")
    journal = cast(Journal, Yielding(memory)) if request.param == "yielding" else memory
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        yield House(journal, group)


async def ask(runs: Runs, **fields: Any) -> RunRecord:
    record, _ = await runs.start(Question(text="why?", principal="p", **fields))
    return record


async def viewed(runs: Runs, record: RunRecord, event_id: int) -> None:
    """Returns when that event is durable."""
    while (await runs.find(record.run_id, "p")).last_id < event_id:  # noqa: ASYNC110 - durability has no event of its own
        await asyncio.sleep(0)


async def until(holds: Callable[[], bool]) -> None:
    """Gives way until it does; the fixture's time-out is what fails if it never does."""
    while not holds():  # noqa: ASYNC110 - what is waited for has no event of its own
        await asyncio.sleep(0)


async def ended(house: House, runs: Runs, **fields: Any) -> list[Event]:
    """The whole log of one run."""
    record = await ask(runs, **fields)
    await runs.outcome(record.run_id)
    return await house.log(record.run_id)


async def answers(task: Task, sink: Sink) -> Answer:
    await sink.emit(Draft("A", "hm", AgentThinking(progress=25)))
    await sink.emit(Draft("A", "", AgentChunk(delta="4", message_id="m")))
    await sink.emit(Draft("A", "42", AgentResponse(progress=0, usage=Usage(3, 4))))
    return ANSWER


async def test_a_run_begins_with_started_and_ends_with_one_terminal_event(house: House) -> None:
    """Ids from 1 without a hole, and progress never falls."""
    log = await ended(house, house.open(answers))
    assert [e.id for e in log] == [1, 2, 3, 4, 5]
    assert [e.event_type for e in log] == ["started", "agent_thinking", "agent_chunk", "agent_response", "completed"]
    assert [getattr(e.body, "progress", None) for e in log] == [0, 25, None, 25, 100]
    last = log[-1].body
    assert isinstance(last, Completed)
    assert (last.final_response, last.response_length, last.total_messages, last.usage) == ("42", 2, 1, Usage(3, 4))


async def test_started_is_durable_before_the_team_is_asked(house: House) -> None:
    """No model call happens for a run that nobody could find again."""

    async def looks(task: Task, sink: Sink) -> Answer:
        assert [e.event_type for e in await house.log(task.run_id)] == ["started"]
        return ANSWER

    assert (await ended(house, house.open(looks)))[-1].event_type == "completed"


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (RunFailed("model_auth", "The key was refused."), "model_auth"),
        (ValueError("a secret"), "internal"),
        (asyncio.CancelledError(), None),
        (TimeoutError(), "internal"),
        (ExceptionGroup("several", [ValueError()]), "internal"),
        (RecursionError(), "internal"),
    ],
)
async def test_whatever_a_team_raises_the_run_ends_once(house: House, raised: BaseException, code: str | None) -> None:
    """With a stable code, and without the text of an error that wasn't made for people."""

    async def fails(task: Task, sink: Sink) -> Answer:
        await sink.emit(Draft("A", "hm", AgentThinking()))
        raise raised

    log = await ended(house, house.open(fails))
    assert [e.event_type in {"completed", "error", "cancelled"} for e in log] == [False, False, True]
    body = log[-1].body
    assert (body.error if isinstance(body, Failed) else None) == code
    assert "secret" not in log[-1].message


async def test_the_record_tells_state_usage_progress_and_digest(house: House) -> None:
    """The digest is the SHA-256 over the event lines without chunks, whoever computes it."""
    runs = house.open(answers)
    record = await ask(runs)
    await runs.outcome(record.run_id)
    found = await runs.find(record.run_id, "p")
    lines = [e.line for e in await house.journal.read(record.run_id, 0) if e.event_type != "agent_chunk"]
    assert found.digest == hashlib.sha256(b"".join(line + b"\n" for line in lines)).hexdigest()
    assert (found.state, found.progress, found.last_id) == ("completed", 100, 5)
    assert (found.prompt_tokens, found.completion_tokens) == (3, 4)
    assert found.ended


async def test_cancel_stops_a_team_that_waits_and_is_told_once(house: House) -> None:
    """Again, and after the end, it changes nothing."""
    working, stopped = asyncio.Event(), asyncio.Event()

    async def waits(task: Task, sink: Sink) -> Answer:
        try:
            working.set()
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return ANSWER

    runs = house.open(waits)
    record = await ask(runs)
    await working.wait()
    assert not (await runs.cancel(record.run_id, "p")).ended
    await runs.cancel(record.run_id, "p")
    terminal = await runs.outcome(record.run_id)
    assert terminal.body == Cancelled(reason="client")
    assert stopped.is_set()
    assert (await runs.cancel(record.run_id, "p")).state == "cancelled"
    assert len(await house.log(record.run_id)) == 2


async def test_a_team_that_ignores_its_cancel_is_given_up(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """The run ends in time, and what the team says later is refused."""
    refused: list[str] = []
    working, release = asyncio.Event(), asyncio.Event()

    async def stubborn(task: Task, sink: Sink) -> Answer:
        working.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        try:
            await sink.emit(Draft("A", "I'm still here", AgentThinking()))
        except RunFailed as refusal:
            refused.append(refusal.code)
        return ANSWER

    runs = house.open(stubborn, cancel_seconds=0.05)
    record = await ask(runs)
    await working.wait()
    await runs.cancel(record.run_id, "p")
    assert (await runs.outcome(record.run_id)).body == Cancelled(reason="client")
    release.set()
    await until(lambda: bool(refused))
    assert refused == ["internal"]
    assert len(await house.log(record.run_id)) == 2
    assert "given up" in caplog.text


async def test_a_run_may_not_take_for_ever(house: House) -> None:
    """Neither altogether, however much it says."""

    async def chatters(task: Task, sink: Sink) -> Answer:
        while True:
            await sink.emit(Draft("A", "hm", AgentThinking()))
            await asyncio.sleep(0.001)

    log = await ended(house, house.open(chatters, run_seconds=0.1))
    assert log[-1].body == Cancelled(reason="timeout")
    assert len(log) > 10


async def test_a_run_may_not_be_silent_for_too_long(house: House) -> None:
    """What it says starts the count anew."""

    async def falls_silent(task: Task, sink: Sink) -> Answer:
        for _ in range(5):
            await asyncio.sleep(0.06)
            await sink.emit(Draft("A", "hm", AgentThinking()))
        await asyncio.Event().wait()
        return ANSWER

    log = await ended(house, house.open(falls_silent, silence_seconds=0.15))
    assert log[-1].body == Cancelled(reason="timeout")
    assert len(log) == 7


async def test_the_message_limit_holds_for_any_team(house: House) -> None:
    """The fortieth message is one too many when thirty-nine are allowed."""

    async def talks(task: Task, sink: Sink) -> Answer:
        while True:
            await sink.emit(Draft("A", "and", AgentResponse()))

    log = await ended(house, house.open(talks, messages=3))
    assert [e.event_type for e in log] == ["started", *["agent_response"] * 3, "error"]
    assert isinstance(log[-1].body, Failed)
    assert log[-1].body.error == "message_limit"


async def test_a_large_tool_result_is_cut_and_says_so(house: House) -> None:
    """The event stays within its bound, the run goes on."""

    async def reads(task: Task, sink: Sink) -> Answer:
        body = ToolExecution(tool_name="t", parameters={}, call_id="c", status="finished", result="x" * 300_000)
        await sink.emit(Draft("A", "", body))
        return ANSWER

    log = await ended(house, house.open(reads))
    assert log[-1].event_type == "completed"
    assert isinstance(log[1].body, ToolExecution)
    result = cast(dict[str, Any], log[1].body.result)
    assert result["truncated"] is True
    assert result["event_bytes"] > 300_000
    assert set(result["excerpt"]) == {"x"}


async def test_an_answer_too_large_for_an_event_ends_in_an_error(house: House) -> None:
    """Never cut in silence: the text of agents is whole or the run says why not."""

    async def writes(task: Task, sink: Sink) -> Answer:
        return Answer(final_response="x" * 300_000, total_messages=1, usage=Usage(), agent_name="A")

    log = await ended(house, house.open(writes))
    assert isinstance(log[-1].body, Failed)
    assert log[-1].body.error == "event_too_large"


async def test_places_for_active_runs_are_counted(house: House) -> None:
    """Who comes too many is told when to try again, and a place is free again after an end."""
    release = asyncio.Event()

    async def waits(task: Task, sink: Sink) -> Answer:
        await release.wait()
        return ANSWER

    runs = house.open(waits, active_runs=2)
    results = await asyncio.gather(*(ask(runs) for _ in range(5)), return_exceptions=True)
    refused = [each for each in results if isinstance(each, TooManyRuns)]
    assert len(refused) == 3
    assert refused[0].retry_after
    release.set()
    for each in results:
        if isinstance(each, RunRecord):
            await runs.outcome(each.run_id)
    await until(lambda: not runs.active)
    await ask(runs)


async def test_a_key_joins_the_first_run_and_another_body_is_a_conflict(house: House) -> None:
    """Of a hundred equal posts at once exactly one starts a run."""
    runs = house.open(answers, active_runs=200)
    records = await asyncio.gather(*(ask(runs, idempotency_key="k", fingerprint="f") for _ in range(100)))
    assert len({each.run_id for each in records}) == 1
    assert len(await runs.page("p")) == 1
    with pytest.raises(IdempotencyConflict):
        await ask(runs, idempotency_key="k", fingerprint="other")


async def test_somebody_elses_run_does_not_exist(house: House) -> None:
    """Neither to look at nor to stop nor to forget."""
    runs = house.open(answers)
    record = await ask(runs)
    for call in (runs.find, runs.cancel, runs.forget):
        with pytest.raises(RunNotFound):
            await call(record.run_id, "another")


async def test_a_run_goes_on_after_its_server_died(house: House) -> None:
    """From its last checkpoint, with `resumed` in the log, ids without a hole, and the digest over all of it."""

    reached = asyncio.Event()

    async def dies(task: Task, sink: Sink) -> Answer:
        await sink.emit(Draft("A", "one", AgentResponse(progress=25)))
        await sink.checkpoint(b"after one")
        await sink.emit(Draft("A", "half of two", AgentThinking()))
        reached.set()
        await asyncio.Event().wait()
        return ANSWER

    first = house.open(dies)
    record = await ask(first)
    await reached.wait()
    await viewed(first, record, 3)

    async def goes_on(task: Task, sink: Sink) -> Answer:
        assert (task.checkpoint, task.attempt) == (b"after one", 2)
        await sink.emit(Draft("A", "two", AgentResponse(progress=50)))
        return ANSWER

    second = house.open(goes_on)
    await second.recover()
    await second.outcome(record.run_id)
    log = await house.log(record.run_id)
    assert [e.id for e in log] == list(range(1, 7))
    assert log[3].body == Resumed(attempt=2, from_id=2)
    assert [e.message for e in log[4:5]] == ["two"]
    found = await second.find(record.run_id, "p")
    lines = [e.line for e in await house.journal.read(record.run_id, 0)]
    assert found.digest == hashlib.sha256(b"".join(line + b"\n" for line in lines)).hexdigest()
    await first.close()  # the one given up for dead wakes: it can't write any more
    assert await house.log(record.run_id) == log


async def test_a_run_that_brings_its_server_down_is_given_up(house: House) -> None:
    """After five times without a new checkpoint it ends in an error that says so."""

    async def hangs(task: Task, sink: Sink) -> Answer:
        await asyncio.Event().wait()
        return ANSWER

    lives = [house.open(hangs) for _ in range(7)]
    record = await ask(lives[0])
    for number, runs in enumerate(lives[1:6], start=2):
        await runs.recover()
        await viewed(runs, record, number)
    await lives[-1].recover()
    terminal = await lives[-1].outcome(record.run_id)
    assert isinstance(terminal.body, Failed)
    assert terminal.body.error == "interrupted"
    for runs in lives:
        await runs.close()


async def test_a_log_that_cannot_be_written_ends_the_run_here(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody is shown what isn't durable; viewers see the stream end and can come back for the rest."""

    class Broken(Yielding):
        async def append(self, *args: Any, **kwargs: Any) -> None:
            raise JournalError("the disk is full")

    journal = cast(Journal, Broken(house.journal))
    bus = Bus(journal, house.group)
    runs = Runs(journal, bus, Scripted(answers), Limits(), group=house.group)
    record = await ask(runs)
    viewer = await bus.attach(record.run_id)
    assert [e.id for e in (await viewer.next()).entries] == [1]
    await until(lambda: not runs.active)
    assert "the disk is full" in caplog.text
    viewer.close()
    bus.close()


async def test_a_team_faster_than_the_disk_waits_for_it(house: House) -> None:
    """What hasn't been written yet is bounded."""
    gate = asyncio.Event()
    most = 0

    class Slow(Yielding):
        async def append(self, *args: Any, **kwargs: Any) -> None:
            nonlocal most
            await gate.wait()
            most = max(most, sum(len(e.line) for e in args[1]))
            await house.journal.append(*args, **kwargs)

    async def floods(task: Task, sink: Sink) -> Answer:
        for _ in range(100):
            await sink.emit(Draft("A", "x" * 100_000, AgentThinking()))
            gate.set()
        return ANSWER

    journal = cast(Journal, Slow(house.journal))
    runs = Runs(journal, Bus(journal, house.group), Scripted(floods), Limits(), group=house.group)
    record = await ask(runs)
    await runs.outcome(record.run_id)
    assert len(await house.log(record.run_id)) == 102
    assert most < 1_300_000


async def test_after_closing_nothing_starts_and_everything_has_ended(house: House) -> None:
    """The server is going away."""

    async def waits(task: Task, sink: Sink) -> Answer:
        await asyncio.Event().wait()
        return ANSWER

    runs = house.open(waits)
    record = await ask(runs)
    await runs.close()
    assert (await house.log(record.run_id))[-1].body == Cancelled(reason="shutdown")
    with pytest.raises(Draining):
        await ask(runs)


async def test_the_stream_log_names_the_run_and_never_the_question(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """An id on every line; chunks are told at DEBUG only."""
    caplog.set_level("INFO", logger="stream_events")
    log = await ended(house, house.open(answers))
    await asyncio.sleep(0)  # it is told at the end of the loop's turn
    lines = [line for r in caplog.records if r.name == "stream_events" for line in r.getMessage().splitlines()]
    assert lines == [
        f"run={log[0].run_id} id={e.id} {e.event_type} {e.agent_name}" for e in log if e.event_type != "agent_chunk"
    ]
    assert "why?" not in caplog.text
    assert json.loads((await house.journal.read(log[0].run_id, 0))[0].line)["event"]["data"]["question"] == "why?"


async def test_a_run_that_waited_for_its_turn_is_no_orphan(house: House) -> None:
    """Nobody has to watch a run that doesn't work; the time counts from when it does."""
    release = asyncio.Event()

    async def waits(task: Task, sink: Sink) -> Answer:
        await release.wait()
        return ANSWER

    runs = house.open(waits, orphan_seconds=0.3)
    first = await ask(runs, session_id="s")
    viewer = asyncio.ensure_future(runs.outcome(first.run_id))
    second = await ask(runs, session_id="s", if_busy="queue")
    await asyncio.sleep(0.4)
    release.set()
    assert (await viewer).event_type == "completed"
    assert (await runs.outcome(second.run_id)).event_type == "completed"


async def test_a_cancel_goes_before_a_suspension(house: House) -> None:
    """What was acknowledged holds, also when the server is going away."""
    release = asyncio.Event()

    async def stubborn(task: Task, sink: Sink) -> Answer:
        try:
            await asyncio.Event().wait()
        finally:
            await release.wait()
        return ANSWER

    cast(Any, house.journal).survives = True
    runs = house.open(stubborn)
    record = await ask(runs)
    await asyncio.sleep(0.01)
    closing = asyncio.ensure_future(runs.close())
    await asyncio.sleep(0.01)
    await runs.cancel(record.run_id, "p")
    release.set()
    await closing
    assert (await house.log(record.run_id))[-1].body == Cancelled(reason="client")


async def test_a_run_whose_log_failed_is_taken_up_again(house: House) -> None:
    """By the next look, or by a cancel: it ends with a terminal event all the same."""
    broken = True

    class Failing(Yielding):
        async def append(self, *args: Any, **kwargs: Any) -> None:
            if broken:
                raise JournalError("the disk is full")
            await house.journal.append(*args, **kwargs)

    journal = cast(Journal, Failing(house.journal))
    runs = Runs(journal, Bus(journal, house.group), Scripted(answers), Limits(), group=house.group)
    by_look, by_cancel = await ask(runs), await ask(runs)
    await until(lambda: not runs.active)
    broken = False
    await runs.cancel(by_cancel.run_id, "p")
    await runs.recover()
    assert (await runs.outcome(by_look.run_id)).event_type == "completed"
    assert (await runs.outcome(by_cancel.run_id)).event_type == "cancelled"
