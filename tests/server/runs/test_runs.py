"""A run's life: one writer, ids without a gap, exactly one terminal event whatever is raised."""

import asyncio
import hashlib
import json

import pytest

from askstream.server.events import AgentThinking, Cancelled, Completed, Draft, Failed, Usage
from askstream.server.events.errors import IdempotencyConflict, RunFailed, RunNotFound
from askstream.server.runs import Answer, Sink, Task
from tests.server.runs.harness import ANSWER, Harness, answers, ask, ended, until


async def test_a_run_begins_with_started_and_ends_with_one_terminal_event(harness: Harness) -> None:
    """Ids count from 1 without a gap, and progress never falls."""
    log = await ended(harness, harness.open(answers))
    assert [e.id for e in log] == [1, 2, 3, 4, 5]
    assert [e.event_type for e in log] == ["started", "agent_thinking", "agent_chunk", "agent_response", "completed"]
    assert [getattr(e.body, "progress", None) for e in log] == [0, 25, None, 25, 100]
    last = log[-1].body
    assert isinstance(last, Completed)
    assert (last.final_response, last.response_length, last.total_messages, last.usage) == ("42", 2, 1, Usage(3, 4))


async def test_started_is_durable_before_the_team_is_asked(harness: Harness) -> None:
    """No model is called for a run that a crash could lose."""

    async def looks(task: Task, sink: Sink) -> Answer:
        assert [e.event_type for e in await harness.log(task.run_id)] == ["started"]
        return ANSWER

    assert (await ended(harness, harness.open(looks)))[-1].event_type == "completed"


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
async def test_a_run_ends_once_for_any_error_of_its_team(
    harness: Harness, raised: BaseException, code: str | None
) -> None:
    """The event has a stable code, and no text of an error that isn't for people."""

    async def fails(task: Task, sink: Sink) -> Answer:
        await sink.emit(Draft("A", "hm", AgentThinking()))
        raise raised

    log = await ended(harness, harness.open(fails))
    assert [e.event_type in {"completed", "error", "cancelled"} for e in log] == [False, False, True]
    body = log[-1].body
    assert (body.error if isinstance(body, Failed) else None) == code
    assert "secret" not in log[-1].message


async def test_the_record_has_state_usage_progress_and_digest(harness: Harness) -> None:
    """The digest is the SHA-256 over the event lines without chunks, as a client can compute it."""
    runs = harness.open(answers)
    record = await ask(runs)
    await runs.outcome(record.run_id)
    found = await runs.find(record.run_id, "p")
    lines = [e.line for e in await harness.journal.read(record.run_id, 0) if e.event_type != "agent_chunk"]
    assert found.digest == hashlib.sha256(b"".join(line + b"\n" for line in lines)).hexdigest()
    assert (found.state, found.progress, found.last_id) == ("completed", 100, 5)
    assert (found.prompt_tokens, found.completion_tokens) == (3, 4)
    assert found.ended


async def test_cancel_stops_a_waiting_team_and_is_reported_once(harness: Harness) -> None:
    """A repeated cancel changes nothing, also after the end."""
    working, stopped = asyncio.Event(), asyncio.Event()

    async def waits(task: Task, sink: Sink) -> Answer:
        try:
            working.set()
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return ANSWER

    runs = harness.open(waits)
    record = await ask(runs)
    await working.wait()
    assert not (await runs.cancel(record.run_id, "p")).ended
    await runs.cancel(record.run_id, "p")
    terminal = await runs.outcome(record.run_id)
    assert terminal.body == Cancelled(reason="client")
    assert stopped.is_set()
    assert (await runs.cancel(record.run_id, "p")).state == "cancelled"
    assert len(await harness.log(record.run_id)) == 2


async def test_a_team_that_ignores_its_cancel_is_given_up(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    """The run ends in time, and the team's later events are refused."""
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

    runs = harness.open(stubborn, cancel_seconds=0.05)
    record = await ask(runs)
    await working.wait()
    await runs.cancel(record.run_id, "p")
    assert (await runs.outcome(record.run_id)).body == Cancelled(reason="client")
    release.set()
    await until(lambda: bool(refused))
    assert refused == ["internal"]
    assert len(await harness.log(record.run_id)) == 2
    assert "given up" in caplog.text


async def test_a_key_joins_the_first_run_and_another_body_is_a_conflict(harness: Harness) -> None:
    """Of a hundred equal posts at once exactly one starts a run."""
    runs = harness.open(answers, active_runs=200)
    records = await asyncio.gather(*(ask(runs, idempotency_key="k", fingerprint="f") for _ in range(100)))
    assert len({each.run_id for each in records}) == 1
    assert len(await runs.page("p")) == 1
    with pytest.raises(IdempotencyConflict):
        await ask(runs, idempotency_key="k", fingerprint="other")


async def test_somebody_elses_run_does_not_exist(harness: Harness) -> None:
    """It can't be found, cancelled or forgotten."""
    runs = harness.open(answers)
    record = await ask(runs)
    for call in (runs.find, runs.cancel, runs.forget):
        with pytest.raises(RunNotFound):
            await call(record.run_id, "another")


async def test_the_stream_log_names_the_run_and_never_the_question(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    """Each line has an id. Chunks are logged at DEBUG only. After `close` all is logged."""
    caplog.set_level("INFO", logger="stream_events")
    runs = harness.open(answers)
    log = await ended(harness, runs)
    await runs.close()
    lines = [line for r in caplog.records if r.name == "stream_events" for line in r.getMessage().splitlines()]
    assert lines == [
        f"run={log[0].run_id} id={e.id} {e.event_type} {e.agent_name}" for e in log if e.event_type != "agent_chunk"
    ]
    assert "why?" not in caplog.text
    assert json.loads((await harness.journal.read(log[0].run_id, 0))[0].line)["event"]["data"]["question"] == "why?"
