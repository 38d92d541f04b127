"""The active runs: a run is resumed once, and a request for an active run doesn't read the disk."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from askstream.server.bus import Bus
from askstream.server.events import AgentThinking, Draft, Failed, Usage
from askstream.server.journal import Journal, open_journal
from askstream.server.runs import Answer, Inquiry, Limits, Question, Runs, Sink, Task
from tests.conformance.journals import Yielding

ANSWER = Answer(final_response="42", total_messages=1, usage=Usage(), agent_name="A")
QUESTION = Question(text="why?", principal="p", idempotency_key="k")


class Works:
    """A team that works until the test lets it answer."""

    model = "works"

    def __init__(self) -> None:
        self.begun, self.may_answer = asyncio.Event(), asyncio.Event()
        self.times = 0

    async def run(self, task: Task, sink: Sink) -> Answer:
        self.times += 1
        self.begun.set()
        await self.may_answer.wait()
        return ANSWER


class Asks:
    """A team that asks a person at once."""

    model = "asks"

    async def run(self, task: Task, sink: Sink) -> Answer | Inquiry:
        await sink.emit(Draft("A", "hm", AgentThinking()))
        return Inquiry(agent_name="A", prompt="Which?", state=b"state")


class Counting(Yielding):
    """A journal that counts its calls and outlives its server."""

    def __init__(self) -> None:
        super().__init__(open_journal("memory://"))
        self.survives = True
        self.asked = Counter[str]()

    def __getattr__(self, name: str) -> Any:
        self.asked[name] += 1
        return super().__getattr__(name)


@pytest.fixture
async def group() -> AsyncIterator[asyncio.TaskGroup]:
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        yield tasks


def server(journal: Any, group: asyncio.TaskGroup, team: Any, **others: Any) -> Runs:
    journal = cast(Journal, journal)
    return Runs(journal, Bus(journal, group), team, Limits(), group=group, others=others)


@pytest.mark.parametrize("other", [Works, Asks])
async def test_a_run_of_a_missing_orchestrator_ends_as_interrupted(group: asyncio.TaskGroup, other: type[Any]) -> None:
    """The next server starts all the same, and asks no human for a reply that no team would get."""
    journal = Counting()
    first = server(journal, group, Works(), other=other())
    record, _ = await first.start(QUESTION, orchestrator="other")
    while other is Asks and first.pending(record.run_id) is None:  # noqa: ASYNC110 - waiting has no event of its own
        await asyncio.sleep(0)
    await first.close()
    second = server(journal, group, Works())
    await second.recover()
    ended = await second.outcome(record.run_id)
    assert isinstance(ended.body, Failed)
    assert ended.body.error == "interrupted"
    while second.active:  # noqa: ASYNC110 - the end is durable, and published, before the run is removed
        await asyncio.sleep(0)


async def test_a_run_is_resumed_once_by_many_calls(group: asyncio.TaskGroup) -> None:
    """A cancel finds the run that another call is resuming, and ends it."""
    journal = Counting()
    first = server(journal, group, Works())
    record, _ = await first.start(QUESTION)
    await first.close()
    journal.asked.clear()
    team = Works()
    second = server(journal, group, team)
    await asyncio.gather(second.recover(), second.cancel(record.run_id, "p"), second.recover())
    assert (await second.outcome(record.run_id)).event_type == "cancelled"
    assert journal.asked["claim"] == 1
    assert team.times <= 1


async def test_an_active_run_is_found_without_the_disk(group: asyncio.TaskGroup) -> None:
    """Thousands may subscribe to it, or repeat its question, at once."""
    journal, team = Counting(), Works()
    runs = server(journal, group, team)
    record, new = await runs.start(QUESTION)
    assert new
    await team.begun.wait()
    journal.asked.clear()
    for _ in range(3):
        assert (await runs.find(record.run_id, "p")).run_id == record.run_id
        again, new = await runs.start(QUESTION)
        assert (again.run_id, new) == (record.run_id, False)
    assert not journal.asked
    team.may_answer.set()
    await runs.outcome(record.run_id)
    again, new = await runs.start(QUESTION)
    assert (again.run_id, new) == (record.run_id, False)


async def test_a_run_at_work_is_three_tasks(group: asyncio.TaskGroup) -> None:
    """The run, its log and its team have a task each. Waiting for limits and stops costs none."""
    team = Works()
    runs = server(open_journal("memory://"), group, team)
    before = len(asyncio.all_tasks())
    record, _ = await runs.start(QUESTION)
    await team.begun.wait()
    assert len(asyncio.all_tasks()) - before <= 3
    team.may_answer.set()
    await runs.outcome(record.run_id)


@pytest.mark.parametrize(("session_id", "reads"), [(None, 0), ("s", 1)])
async def test_only_a_session_with_a_past_is_read(group: asyncio.TaskGroup, session_id: str | None, reads: int) -> None:
    """The first run of a session starts work without reading the disk."""
    journal, team = Counting(), Works()
    runs = server(journal, group, team)
    record, _ = await runs.start(Question(text="why?", principal="p", session_id=session_id))
    await team.begun.wait()
    assert journal.asked["session"] == reads
    team.may_answer.set()
    await runs.outcome(record.run_id)


async def test_the_first_event_arrives_before_the_team_is_set_up(group: asyncio.TaskGroup) -> None:
    """Setting a team up costs milliseconds. Before that the loop iterates often enough to send a response."""
    journal, team = cast(Journal, Counting()), Works()
    bus = Bus(journal, group)
    runs = Runs(journal, bus, cast(Any, team), Limits(), group=group)
    record, _ = await runs.start(QUESTION)
    viewer = await bus.attach(record.run_id)
    assert [entry.event_type for entry in (await viewer.next()).entries] == ["started"]
    viewer.close()
    for _turn in range(2):
        assert team.times == 0
        await asyncio.sleep(0)
    await team.begun.wait()
    await runs.cancel(record.run_id, "p")
    assert (await runs.outcome(record.run_id)).event_type == "cancelled"
