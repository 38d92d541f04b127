"""All that `tests/chaos` does to a server: a storm over the tests' own team, one over the bundled team, and a calm."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random

from tests.chaos.gauge import Held
from tests.chaos.host import RETRY_SECONDS, Host
from tests.chaos.storm import Blow, Questions, Storm, business, plans
from tests.chaos.viewers import Tally

TEAM = ("--team", "tests.chaos.team:factory")
# How long connections that were cut, and threads at work for runs that were stopped, may take to be gone.
SETTLE_SECONDS = 20.0
# Two storms alike, one after the other, are told apart by what the allocator keeps; a leak of one connection's buffers
# or one run's log a run would be more. Threads belong to pools, which grow to their bound and stay.
GROWTH_KB = 24 * 1024
POOLED_THREADS = 80


@dataclass(slots=True)
class Season:
    """`blows` fall on the team's storm, in an order of the seed's; `on_bundled` on the bundled team's."""

    data: Path
    seed: int
    blows: list[Blow]
    on_bundled: list[Blow]
    at_once: int = 16
    tally: Tally = field(default_factory=Tally)
    took: dict[str, float] = field(default_factory=dict[str, float])
    held: tuple[Held, Held] | None = None
    _hosts: list[Host] = field(default_factory=list[Host])

    @property
    def output(self) -> str:
        """What its servers said."""
        return "\n".join(host.output for host in self._hosts)

    def report(self) -> str:
        """What it has been through, a line each."""
        blows = sum(host.blows for host in self._hosts)
        stop = max(host.slowest_stop for host in self._hosts)
        figures = {**asdict(self.tally), "times the server went down": blows, "slowest stop": f"{stop:.1f} s"}
        figures |= {f"seconds of {name}": f"{seconds:.0f}" for name, seconds in self.took.items()}
        if self.held:
            figures |= {"held before": self.held[0], "held after": self.held[1]}
        return "\n".join(f"  {name}: {value}" for name, value in figures.items())

    async def run(self) -> None:
        """Raises AssertionError, alone or in a group, for whatever must never happen."""
        chance = Random(self.seed)
        blows = chance.sample(self.blows, len(self.blows))
        await self._storm("team", chance, plans, self.at_once, blows, *TEAM)
        await self._storm("bundled team", chance, business, 3, self.on_bundled)
        async with self._host("calm", *TEAM) as host:
            await self._calm(host, chance)

    async def _storm(
        self, name: str, chance: Random, questions: Questions, at_once: int, blows: list[Blow], *options: str
    ) -> None:
        async with self._host(name, *options) as host:
            await Storm(host, chance, questions, at_once, self.tally).blow(blows)

    async def _calm(self, host: Host, chance: Random) -> None:
        """Without blows one process lives through two storms; it must hold no more after the second."""
        at_rest = await settled(host, None)
        storm = Storm(host, chance, plans, self.at_once // 2, self.tally)
        await storm.blow([])
        before = await settled(host, at_rest)
        await storm.blow([])
        after = await settled(host, before)
        self.held = (before, after)
        assert after.rss - before.rss < GROWTH_KB, self.held
        assert after.threads < POOLED_THREADS, self.held

    @asynccontextmanager
    async def _host(self, name: str, *options: str) -> AsyncGenerator[Host]:
        began = time.monotonic()
        host = Host(self.data / name.replace(" ", "-"), options)
        self._hosts.append(host)
        await host.begin()
        try:
            yield host
            await host.stop()
        finally:
            await host.release()
            self.took[name] = time.monotonic() - began


async def settled(host: Host, before: Held | None) -> Held:
    """What the server holds once nothing goes on in it. Raises AssertionError where more stays than `before`."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while not (held := await host.held()).quiet(before):
        assert time.monotonic() < deadline, f"everything has ended, and the server holds {held}, not {before}"
        await asyncio.sleep(RETRY_SECONDS)
    return held
