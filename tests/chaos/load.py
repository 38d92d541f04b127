"""A random load: runs that are watched, cancelled and answered while their server is killed and restarted.

All random choices come from one seed. A seed repeats the plan, but not the exact timing.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, TypeAlias

from tests.chaos import checks, commands
from tests.chaos.commands import AskedRun
from tests.chaos.host import RETRY_SECONDS, Host
from tests.chaos.team import Plan
from tests.chaos.viewers import Counts, SeenLines, watch
from tests.timing import MS

Crash: TypeAlias = Literal["kill", "stop"]
# From a run's number to its question and the other fields of its request.
Questions: TypeAlias = Callable[[Random, int], tuple[str, dict[str, Any]]]
# The time limit for runs after the last crash. They last a few seconds; a run that lasts this long will never end.
END_SECONDS = 90_000 * MS
# Seconds that a server is up before the next crash: it may still be resuming old runs, or have started new ones.
PAUSE = (0.2, 1.5)
# Seconds that a run's steps last in all. The longest outlive several servers.
SPANS = (0.1, 0.5, 1.5, 3.0)


def plans(chance: Random, number: int) -> tuple[str, dict[str, Any]]:
    """Runs of the chaos team."""
    turns, chunks = chance.randint(1, 6), chance.randint(0, 12)
    heavy = chance.random() < 0.1  # more than the buffers between two processes hold
    plan = Plan(
        tag=f"run-{number}",
        turns=turns,
        pause=chance.choice(SPANS) / (2 * turns * (chunks + 1)),
        chunks=chunks,
        size=60_000 if heavy else chance.choice((10, 500, 5000)),
        asks=chance.choice((0, 0, 0, 1, turns)),
        fails=chance.choice((0, 0, 0, 0, 0, turns)),
        stubborn=chance.random() < 0.1,
    )
    fields: dict[str, Any] = {"on_disconnect": chance.choice(("continue",) * 9 + ("cancel",))}
    if chance.random() < 0.2:
        fields |= {"session_id": f"session-{chance.randint(1, 3)}", "if_busy": "queue"}
    return plan.question(), fields


def bundled_questions(chance: Random, number: int) -> tuple[str, dict[str, Any]]:
    """Runs of the bundled team."""
    month = chance.choice(("January", "February", "March", "April"))
    text = chance.choice(("What was revenue in {}?", "Why did revenue change in {}?", "Generate a sales report for {}"))
    return f"{text.format(f'{month} 2026')} ({number})", {}


@dataclass(slots=True)
class Load:
    """`at_once` runs at a time."""

    host: Host
    chance: Random
    questions: Questions
    at_once: int
    counts: Counts
    _asked: list[AskedRun] = field(default_factory=list[AskedRun])
    _watching: list[SeenLines] = field(default_factory=list[SeenLines])

    async def run_quietly(self, runs: int) -> None:
        """Ask so many questions; all runs must keep their promises. Raises AssertionError, alone or in a group."""
        await self._run_all(range(runs), ())

    async def run_through(self, crashes: Sequence[Crash]) -> None:
        """Ask until all of `crashes` have happened; all runs must keep their promises, as in `run_quietly`."""
        await self._run_all(itertools.count(), crashes)

    async def _run_all(self, numbers: Iterable[int], crashes: Sequence[Crash]) -> None:
        earlier = len(self._asked)
        over = asyncio.Event()
        wanted = itertools.takewhile(lambda _: not over.is_set(), numbers)
        async with asyncio.timeout(None) as patience:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.at_once):
                    group.create_task(self._keeps_asking(wanted))
                await self._crash_server(crashes)
                if crashes:
                    over.set()
                patience.reschedule(asyncio.get_running_loop().time() + END_SECONDS)
            await self._all_ended()
        logs = [await checks.of_run(self.host, asked, self.counts) for asked in self._asked[earlier:]]
        for seen in self._watching:
            checks.of_watch(seen, logs)
        self._watching.clear()
        await checks.of_list(self.host, self._asked)
        assert not self.host.complaints, self.host.output

    async def _crash_server(self, crashes: Sequence[Crash]) -> None:
        for kind in crashes:
            await asyncio.sleep(self.chance.uniform(*PAUSE))
            await (self.host.kill() if kind == "kill" else self.host.stop())
            await self.host.begin()

    async def _keeps_asking(self, wanted: Iterable[int]) -> None:
        """Start one run after the other, each with random viewers and commands."""
        chance = Random(self.chance.random())
        for _ in wanted:
            number = len(self._asked)
            question, fields = self.questions(chance, number)
            asked = await commands.ask(self.host, question, f"key-{chance.getrandbits(64):x}", chance, **fields)
            self._asked.append(asked)
            async with asyncio.TaskGroup() as company:
                for _ in range(chance.randint(0, 3)):
                    company.create_task(self._watches(asked, Random(chance.random())))
                if chance.random() < 0.2:
                    company.create_task(self._stops(asked, Random(chance.random())))
                if chance.random() < 0.7:
                    company.create_task(self._answers(asked, Random(chance.random())))
                else:
                    company.create_task(self._state(asked))

    async def _watches(self, asked: AskedRun, chance: Random) -> None:
        seen = SeenLines(asked.run_id, chance.random() < 0.7, self.counts)
        self._watching.append(seen)
        await watch(self.host, seen, chance)

    async def _stops(self, asked: AskedRun, chance: Random) -> None:
        await asyncio.sleep(chance.uniform(0, 0.5))
        await commands.stop(self.host, asked, chance)
        self.counts.cancels += 1

    async def _answers(self, asked: AskedRun, chance: Random) -> None:
        """Answer the run's input requests until it has ended."""
        while (run := await self._state(asked))["ended_at"] is None:
            pending = run["pending_input"]
            if pending is not None:
                await commands.answer(self.host, asked, pending["request_id"], chance)
                self.counts.answers += 1
            await asyncio.sleep(2 * RETRY_SECONDS)

    async def _state(self, asked: AskedRun) -> dict[str, Any]:
        return await self.host.get(f"/runs/{asked.run_id}")

    async def _all_ended(self) -> None:
        """Wait until every run has ended."""
        for asked in self._asked:
            await self.host.ended(asked.run_id)
