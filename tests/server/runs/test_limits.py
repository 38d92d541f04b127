"""The limits of a run: time, messages, sizes, places; and the end of a run that exceeds one."""

import asyncio
import re
from dataclasses import replace
from typing import Any, cast

import pytest

from askstream.server.bus import Bus
from askstream.server.events import (
    AgentResponse,
    AgentThinking,
    Cancelled,
    Completed,
    Draft,
    Failed,
    ToolExecution,
    Usage,
)
from askstream.server.events.errors import RunFailed, TooManyRuns
from askstream.server.journal import Journal, RunRecord
from askstream.server.runs import Answer, Inquiry, Limits, Runs, Sink, Task
from askstream.server.runs.orchestrator import SupportsWatched
from tests.conformance.journals import Yielding
from tests.server.runs.harness import ANSWER, Harness, Scripted, ask, ended, until


async def test_a_run_may_not_take_for_ever(harness: Harness) -> None:
    """Its total time is limited, however many events it emits."""

    async def chatters(task: Task, sink: Sink) -> Answer:
        while True:
            await sink.emit(Draft("A", "hm", AgentThinking()))
            await asyncio.sleep(0)

    log = await ended(harness, harness.open(chatters, run_seconds=0.1))
    assert log[-1].body == Cancelled(reason="timeout")
    assert len(log) > 10


async def test_a_run_may_not_be_silent_for_too_long(harness: Harness) -> None:
    """Each event starts the count anew."""

    async def falls_silent(task: Task, sink: Sink) -> Answer:
        for _ in range(5):
            await asyncio.sleep(0.06)
            await sink.emit(Draft("A", "hm", AgentThinking()))
        await asyncio.Event().wait()
        return ANSWER

    log = await ended(harness, harness.open(falls_silent, silence_seconds=0.15))
    assert log[-1].body == Cancelled(reason="timeout")
    assert len(log) == 7


async def test_silence_says_what_it_was(harness: Harness) -> None:
    """A tool that doesn't return, or the agent that spoke last."""

    async def calls_a_tool(task: Task, sink: Sink) -> Answer:
        await sink.emit(Draft("A", "", ToolExecution(tool_name="t", parameters={}, call_id="c", status="started")))
        await asyncio.Event().wait()
        return ANSWER

    async def speaks(task: Task, sink: Sink) -> Answer:
        await sink.emit(Draft("B", "hm", AgentThinking()))
        await asyncio.Event().wait()
        return ANSWER

    said = "The run was stopped: it gave no sign of life for 0.1 s"
    log = await ended(harness, harness.open(calls_a_tool, silence_seconds=0.1))
    assert (log[-1].body, log[-1].message) == (Cancelled(reason="timeout"), f"{said}, while A waited for the tool t.")
    log = await ended(harness, harness.open(speaks, silence_seconds=0.1))
    assert log[-1].message == f"{said}; the last came from B."


async def test_a_call_that_limits_its_own_silence_may_be_silent(harness: Harness) -> None:
    """After it the run's limit counts anew."""
    release = asyncio.Event()

    async def asks_a_model(task: Task, sink: Sink) -> Answer:
        assert isinstance(sink, SupportsWatched)
        with sink.watched():
            await asyncio.sleep(0.5)
            release.set()
        await asyncio.Event().wait()
        return ANSWER

    log = await ended(harness, harness.open(asks_a_model, silence_seconds=0.1))
    assert release.is_set()
    assert log[-1].body == Cancelled(reason="timeout")


async def test_unknown_usage_is_unknown_in_the_record(harness: Harness) -> None:
    """Of one call that nobody counted, and of a whole run."""

    async def fails(task: Task, sink: Sink) -> Answer:
        for usage in (Usage(3, 4), Usage(None, None), Usage(3, 4)):
            await sink.emit(Draft("A", "a", AgentResponse(usage=usage)))
        raise RunFailed("team_failed", "It failed.")

    async def answers(task: Task, sink: Sink) -> Answer:
        return replace(ANSWER, usage=Usage(None, None))

    for team in (fails, answers):
        runs = harness.open(team)
        record = await ask(runs)
        await runs.outcome(record.run_id)
        record = await runs.find(record.run_id, "p")
        assert record.usage == Usage(None, None)


async def test_the_message_limit_holds_for_any_team(harness: Harness) -> None:
    """The fourth message is one too many if three are allowed."""

    async def talks(task: Task, sink: Sink) -> Answer:
        while True:
            await sink.emit(Draft("A", "and", AgentResponse()))

    log = await ended(harness, harness.open(talks, messages=3))
    assert [e.event_type for e in log] == ["started", *["agent_response"] * 3, "error"]
    assert isinstance(log[-1].body, Failed)
    assert log[-1].body.error == "message_limit"


async def test_a_large_tool_result_is_cut_and_marked(harness: Harness) -> None:
    """The event stays within its bound, the run goes on."""

    async def reads(task: Task, sink: Sink) -> Answer:
        body = ToolExecution(tool_name="t", parameters={}, call_id="c", status="finished", result="x" * 300_000)
        await sink.emit(Draft("A", "", body))
        return ANSWER

    log = await ended(harness, harness.open(reads))
    assert log[-1].event_type == "completed"
    assert isinstance(log[1].body, ToolExecution)
    result = cast(dict[str, Any], log[1].body.result)
    assert result["truncated"] is True
    assert result["event_bytes"] > 300_000
    assert set(result["excerpt"]) == {"x"}


