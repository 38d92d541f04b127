"""The whole chaos test: its own team over direct and plain connections, and the bundled team, all at once."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random

from tests.chaos.host import RETRY_SECONDS, Host
from tests.chaos.load import Crash, Load, bundled_questions, plans
from tests.chaos.resource_usage import ResourceUsage
from tests.chaos.viewers import Counts
from tests.e2e.viewers import SENT
from tests.timing import PATIENCE

# Every request and every socket needs a token.
TOKEN = "t" * 43
TEAM = ("--team", "tests.chaos.team:factory")
# Events are written directly to the transport, or with ASGI's `send`, as under any other server.
WAYS = {"direct": "true", "plain": "false"}
# For the chaos team's two servers together.
CRASHES: tuple[Crash, ...] = ("kill",) * 10 + ("stop",) * 5
# Runs of each of the two quiet phases before the crashes.
QUIET_RUNS = 20
# The time in which cut connections, and threads of cancelled runs, must end.
SETTLE_SECONDS = PATIENCE
# The heap may grow a little from one quiet phase to the next: a leak of one connection's buffers or of one run's log
# for each run would be more. `rss` is coarser: it has SQLite's cache and the allocator's free memory in it. Threads
# belong to pools, which grow to their bound and stay.
HEAP_KB = 2 * 1024
GROWTH_KB = 24 * 1024
POOLED_THREADS = 80


@dataclass(slots=True)
class Scenario:
    """`crashes` hit the chaos team's two servers, in an order from the seed; `on_bundled` the bundled team's."""

    data: Path
    seed: int
    crashes: Sequence[Crash] = CRASHES
    on_bundled: Sequence[Crash] = ("kill",)
    at_once: int = 10
    quiet_runs: int = QUIET_RUNS
    counts: Counts = field(default_factory=Counts)
    took: dict[str, float] = field(default_factory=dict[str, float])
    held: dict[str, ResourceUsage] = field(default_factory=dict[str, ResourceUsage])
    _hosts: list[Host] = field(default_factory=list[Host])

    @property
    def output(self) -> str:
        """The output of its servers."""
        return "\n".join(host.output for host in self._hosts)

    def report(self) -> str:
        """Its counts and figures, a line each."""
        kills, stops = (sum(getattr(host, name) for host in self._hosts) for name in ("kills", "stops"))
        stop = max(host.slowest_stop for host in self._hosts)
        figures = {**asdict(self.counts), "kills": kills, "stops": stops, "slowest stop": f"{stop:.1f} s"}
        figures |= {f"seconds of {name}": f"{seconds:.0f}" for name, seconds in self.took.items()} | self.held
        return "\n".join(f"  {name}: {value}" for name, value in figures.items())

    async def run(self) -> None:
        """Raise AssertionError, alone or in a group, if a promise is broken."""
        chance = Random(self.seed)
        SENT.set({"Authorization": f"Bearer {TOKEN}"})
        crashes = chance.sample(self.crashes, len(self.crashes))
        async with asyncio.TaskGroup() as group:
            for number, way in enumerate(WAYS):
                group.create_task(self._on_team(way, Random(chance.random()), crashes[number :: len(WAYS)]))
            group.create_task(self._on_bundled(Random(chance.random())))

    async def _on_team(self, way: str, chance: Random, crashes: Sequence[Crash]) -> None:
        async with self._host(way, *TEAM, ASKSTREAM_DIRECT=WAYS[way]) as host:
            load = Load(host, chance, plans, self.at_once, self.counts)
            await self._check_growth(way, host, load)
            await load.run_through(crashes)

    async def _on_bundled(self, chance: Random) -> None:
        async with self._host("bundled") as host:
            await Load(host, chance, bundled_questions, 3, self.counts).run_through(self.on_bundled)

    async def _check_growth(self, way: str, host: Host, load: Load) -> None:
        """Run twice without crashes in one process, which must hold no more after the second time."""
        at_rest = await settled(host, None)
        await load.run_quietly(self.quiet_runs)
        before = await settled(host, at_rest)
        await load.run_quietly(self.quiet_runs)
        after = await settled(host, before)
        self.held |= {f"held before, {way}": before, f"held after, {way}": after}
        assert after.heap - before.heap < HEAP_KB, self.held
        assert after.rss - before.rss < GROWTH_KB, self.held
        assert after.threads < POOLED_THREADS, self.held

    @asynccontextmanager
    async def _host(self, name: str, *options: str, **settings: str) -> AsyncGenerator[Host]:
        began = time.monotonic()
        tokens = self.data / "tokens"
        tokens.write_text(f"chaos {TOKEN}\n")
        host = Host(
            self.data / name,
            options,
            {"ASKSTREAM_AUTH": "token", "ASKSTREAM_TOKENS_FILE": str(tokens), **settings},
        )
        self._hosts.append(host)
        await host.begin()
        try:
            yield host
            await host.stop()
        finally:
            await host.release()
            self.took[name] = time.monotonic() - began


async def settled(host: Host, before: ResourceUsage | None) -> ResourceUsage:
    """The server's resources once it is idle. Raises AssertionError if it holds more than `before`."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while not (held := await host.held()).quiet(before):
        assert time.monotonic() < deadline, f"the server is idle and holds {held}, not {before}"
        await asyncio.sleep(RETRY_SECONDS)
    return held
