"""A crash of the server is charged to a run only if no other run was at work. Servers share one journal."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeAlias, cast

import pytest

from askstream.server.events import AgentResponse, AgentThinking, Draft, Failed, Resumed
from askstream.server.events.errors import JournalError
from askstream.server.journal import Journal, RunRecord
from askstream.server.runs import Answer, Mock, Question, Runs, Sink, Task, recovery
from tests.conformance.journals import Yielding
from tests.server.runs.harness import ANSWER, Harness, until, viewed
from tests.timing import MS

PROBE = 40 * MS
Open: TypeAlias = Callable[..., "Servers"]


@pytest.fixture
async def open_servers(harness: Harness) -> AsyncIterator[Callable[..., "Servers"]]:
    """Make servers that are closed at the end of the test."""
    opened: list[Servers] = []

    def make(given: Harness = harness, **options: Any) -> Servers:
        opened.append(Servers(given, **options))
        return opened[-1]

    yield make
    for servers in reversed(opened):
        await servers.close()


@pytest.fixture(autouse=True)
def short_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "PROBE_SECONDS", PROBE)


class Servers:
    """Servers that follow one another over one journal. A run whose question is `die` ends its server."""

    def __init__(self, harness: Harness, *, turn: float = 0.0, dies_after: float = 0.0, turns: int = 3) -> None:
        self._harness, self._turn, self._dies_after, self._turns = harness, turn, dies_after, turns
        self.number = 0
        self.all: list[Runs] = []
        self.died = asyncio.Event()
        self.runs = self.begin()

    def begin(self) -> Runs:
        self.number += 1
        died = self.died = asyncio.Event()

        async def works(task: Task, sink: Sink) -> Answer:
            await sink.emit(Draft("A", "begins", AgentThinking()))
            if task.question == "die":
                await asyncio.sleep(self._dies_after)
                died.set()
                await asyncio.Event().wait()
            for turn in range(int(task.checkpoint or 0), self._turns):
                await asyncio.sleep(self._turn)
                if died.is_set():
                    await asyncio.Event().wait()
                await sink.emit(Draft("A", "said", AgentResponse(progress=0)))
                await sink.checkpoint(b"%d" % (turn + 1))
            return ANSWER

        self.all.append(self._harness.open(works))
        return self.all[-1]

    async def close(self) -> None:
        await asyncio.gather(*(runs.close() for runs in self.all))

    async def ask(self, question: str) -> RunRecord:
        return (await self.runs.start(Question(text=question, principal="p")))[0]

    async def next(self) -> None:
        """The server has died: begin the next one."""
        self.runs = self.begin()
        await self.runs.recover()

    async def until_all_ended(self, records: list[RunRecord], *, most: int) -> None:
        """Begin the next server after each death, at most so many."""
        while not all([await self._has_ended(record) for record in records]):
            if self.died.is_set():
                assert self.number < most, "the server dies again and again"
                await self.next()
            await asyncio.sleep(MS)

    async def _has_ended(self, record: RunRecord) -> bool:
        return (await self.runs.find(record.run_id, "p")).ended

    async def kinds(self, record: RunRecord) -> list[str]:
        return [event.event_type for event in await self._harness.log(record.run_id)]

    async def charges(self, record: RunRecord) -> list[int | None]:
        log = await self._harness.log(record.run_id)
        return [event.body.charges for event in log if isinstance(event.body, Resumed)]


@pytest.mark.parametrize(
    ("turn", "dies_after", "most"),
    [(0.0, 0.0, 16), (PROBE / 4, 0.0, 16), (2 * PROBE, 0.0, 16), (4 * PROBE, 2 * PROBE, 24)],
    ids=["at once", "short turns", "long turns", "late deaths"],
)
async def test_the_run_that_ends_its_server_is_found_and_all_others_complete(
    open_servers: Open, harness: Harness, turn: float, dies_after: float, most: int
) -> None:
    """Wherever it stands in the order, and also if other turns take longer than its own. No other run is charged."""
    servers = open_servers(turn=turn, dies_after=dies_after)
    asked = [await servers.ask(question) for question in ("go", "go", "die", "go", "go", "go")]
    await servers.until_all_ended(asked, most=most)
    guilty = asked.pop(2)
    (end,) = (await harness.log(guilty.run_id))[-1:]
    assert isinstance(end.body, Failed)
    assert end.body.error == "interrupted"
    assert [(await servers.kinds(run))[-1] for run in asked] == ["completed"] * 5
    assert [charges for run in asked for charges in await servers.charges(run) if charges] == []


async def crashed_once(servers: Servers, count: int) -> list[RunRecord]:
    """Return runs that were at work in a first server and are at work in the second one."""
    asked = [await servers.ask("go") for _ in range(count)]
    for run in asked:
        await viewed(servers.runs, run, 2)
    await servers.next()
    for run in asked:
        await viewed(servers.runs, run, 4)
    return asked


async def test_after_a_first_crash_all_runs_resume_at_once(open_servers: Open, harness: Harness) -> None:
    """None of them waits for another one's turn."""
    servers = open_servers(turn=100.0)
    for run in await crashed_once(servers, 3):
        assert await servers.kinds(run) == ["started", "agent_thinking", "resumed", "agent_thinking"]
        assert await servers.charges(run) == [None]


