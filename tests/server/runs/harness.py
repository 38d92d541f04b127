"""Runs over a journal, with a test's own function as the team."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from askstream.server.bus import Bus
from askstream.server.events import AgentChunk, AgentResponse, AgentThinking, Draft, Event, Usage, decode
from askstream.server.journal import Journal, RunRecord
from askstream.server.runs import Answer, Limits, Question, Runs, Sink, Task

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
class Harness:
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


async def ask(runs: Runs, **fields: Any) -> RunRecord:
    record, _ = await runs.start(Question(text="why?", principal="p", **fields))
    return record


async def viewed(runs: Runs, record: RunRecord, event_id: int) -> None:
    """Return when that event is durable."""
    while (await runs.find(record.run_id, "p")).last_id < event_id:  # noqa: ASYNC110 - durability has no event of its own
        await asyncio.sleep(0)


async def until(holds: Callable[[], bool]) -> None:
    """Yield to the event loop until it does. If it never does, the fixture's timeout fails the test."""
    while not holds():  # noqa: ASYNC110 - the condition has no event of its own
        await asyncio.sleep(0)


async def ended(harness: Harness, runs: Runs, **fields: Any) -> list[Event]:
    """Return the whole log of one run."""
    record = await ask(runs, **fields)
    await runs.outcome(record.run_id)
    return await harness.log(record.run_id)


async def answers(task: Task, sink: Sink) -> Answer:
    await sink.emit(Draft("A", "hm", AgentThinking(progress=25)))
    await sink.emit(Draft("A", "", AgentChunk(delta="4", message_id="m")))
    await sink.emit(Draft("A", "42", AgentResponse(progress=0, usage=Usage(3, 4))))
    return ANSWER
