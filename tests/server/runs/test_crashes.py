"""A crash of the server is charged to a run only if no other run was at work. Lives of a server follow one another."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeAlias, cast

import pytest

from askstream.server.events import AgentResponse, AgentThinking, Draft, Failed, Resumed
from askstream.server.events.errors import JournalError
from askstream.server.journal import Journal, RunRecord
from askstream.server.runs import Answer, Question, Runs, Sink, Task, recovery
from tests.conformance.journals import Yielding
from tests.server.runs.harness import ANSWER, Harness, until, viewed
from tests.timing import MS

PROBE = 40 * MS
Open: TypeAlias = Callable[..., "Lives"]


@pytest.fixture
async def open_lives(harness: Harness) -> AsyncIterator[Callable[..., "Lives"]]:
    """Make servers that are closed at the end of the test."""
    opened: list[Lives] = []

    def make(given: Harness = harness, **options: Any) -> Lives:
        opened.append(Lives(given, **options))
        return opened[-1]

    yield make
    for lives in reversed(opened):
        await lives.close()


@pytest.fixture(autouse=True)
def short_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "PROBE_SECONDS", PROBE)


class Lives:
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
    [(0.0, 0.0, 9), (PROBE / 4, 0.0, 9), (2 * PROBE, 0.0, 10), (4 * PROBE, 2 * PROBE, 16)],
    ids=["at once", "short turns", "long turns", "late deaths"],
)
async def test_the_run_that_ends_its_server_is_found_and_all_others_complete(
    open_lives: Open, harness: Harness, turn: float, dies_after: float, most: int
) -> None:
    """Wherever it stands in the order, and also if other turns take longer than its own. No other run is charged."""
    lives = open_lives(turn=turn, dies_after=dies_after)
    asked = [await lives.ask(question) for question in ("go", "go", "die", "go", "go", "go")]
    await lives.until_all_ended(asked, most=most)
    guilty = asked.pop(2)
    (end,) = (await harness.log(guilty.run_id))[-1:]
    assert isinstance(end.body, Failed)
    assert end.body.error == "interrupted"
    assert [(await lives.kinds(run))[-1] for run in asked] == ["completed"] * 5
    assert [charges for run in asked for charges in await lives.charges(run) if charges] == []


async def test_after_a_first_crash_all_runs_resume_at_once(open_lives: Open, harness: Harness) -> None:
    """None of them waits for another one's turn."""
    lives = open_lives(turn=100.0)
    asked = [await lives.ask("go") for _ in range(3)]
    for run in asked:
        await viewed(lives.runs, run, 2)
    await lives.next()
    for run in asked:
        await viewed(lives.runs, run, 4)
        assert await lives.kinds(run) == ["started", "agent_thinking", "resumed", "agent_thinking"]
        assert await lives.charges(run) == [None]


async def test_after_a_second_crash_runs_resume_one_by_one(open_lives: Open, harness: Harness) -> None:
    """The next one begins when the one before has had its time: it has `resumed` in its log then, and not earlier."""
    lives = open_lives(turn=100.0)
    asked = [await lives.ask("go") for _ in range(2)]
    for run in asked:
        await viewed(lives.runs, run, 2)
    await lives.next()
    for run in asked:
        await viewed(lives.runs, run, 4)
    await lives.next()
    await until_any(lives, asked, 6)
    assert sorted([len(await lives.kinds(run)) for run in asked]) == [4, 6]
    for run in asked:
        await viewed(lives.runs, run, 6)


async def until_any(lives: Lives, runs: list[RunRecord], event_id: int) -> None:
    while max([len(await lives.kinds(run)) for run in runs]) < event_id:  # noqa: ASYNC110 - durability has no event
        await asyncio.sleep(0)


async def test_a_run_that_was_alone_and_finishes_turns_is_never_given_up(open_lives: Open, harness: Harness) -> None:
    """A turn that is finished ends all charges: a machine that is often restarted harms no long run."""
    lives = open_lives(turns=20)
    run = await lives.ask("go")
    while not (await lives.runs.find(run.run_id, "p")).ended:
        lives.died.set()
        await asyncio.sleep(0)
        await lives.next()
        await viewed_turn(lives, run)
    assert (await lives.kinds(run))[-1] == "completed"