async def test_after_a_second_crash_runs_resume_one_by_one(open_servers: Open, harness: Harness) -> None:
    """The next one begins when the one before has had its time: it has `resumed` in its log then, and not earlier."""
    servers = open_servers(turn=100.0)
    asked = await crashed_once(servers, 2)
    await servers.next()
    await until_any(servers, asked, 6)
    assert sorted([len(await servers.kinds(run)) for run in asked]) == [4, 6]
    for run in asked:
        await viewed(servers.runs, run, 6)


async def until_any(servers: Servers, runs: list[RunRecord], event_id: int) -> None:
    while max([len(await servers.kinds(run)) for run in runs]) < event_id:  # noqa: ASYNC110 - durability has no event
        await asyncio.sleep(0)


async def test_a_run_that_was_alone_and_finishes_turns_is_never_given_up(open_servers: Open, harness: Harness) -> None:
    """A turn that is finished ends all charges: a machine that is often restarted harms no long run."""
    servers = open_servers(turns=20)
    run = await servers.ask("go")
    while not (await servers.runs.find(run.run_id, "p")).ended:
        servers.died.set()
        await asyncio.sleep(0)
        await servers.next()
        await viewed_turn(servers, run)
    assert (await servers.kinds(run))[-1] == "completed"


async def viewed_turn(servers: Servers, run: RunRecord) -> None:
    before = (await servers.kinds(run)).count("agent_response")
    while (kinds := await servers.kinds(run)).count("agent_response") == before and kinds[-1] != "completed":  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_a_server_that_stops_in_order_charges_nobody(open_servers: Open, harness: Harness) -> None:
    """Ten times, with a run that was alone at work and never finished a turn."""
    cast(Any, harness.journal).survives = True
    servers = open_servers(turn=100.0)
    run = await servers.ask("go")
    for number in range(10):
        await viewed(servers.runs, run, 2 + 2 * number)
        await servers.runs.close()
        await servers.next()
    await viewed(servers.runs, run, 22)
    assert await servers.charges(run) == [None] * 10
    await servers.runs.close()


async def test_resumed_is_written_when_the_teams_libraries_are_there(open_servers: Open, harness: Harness) -> None:
    """A crash before that is no crash of the run."""
    servers = open_servers(turn=100.0)
    run = await servers.ask("go")
    await viewed(servers.runs, run, 2)
    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    for _ in range(10):
        servers.runs = servers.begin()
        await servers.runs.recover(ready)
        for _ in range(20):
            await asyncio.sleep(0)
        assert await servers.kinds(run) == ["started", "agent_thinking"]
    ready.set_result(None)
    await viewed(servers.runs, run, 4)
    assert await servers.charges(run) == [None]


async def test_a_run_that_waits_for_its_turn_after_a_crash_can_be_cancelled(
    open_servers: Open, harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "PROBE_SECONDS", 100.0)
    servers = open_servers(turn=100.0)
    asked = [await servers.ask("go") for _ in range(2)]
    for _ in range(2):
        for run in asked:
            await until_any(servers, [run], 2)
        await asyncio.sleep(PROBE)
        await servers.next()
    await until_any(servers, asked, 6)
    (behind,) = [run for run in asked if len(await servers.kinds(run)) < 6]
    await servers.runs.cancel(behind.run_id, "p")
    assert (await servers.runs.outcome(behind.run_id)).event_type == "cancelled"
    for run in asked:
        await servers.runs.cancel(run.run_id, "p")


class Changed(Yielding):
    """A journal that gives back other records or events than were written."""

    def __init__(self, journal: Journal, change: Callable[[str, Any], Any]) -> None:
        super().__init__(journal)
        self.change = change

    def __getattr__(self, name: str) -> Any:
        method: Callable[..., Awaitable[Any]] = super().__getattr__(name)

        async def changed(*args: Any, **kwargs: Any) -> Any:
            return self.change(name, await method(*args, **kwargs))

        return changed