MARK = re.compile(r"\n\n\[Cut: the first ([\d,]+) of ([\d,]+) characters.\]$")


@pytest.mark.parametrize("character", ["x", "\u20ac", "\U0001f600", "\n"])
async def test_a_long_text_is_cut_with_a_mark_and_the_run_goes_on(harness: Harness, character: str) -> None:
    """Messages, thoughts and the answer, whatever a character takes in bytes. The answer's length is the whole's."""
    text = character * 300_000

    async def writes(task: Task, sink: Sink) -> Answer:
        await sink.emit(Draft("A", text, AgentThinking()))
        await sink.emit(Draft("A", text, AgentResponse(content_type="application/json", content={"a": text})))
        return Answer(final_response=text, total_messages=1, usage=Usage(), agent_name="A")

    log = await ended(harness, harness.open(writes))
    assert isinstance(log[-1].body, Completed)
    assert log[-1].body.response_length == 300_000
    assert isinstance(log[2].body, AgentResponse)
    assert cast(dict[str, Any], log[2].body.content)["truncated"] is True
    for cut in (log[1].message, log[2].message, log[-1].body.final_response):
        found = MARK.search(cut)
        assert found is not None
        assert found[2] == "300,000"
        assert cut[: found.start()] == character * int(found[1].replace(",", ""))
        assert int(found[1].replace(",", "")) >= 20_000


async def test_large_parameters_and_a_deep_result_do_not_end_a_run(harness: Harness) -> None:
    """Both are cut, and say so."""
    deep: Any = []
    for _ in range(5000):
        deep = [deep]

    async def calls(task: Task, sink: Sink) -> Answer:
        body = ToolExecution(tool_name="t", parameters={"x": "y" * 300_000}, call_id="c", status="started")
        await sink.emit(Draft("A", "", body))
        await sink.emit(Draft("A", "", replace(body, parameters={}, status="finished", result=deep)))
        return ANSWER

    log = await ended(harness, harness.open(calls))
    assert log[-1].event_type == "completed"
    begins, ends = log[1].body, log[2].body
    assert isinstance(begins, ToolExecution)
    assert isinstance(ends, ToolExecution)
    assert cast(dict[str, Any], begins.parameters)["truncated"] is True
    assert "[Cut: nested too deeply.]" in str(ends.result)


async def test_places_for_active_runs_are_counted(harness: Harness) -> None:
    """A refusal says when to retry, and the end of a run frees its place."""
    release = asyncio.Event()

    async def waits(task: Task, sink: Sink) -> Answer:
        await release.wait()
        return ANSWER

    runs = harness.open(waits, active_runs=2)
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


async def test_a_team_faster_than_the_disk_waits_for_it(harness: Harness) -> None:
    """Events that aren't written yet are bounded."""
    gate = asyncio.Event()
    most = 0

    class Slow(Yielding):
        async def append(self, *args: Any, **kwargs: Any) -> None:
            nonlocal most
            await gate.wait()
            most = max(most, sum(len(e.line) for e in args[1]))
            await harness.journal.append(*args, **kwargs)

    async def floods(task: Task, sink: Sink) -> Answer:
        for _ in range(100):
            await sink.emit(Draft("A", "x" * 100_000, AgentThinking()))
            gate.set()
        return ANSWER

    journal = cast(Journal, Slow(harness.journal))
    runs = Runs(journal, Bus(journal, harness.group), Scripted(floods), Limits(), group=harness.group)
    record = await ask(runs)
    await runs.outcome(record.run_id)
    assert len(await harness.log(record.run_id)) == 102
    assert most < 1_300_000


async def test_a_run_that_waited_in_its_session_is_no_orphan(harness: Harness) -> None:
    """Nobody has to watch a run that doesn't work yet; the time counts from the start of its work."""
    release = asyncio.Event()

    async def waits(task: Task, sink: Sink) -> Answer:
        await release.wait()
        return ANSWER

    runs = harness.open(waits, orphan_seconds=0.3)
    first = await ask(runs, session_id="s")
    viewer = asyncio.ensure_future(runs.outcome(first.run_id))
    second = await ask(runs, session_id="s", if_busy="queue")
    await asyncio.sleep(0.4)
    release.set()
    assert (await viewer).event_type == "completed"
    assert (await runs.outcome(second.run_id)).event_type == "completed"


async def test_a_run_that_waits_for_a_human_takes_up_no_place(harness: Harness) -> None:
    """It has no team then; only runs whose team works count."""

    async def asks(task: Task, sink: Sink) -> Inquiry:
        return Inquiry(agent_name="A", prompt="?", state=b"")

    runs = harness.open(cast(Any, asks), active_runs=1)
    for _ in range(3):
        record = await ask(runs)
        await until(lambda: not runs.active)
        assert runs.pending(record.run_id)
    await runs.close()
