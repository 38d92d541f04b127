"""Many runs that emit in one iteration of the event loop: the first events leave before the last ones are emitted."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from askstream.server.bus import Batch, Channel
from askstream.server.events import EVERYTHING, AgentThinking, Draft, InputRequested
from askstream.server.events.errors import JournalError
from askstream.server.journal import Journal, open_journal
from askstream.server.runs.limits import Limits
from askstream.server.runs.log_writer import PART_RUNS, Burst, LogWriter
from askstream.server.telemetry import StreamLog
from tests.conformance.journals import record

THOUGHT = Draft("A", "thinking", AgentThinking(progress=25))
ASKED = Draft("A", "?", InputRequested(request_id="q", prompt="?", schema={}, deadline=""))
RUNS = 2 * PART_RUNS + 3


@dataclass(eq=False)
class Runs:
    """Runs with one journal and one burst. `committed` counts events that another connection sees."""

    journal: Journal
    other: sqlite3.Connection
    writers: list[LogWriter] = field(default_factory=list[LogWriter])

    @property
    def committed(self) -> int:
        count: int = self.other.execute("SELECT count(*) FROM events").fetchone()[0]
        return count

    @property
    def shown(self) -> int:
        return sum(writer.channel.last_id for writer in self.writers)


@pytest.fixture(params=["normal", "full"])
async def runs(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Runs]:
    """With `full` each commit waits for the disk, on the journal's thread."""
    journal = open_journal(f"sqlite:///{tmp_path}/j.db", synchronous=request.param)
    other, burst = sqlite3.connect(tmp_path / "j.db"), Burst(journal)
    made = Runs(journal, other)
    for number in range(RUNS):
        new = record(str(number))
        await journal.create(new, [])
        made.writers.append(
            LogWriter(
                new,
                journal,
                Channel(str(number)),
                Limits(),
                clock=lambda: datetime.now(UTC),
                log=StreamLog(),
                burst=burst,
            )
        )
    yield made
    await journal.close()
    other.close()


async def _emit(runs: Runs) -> None:
    """Emit an event in each run, all in this iteration of the loop."""
    for writer in runs.writers:
        await writer.emit(THOUGHT)


@pytest.mark.parametrize("runs", ["normal"], indirect=True)
async def test_the_first_events_are_shown_before_the_last_are_emitted(runs: Runs) -> None:
    await _emit(runs)
    assert runs.committed == runs.shown == RUNS - 3
    for _ in range(2):
        await asyncio.sleep(0)
    assert runs.committed == runs.shown == RUNS


async def test_every_event_of_a_burst_becomes_durable_in_order(runs: Runs) -> None:
    """A journal that can't write at once appends them as usual."""
    for _ in range(3):
        await _emit(runs)
    async with asyncio.timeout(30):
        await asyncio.gather(*(writer.flush() for writer in runs.writers))
    for number in range(RUNS):
        assert [entry.id for entry in await runs.journal.read(str(number), 0)] == [1, 2, 3]
        assert await runs.journal.record(str(number)) == runs.writers[number].durable


@dataclass(frozen=True)
class Lines:
    """An encoding without heartbeats."""

    heartbeat = b""
    heartbeat_seconds = 0.0

    def encode(self, _run_id: str, batch: Batch, /) -> bytes:
        return b"".join(entry.line for entry in batch.entries)


class Unwatched:
    def on_detached(self, cursor: int, *, ended: bool) -> None: ...


async def test_an_event_is_durable_before_it_is_shown_and_shown_outside_the_team(runs: Runs) -> None:
    """A task that a viewer's write starts must outlive the team in whose `emit` it happens."""
    team, seen = ContextVar("team", default=""), list[tuple[str, bool, str]]()

    def look(run_id: str) -> None:
        sql = "SELECT count(*) FROM events JOIN runs USING (number) WHERE run_id = ?"
        count = runs.other.execute(sql, (run_id,)).fetchone()[0]
        seen.append((run_id, count == 1, team.get()))

    for number, writer in enumerate(runs.writers):
        broadcast = writer.channel.broadcast(Lines(), EVERYTHING)
        broadcast.add(Unwatched(), lambda _data, number=number: look(str(number)))
    team.set("ours")
    await _emit(runs)
    async with asyncio.timeout(30):
        await asyncio.gather(*(writer.flush() for writer in runs.writers))
    assert seen == [(str(number), True, "") for number in range(RUNS)]


async def test_an_event_and_its_checkpoint_are_durable_together(runs: Runs) -> None:
    """No commit between two parts of a burst holds a question without the state from which its run can go on."""
    halves = "SELECT count(*) FROM events LEFT JOIN checkpoints USING (number) WHERE state IS NULL"
    found: list[int] = []

    async def ask(writer: LogWriter) -> None:
        found.append(runs.other.execute(halves).fetchone()[0])
        await writer.wait_for_human(ASKED, b"state")

    async with asyncio.timeout(30):
        await asyncio.gather(*(ask(writer) for writer in runs.writers))
    assert found == [0] * RUNS
    assert runs.committed == RUNS
    assert {writer.durable.state for writer in runs.writers} == {"waiting"}


async def test_a_run_that_was_taken_over_fails_alone(runs: Runs) -> None:
    """A part with a refused append is written one by one."""
    await runs.journal.claim("5")
    await _emit(runs)
    async with asyncio.timeout(30):
        outcomes = await asyncio.gather(*(writer.flush() for writer in runs.writers), return_exceptions=True)
    assert [number for number, outcome in enumerate(outcomes) if outcome is not None] == [5]
    assert isinstance(outcomes[5], JournalError)
    assert runs.committed == runs.shown == RUNS - 1
    with pytest.raises(JournalError):
        await runs.writers[5].emit(THOUGHT)