def _damaged_options(name: str, found: Any) -> Any:
    if name == "claim" and isinstance(found, RunRecord) and found.question == "spoilt":
        return replace(found, options=b"{]")
    return found


def _damaged_line(name: str, found: Any) -> Any:
    return (
        [entry._replace(line=b'{"event":') if b"spoilt" in entry.line else entry for entry in found]
        if name == "read"
        else found
    )


def _unchanged(_name: str, found: Any) -> Any:
    return found


def _unreadable(name: str, found: Any) -> Any:
    if name == "claim" and found is not None and found.question == "spoilt":
        raise JournalError("this row can't be read")
    return found


@pytest.mark.parametrize("change", [_damaged_options, _damaged_line])
async def test_a_damaged_run_ends_as_internal_and_the_others_go_on(
    open_servers: Open, harness: Harness, change: Callable[[str, Any], Any]
) -> None:
    """Its record or one of its events can't be read."""
    servers = open_servers(turn=100.0)
    asked = [await servers.ask(question) for question in ("go", "spoilt", "go")]
    for run in asked:
        await viewed(servers.runs, run, 2)
    second = open_servers(Harness(cast(Journal, Changed(harness.journal, change)), harness.group))
    await second.runs.recover()
    ends = [await second.runs.outcome(run.run_id) for run in asked]
    assert [end.event_type for end in ends] == ["completed", "error", "completed"]
    assert isinstance(ends[1].body, Failed)
    assert ends[1].body.error == "internal"


async def test_a_run_whose_record_the_journal_refuses_is_tried_again(open_servers: Open, harness: Harness) -> None:
    """The others go on at once."""
    servers = open_servers(turn=100.0)
    asked = [await servers.ask(question) for question in ("go", "spoilt", "go")]
    for run in asked:
        await viewed(servers.runs, run, 2)
    journal = Changed(harness.journal, _unreadable)
    second = open_servers(Harness(cast(Journal, journal), harness.group))
    await second.runs.recover()
    assert [(await second.runs.outcome(run.run_id)).event_type for run in (asked[0], asked[2])] == ["completed"] * 2
    journal.change = _unchanged
    await second.runs.recover()
    assert (await second.runs.outcome(asked[1].run_id)).event_type == "completed"


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, OSError])
@pytest.mark.parametrize(("call", "end"), [("append", "completed"), ("checkpoint", "completed"), ("session", "error")])
async def test_a_journal_that_exits_ends_one_run_and_not_the_server(
    open_servers: Open, harness: Harness, call: str, end: str, kind: type[BaseException]
) -> None:
    """A plug-in's error ends at the run's edge. If it could not be written, the next recovery resumes the run."""
    servers = open_servers(turn=100.0)
    run = await servers.ask("go")
    await viewed(servers.runs, run, 2)
    failing = True

    def change(name: str, found: Any) -> Any:
        if failing and name == call:
            raise kind("now")
        return found

    second = open_servers(Harness(cast(Journal, Changed(harness.journal, change)), harness.group))
    await second.runs.recover()
    await until(lambda: not second.runs.active)
    failing = False
    await second.runs.recover()
    assert (await second.runs.outcome(run.run_id)).event_type == end


def left(run_id: str, **work: Any) -> tuple[RunRecord, recovery.Recovered]:
    record = RunRecord(run_id=run_id, principal="p", session_id=run_id, question="q", model="m", created_at=0.0)
    return record, recovery.Recovered(1, Mock(), work=recovery.Work(**work))


def test_suspects_resume_first_and_of_these_the_one_that_began_last() -> None:
    """The suspect is the likeliest to have ended the server, so it is tried first. Others keep their order."""
    worked = {"was_active": True, "was_resumed": True}
    found = [
        left("idle 1"),
        left("cleared", **worked, finished_turn=True, began_at=9.0),
        left("early", **worked, began_at=1.0),
        left("late", **worked, began_at=2.0),
        left("charged", charges=1, began_at=1.5),
        left("idle 2"),
    ]
    plan = recovery.plan(found)
    assert plan.one_by_one
    assert [record.run_id for record, _ in plan.runs] == ["late", "charged", "early", "idle 1", "cleared", "idle 2"]


def test_a_run_that_waits_behind_another_of_its_session_was_not_at_work() -> None:
    """So the one before it was alone."""
    first, second = left("first", was_active=True), left("second", was_active=True)
    second = (replace(second[0], session_id="first"), second[1])
    plan = recovery.plan([first, second])
    assert [run.work.charges for _, run in plan.runs] == [1, 0]
