"""A team that waits for a human in memory: it is asked and answered as any other, and its wait counts for no limit."""

import asyncio
from dataclasses import replace
from typing import Any, cast

import pytest

from askstream.server.events import (
    AgentResponse,
    AgentThinking,
    Cancelled,
    Completed,
    Draft,
    Failed,
    InputRequested,
    InputResolved,
    Resumed,
)
from askstream.server.events.errors import InputExpired, RunFailed
from askstream.server.journal import Checkpoint, RunRecord
from askstream.server.runs import Answer, Inquiry, Reply, Runs, Sink, Task
from tests.server.runs.harness import ANSWER, Harness, ask, ended, until

WHICH = Inquiry(agent_name="A", prompt="Which?")


def told(reply: Reply) -> Draft:
    return Draft("A", str(reply.value), AgentThinking())


async def asks(task: Task, sink: Sink) -> Answer:
    await sink.emit(told(await sink.ask(WHICH)))
    return ANSWER


async def asked(runs: Runs, record: RunRecord, *, but: str = "") -> str:
    """The id of the question that the run waits with."""
    while (pending := runs.pending(record.run_id)) is None or pending["request_id"] == but:  # noqa: ASYNC110
        await asyncio.sleep(0)
    return pending["request_id"]


async def test_the_team_gets_the_reply_where_it_waits(harness: Harness) -> None:
    """The log has the question and the answer; no place for active runs is taken meanwhile."""
    runs = harness.open(asks)
    record = await ask(runs)
    request_id = await asked(runs, record)
    await until(lambda: runs.active == 0)
    assert (await runs.find(record.run_id, "p")).state in ("waiting", "running")  # the state follows with the event
    while (await runs.find(record.run_id, "p")).state != "waiting":  # noqa: ASYNC110
        await asyncio.sleep(0)
    await runs.submit_input(record.run_id, "p", request_id, "this")
    assert isinstance((await runs.outcome(record.run_id)).body, Completed)
    log = await harness.log(record.run_id)
    assert [event.event_type for event in log] == [
        "started", "input_requested", "input_resolved", "agent_thinking", "completed",
    ]  # fmt: skip
    assert log[3].message == "this"
    assert (await runs.find(record.run_id, "p")).state == "completed"


async def test_questions_at_once_are_asked_one_after_the_other(harness: Harness) -> None:
    """Each asker gets its own reply."""

    async def both(task: Task, sink: Sink) -> Answer:
        replies = await asyncio.gather(*(sink.ask(Inquiry(agent_name=name, prompt=f"{name}?")) for name in "AB"))
        await sink.emit(Draft("A", " ".join(str(reply.value) for reply in replies), AgentThinking()))
        return ANSWER

    runs = harness.open(both)
    record = await ask(runs)
    first = await asked(runs, record)
    await runs.submit_input(record.run_id, "p", first, "to A")
    second = await asked(runs, record, but=first)
    await runs.submit_input(record.run_id, "p", second, "to B")
    await runs.outcome(record.run_id)
    assert (await harness.log(record.run_id))[-2].message == "to A to B"


@pytest.mark.serial
async def test_the_wait_counts_for_no_limit(harness: Harness) -> None:
    """Neither for the run's time, nor for silence, nor as time without viewers. The work before and after counts."""
    runs = harness.open(asks, run_seconds=0.2, silence_seconds=0.2, orphan_seconds=0.2)
    record = await ask(runs)
    request_id = await asked(runs, record)
    await asyncio.sleep(0.5)
    await runs.submit_input(record.run_id, "p", request_id, "this")
    assert isinstance((await runs.outcome(record.run_id)).body, Completed)

    async def asks_and_hangs(task: Task, sink: Sink) -> Answer:
        await asks(task, sink)
        await asyncio.Event().wait()
        return ANSWER

    runs = harness.open(asks_and_hangs, silence_seconds=0.2)
    record = await ask(runs)
    await runs.submit_input(record.run_id, "p", await asked(runs, record), "this")
    assert (await runs.outcome(record.run_id)).body == Cancelled(reason="timeout")


async def test_nobody_answers_in_time(harness: Harness) -> None:
    """The team learns it; a later answer is refused."""
    runs = harness.open(asks, input_seconds=0.05)
    log = await ended(harness, runs)
    assert [type(event.body) for event in log[1:3]] == [InputRequested, InputResolved]
    assert log[2].body.outcome == "timed_out"  # type: ignore[union-attr]
    assert log[3].message == "None"


