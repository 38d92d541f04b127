"""Runs go on after their server died, shut down, or could not write their log."""

import asyncio
import hashlib
from typing import Any, cast

import pytest

from askstream.server.bus import Bus
from askstream.server.events import AgentResponse, AgentThinking, Cancelled, Draft, Failed, Resumed
from askstream.server.events.errors import Draining, JournalError
from askstream.server.journal import Journal
from askstream.server.runs import Answer, Limits, Runs, Sink, Task
from tests.conformance.journals import Yielding
from tests.server.runs.harness import ANSWER, Harness, Scripted, answers, ask, until, viewed


async def test_a_run_goes_on_after_its_server_died(harness: Harness) -> None:
    """It resumes from its last checkpoint, with `resumed` in the log, ids without a gap, and a digest of all of it."""

    reached = asyncio.Event()

    async def dies(task: Task, sink: Sink) -> Answer:
        await sink.emit(Draft("A", "one", AgentResponse(progress=25)))
        await sink.checkpoint(b"after one")
        await sink.emit(Draft("A", "half of two", AgentThinking()))
        reached.set()
        await asyncio.Event().wait()
        return ANSWER

    first = harness.open(dies)
    record = await ask(first)
    await reached.wait()
    await viewed(first, record, 3)

    async def goes_on(task: Task, sink: Sink) -> Answer:
        assert (task.checkpoint, task.attempt) == (b"after one", 2)
        await sink.emit(Draft("A", "two", AgentResponse(progress=50)))
        return ANSWER

    second = harness.open(goes_on)
    await second.recover()
    await second.outcome(record.run_id)
    log = await harness.log(record.run_id)
    assert [e.id for e in log] == list(range(1, 7))
    assert log[3].body == Resumed(attempt=2, from_id=2, charges=1)
    assert [e.message for e in log[4:5]] == ["two"]
    found = await second.find(record.run_id, "p")
    lines = [e.line for e in await harness.journal.read(record.run_id, 0)]
    assert found.digest == hashlib.sha256(b"".join(line + b"\n" for line in lines)).hexdigest()
    await first.close()  # the server that was taken for dead can't write any more
    assert await harness.log(record.run_id) == log


async def test_a_run_that_brings_its_server_down_is_given_up(harness: Harness) -> None:
    """It was alone at work. After five crashes without a new checkpoint it ends with the error `interrupted`."""

    async def hangs(task: Task, sink: Sink) -> Answer:
        await asyncio.Event().wait()
        return ANSWER

    servers = [harness.open(hangs) for _ in range(6)]
    record = await ask(servers[0])
    for number, runs in enumerate(servers[1:5], start=2):
        await runs.recover()
        await viewed(runs, record, number)
    await servers[-1].recover()
    terminal = await servers[-1].outcome(record.run_id)
    assert isinstance(terminal.body, Failed)
    assert terminal.body.error == "interrupted"
    for runs in servers:
        await runs.close()


async def test_a_log_that_cannot_be_written_ends_the_run_here(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    """No viewer gets an event that isn't durable. The stream ends, and viewers can reconnect for the rest."""

    class Broken(Yielding):
        async def append(self, *args: Any, **kwargs: Any) -> None:
            raise JournalError("the disk is full")

    journal = cast(Journal, Broken(harness.journal))
    bus = Bus(journal, harness.group)
    runs = Runs(journal, bus, Scripted(answers), Limits(), group=harness.group)
    record = await ask(runs)
    viewer = await bus.attach(record.run_id)
    assert [e.id for e in (await viewer.next()).entries] == [1]
    await until(lambda: not runs.active)
    assert "the disk is full" in caplog.text
    viewer.close()
    bus.close()


async def test_after_closing_nothing_starts_and_everything_has_ended(harness: Harness) -> None:
    """The server shuts down."""

    async def waits(task: Task, sink: Sink) -> Answer:
        await asyncio.Event().wait()
        return ANSWER

    runs = harness.open(waits)
    record = await ask(runs)
    await runs.close()
    assert (await harness.log(record.run_id))[-1].body == Cancelled(reason="shutdown")
    with pytest.raises(Draining):
        await ask(runs)


async def test_a_cancel_overrides_a_suspension(harness: Harness) -> None:
    """An acknowledged cancel holds, also while the server shuts down."""
    release = asyncio.Event()

    async def stubborn(task: Task, sink: Sink) -> Answer:
        try:
            await asyncio.Event().wait()
        finally:
            await release.wait()
        return ANSWER

    cast(Any, harness.journal).survives = True
    runs = harness.open(stubborn)
    record = await ask(runs)
    await asyncio.sleep(0.01)
    closing = asyncio.ensure_future(runs.close())
    await asyncio.sleep(0.01)
    await runs.cancel(record.run_id, "p")
    release.set()
    await closing
    assert (await harness.log(record.run_id))[-1].body == Cancelled(reason="client")


async def test_a_run_whose_log_failed_is_resumed(harness: Harness) -> None:
    """The next check or a cancel resumes it, and it still ends with a terminal event."""
    broken = True

    class Failing(Yielding):
        async def append(self, *args: Any, **kwargs: Any) -> None:
            if broken:
                raise JournalError("the disk is full")
            await harness.journal.append(*args, **kwargs)

    journal = cast(Journal, Failing(harness.journal))
    runs = Runs(journal, Bus(journal, harness.group), Scripted(answers), Limits(), group=harness.group)
    by_look, by_cancel = await ask(runs), await ask(runs)
    await until(lambda: not runs.active)
    broken = False
    await runs.cancel(by_cancel.run_id, "p")
    await runs.recover()
    assert (await runs.outcome(by_look.run_id)).event_type == "completed"
    assert (await runs.outcome(by_cancel.run_id)).event_type == "cancelled"