async def viewed_turn(lives: Lives, run: RunRecord) -> None:
    before = (await lives.kinds(run)).count("agent_response")
    while (kinds := await lives.kinds(run)).count("agent_response") == before and kinds[-1] != "completed":  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_a_server_that_stops_in_order_charges_nobody(open_lives: Open, harness: Harness) -> None:
    """Ten times, with a run that was alone at work and never finished a turn."""
    cast(Any, harness.journal).survives = True
    lives = open_lives(turn=100.0)
    run = await lives.ask("go")
    for number in range(10):
        await viewed(lives.runs, run, 2 + 2 * number)
        await lives.runs.close()
        await lives.next()
    await viewed(lives.runs, run, 22)
    assert await lives.charges(run) == [None] * 10
    await lives.runs.close()


async def test_resumed_is_written_when_the_teams_libraries_are_there(open_lives: Open, harness: Harness) -> None:
    """A crash before that is no crash of the run."""
    lives = open_lives(turn=100.0)
    run = await lives.ask("go")
    await viewed(lives.runs, run, 2)
    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    for _ in range(10):
        lives.runs = lives.begin()
        await lives.runs.recover(ready)
        for _ in range(20):
            await asyncio.sleep(0)
        assert await lives.kinds(run) == ["started", "agent_thinking"]
    ready.set_result(None)
    await viewed(lives.runs, run, 4)
    assert await lives.charges(run) == [None]


async def test_a_run_that_waits_for_its_turn_after_a_crash_can_be_cancelled(
    open_lives: Open, harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "PROBE_SECONDS", 100.0)
    lives = open_lives(turn=100.0)
    asked = [await lives.ask("go") for _ in range(2)]
    for _ in range(2):
        for run in asked:
            await until_any(lives, [run], 2)
        await asyncio.sleep(PROBE)
        await lives.next()
    await until_any(lives, asked, 6)
    (behind,) = [run for run in asked if len(await lives.kinds(run)) < 6]
    await lives.runs.cancel(behind.run_id, "p")
    assert (await lives.runs.outcome(behind.run_id)).event_type == "cancelled"
    for run in asked:
        await lives.runs.cancel(run.run_id, "p")


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
    open_lives: Open, harness: Harness, change: Callable[[str, Any], Any]
) -> None:
    """Its record or one of its events can't be read."""
    lives = open_lives(turn=100.0)
    asked = [await lives.ask(question) for question in ("go", "spoilt", "go")]
    for run in asked:
        await viewed(lives.runs, run, 2)
    second = open_lives(Harness(cast(Journal, Changed(harness.journal, change)), harness.group))
    await second.runs.recover()
    ends = [await second.runs.outcome(run.run_id) for run in asked]
    assert [end.event_type for end in ends] == ["completed", "error", "completed"]
    assert isinstance(ends[1].body, Failed)
    assert ends[1].body.error == "internal"


async def test_a_run_whose_record_the_journal_refuses_is_tried_again(open_lives: Open, harness: Harness) -> None:
    """The others go on at once."""
    lives = open_lives(turn=100.0)
    asked = [await lives.ask(question) for question in ("go", "spoilt", "go")]
    for run in asked:
        await viewed(lives.runs, run, 2)
    journal = Changed(harness.journal, _unreadable)
    second = open_lives(Harness(cast(Journal, journal), harness.group))
    await second.runs.recover()
    assert [(await second.runs.outcome(run.run_id)).event_type for run in (asked[0], asked[2])] == ["completed"] * 2
    journal.change = _unchanged
    await second.runs.recover()
    assert (await second.runs.outcome(asked[1].run_id)).event_type == "completed"


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, OSError])
@pytest.mark.parametrize(("call", "end"), [("append", "completed"), ("checkpoint", "completed"), ("session", "error")])
async def test_a_journal_that_exits_ends_one_run_and_not_the_server(
    open_lives: Open, harness: Harness, call: str, end: str, kind: type[BaseException]
) -> None:
    """A plug-in's error ends at the run's edge. If it could not be written, the next recovery resumes the run."""
    lives = open_lives(turn=100.0)
    run = await lives.ask("go")
    await viewed(lives.runs, run, 2)
    failing = True

    def change(name: str, found: Any) -> Any:
        if failing and name == call:
            raise kind("now")
        return found

    second = open_lives(Harness(cast(Journal, Changed(harness.journal, change)), harness.group))
    await second.runs.recover()
    await until(lambda: not second.runs.active)
    failing = False
    await second.runs.recover()
    assert (await second.runs.outcome(run.run_id)).event_type == end