async def test_a_withdrawn_question_is_closed(harness: Harness) -> None:
    """A team with a time limit of its own goes on without the reply, and viewers see that nobody waits any more."""

    async def impatient(task: Task, sink: Sink) -> Answer:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sink.ask(WHICH), 0.05)
        return replace(ANSWER, final_response=str((await sink.ask(WHICH)).value))

    runs = harness.open(impatient)
    record = await ask(runs)
    first = await asked(runs, record)
    second = await asked(runs, record, but=first)
    with pytest.raises(InputExpired):
        await runs.submit_input(record.run_id, "p", first, "late")
    await runs.submit_input(record.run_id, "p", second, "in time")
    body = (await runs.outcome(record.run_id)).body
    assert isinstance(body, Completed)
    assert body.final_response == "in time"
    log = await harness.log(record.run_id)
    assert [event.body.outcome for event in log if isinstance(event.body, InputResolved)] == ["timed_out", "answered"]


@pytest.mark.parametrize("stop", ["cancel", "fail"])
async def test_a_wait_ends_with_its_run(harness: Harness, stop: str) -> None:
    """A cancel, or a team of which another part fails meanwhile."""
    fail = asyncio.Event()
    parts: list[asyncio.Future[Reply]] = []

    async def two_parts(task: Task, sink: Sink) -> Answer:
        parts.append(asyncio.ensure_future(sink.ask(WHICH)))
        await fail.wait()
        raise RunFailed("team_failed", "A part has failed.")

    runs = harness.open(two_parts)
    record = await ask(runs)
    request_id = await asked(runs, record)
    if stop == "cancel":
        await runs.cancel(record.run_id, "p")
    else:
        fail.set()
    body = (await runs.outcome(record.run_id)).body
    parts[0].cancel()
    assert body == (Cancelled(reason="client") if stop == "cancel" else Failed(error="team_failed"))
    with pytest.raises(InputExpired):
        await runs.submit_input(record.run_id, "p", request_id, "late")


async def test_after_a_crash_the_run_goes_on_from_its_last_checkpoint(harness: Harness) -> None:
    """The question is void then, and so is its reply: the turn begins again. The run is at work, not waiting."""
    tasks: list[Task] = []

    async def turns(task: Task, sink: Sink) -> Answer:
        tasks.append(task)
        if task.attempt == 1:
            await sink.emit(Draft("A", "one", AgentResponse(progress=10)))
            await sink.checkpoint(b"one")
            await sink.ask(WHICH)
            await sink.ask(WHICH)
            raise AssertionError("nobody answers the second")
        await sink.checkpoint(b"two")
        states.append((await second.find(task.run_id, "p")).state)
        return ANSWER

    states: list[str] = []
    first = harness.open(turns)
    record = await ask(first)
    request_id = await asked(first, record)
    await first.submit_input(record.run_id, "p", request_id, "this")
    await asked(first, record, but=request_id)
    while (await first.find(record.run_id, "p")).state != "waiting":  # noqa: ASYNC110
        await asyncio.sleep(0)
    second = harness.open(turns)
    await second.recover()
    await second.outcome(record.run_id)
    assert (tasks[1].checkpoint, tasks[1].reply, tasks[1].attempt) == (b"one", None, 2)
    assert states == ["running"]
    resumed = [event for event in await harness.log(record.run_id) if isinstance(event.body, Resumed)]
    assert [event.body for event in resumed] == [Resumed(attempt=2, from_id=2, charges=1)]
    await first.close()


async def test_a_server_that_stops_leaves_the_run_to_the_next(harness: Harness) -> None:
    """As any other run: without an end, and without an answer."""

    async def once(task: Task, sink: Sink) -> Answer:
        if task.attempt > 1:
            raise RunFailed("interrupted", "It can't be resumed.")
        return await asks(task, sink)

    cast(Any, harness.journal).survives = True
    first = harness.open(once)
    record = await ask(first)
    await asked(first, record)
    await first.close()
    assert (await harness.log(record.run_id))[-1].event_type == "input_requested"
    second = harness.open(once)
    await second.recover()
    assert (await second.outcome(record.run_id)).body == Failed(error="interrupted", progress=0)


async def test_a_reply_in_memory_is_not_taken_for_the_reply_to_a_checkpoint(harness: Harness) -> None:
    """The run waited twice, first with its state saved; after a crash the team gets the first reply again."""
    tasks: list[Task] = []

    async def both(task: Task, sink: Sink) -> Answer | Inquiry:
        tasks.append(task)
        if task.checkpoint is None:
            return Inquiry(agent_name="A", prompt="First?", state=b"saved")
        if task.attempt == 1:
            await sink.ask(WHICH)
            await asyncio.Event().wait()
        return ANSWER

    first = harness.open(both)  # type: ignore[arg-type]
    record = await ask(first)
    request_id = await asked(first, record)
    await first.submit_input(record.run_id, "p", request_id, "first")
    await first.submit_input(record.run_id, "p", await asked(first, record, but=request_id), "second")
    second = harness.open(both)  # type: ignore[arg-type]
    await second.recover()
    await second.outcome(record.run_id)
    assert tasks[-1].reply == Reply(value="first")
    await first.close()


# --- messages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("most", "allowed"), [(10, 10), (2, 4)])
async def test_a_conversation_is_not_cut_like_a_runaway(harness: Harness, most: int, allowed: int) -> None:
    """Each answer of a human begins the count anew, up to a limit of its own, which is never the lower one."""

    async def chats(task: Task, sink: Sink) -> Answer:
        while True:
            for _ in range(3):
                await sink.emit(Draft("A", "and", AgentResponse()))
            await sink.ask(WHICH)

    runs = harness.open(chats, messages=4, conversation_messages=most)
    record = await ask(runs)
    last = ""
    for _ in range(allowed // 3):
        last = await asked(runs, record, but=last)
        await runs.submit_input(record.run_id, "p", last, "go on")
    body = (await runs.outcome(record.run_id)).body
    assert body == Failed(error="message_limit", progress=0)
    said = [event for event in await harness.log(record.run_id) if isinstance(event.body, AgentResponse)]
    assert len(said) == allowed


async def test_an_unanswered_question_is_no_conversation(harness: Harness) -> None:
    """A team that asks nobody is a runaway all the same; and a crash doesn't begin the count anew."""

    async def chats(task: Task, sink: Sink) -> Answer:
        while True:
            await sink.emit(Draft("A", "and", AgentResponse()))
            await sink.ask(WHICH)

    log = await ended(harness, harness.open(chats, messages=3, conversation_messages=10, input_seconds=0.01))
    assert sum(isinstance(event.body, AgentResponse) for event in log) == 3


async def test_the_count_goes_on_after_a_crash(harness: Harness) -> None:
    """From the log: answers of humans in it count as well."""
    reached = asyncio.Event()

    async def chats(task: Task, sink: Sink) -> Answer:
        if task.attempt == 1:
            await sink.emit(Draft("A", "and", AgentResponse()))
            await sink.emit(Draft("A", "and", AgentResponse()))
            await sink.ask(WHICH)
            await sink.checkpoint(b"x")
            reached.set()
            await asyncio.Event().wait()
        while True:
            await sink.emit(Draft("A", "and", AgentResponse()))

    first = harness.open(chats, messages=2, conversation_messages=10)
    record = await ask(first)
    await first.submit_input(record.run_id, "p", await asked(first, record), "go on")
    await reached.wait()
    second = harness.open(chats, messages=2, conversation_messages=10)
    await second.recover()
    await second.outcome(record.run_id)
    said = [event for event in await harness.log(record.run_id) if isinstance(event.body, AgentResponse)]
    assert len(said) == 4
    await first.close()


# --- a session's state -----------------------------------------------------------------------------------------------


async def test_a_run_begins_with_the_state_that_the_last_one_left(harness: Harness) -> None:
    """The session's last completed run. Those that failed, and those of other sessions, leave it alone."""
    states: list[bytes | None] = []
    left: list[bytes | None] = [b"one", b"fails", b"two", None, b"other", b"three"]

    async def remembers(task: Task, sink: Sink) -> Answer:
        states.append(task.session_state)
        state = left[len(states) - 1]
        await sink.checkpoint(b"of the run")
        if state == b"fails":
            raise RunFailed("team_failed", "It fails.")
        return replace(ANSWER, session_state=state)

    runs = harness.open(remembers)
    for session_id in ("s", "s", "s", "s", "t", "s"):
        last = await ask(runs, session_id=session_id, if_busy="queue")  # the end is durable before the slot is free
        await runs.outcome(last.run_id)
    assert states == [None, b"one", b"one", b"two", None, None]
    assert await harness.journal.checkpoint(last.run_id) == Checkpoint(2, b"three")
