"""What a piece of a model's text costs on its way to a viewer, beside what AutoGen's own stream costs for it.

In one process, with a model that writes at a given pace and costs next to nothing. Ours goes the whole way: team,
tap, writer, SQLite journal, bus, SSE frames. AutoGen's is `run_stream` of the same team, read to its end.
"""

import asyncio
import re
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.messages import ModelClientStreamingChunkEvent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core.models import ChatCompletionClient, CreateResult, RequestUsage
from autogen_ext.models.replay import ReplayChatCompletionClient
from starlette.types import Message

from agents.assembly import Own
from agents.orchestrator import AutoGenOrchestrator
from agents.teams import Factory
from bench.builds import Unmeasurable
from bench.journal import in_loop
from server.bus import Bus
from server.events import Filter
from server.journal.sqlite import SqliteJournal
from server.runs import Limits, Question, Runs
from transports.base import House
from transports.sse import Stream

_MARK = re.compile(rb"\^(\d{19})")
_MARK_BYTES = 20
_DELTA = re.compile(rb'"delta":"([^"]*)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """So many runs at once, each of a text of so many pieces. `pause` in seconds; 0 is as fast as they are taken."""

    runs: int
    pieces: int
    pause: float

    @property
    def total(self) -> int:
        return self.runs * self.pieces


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """CPU in µs a piece, all threads, and in ms what a run takes beside them; from model to viewer in ms."""

    cpu: float
    run_ms: float
    p50: float
    p99: float


@dataclass(slots=True)
class Reader:
    """Reads one text, cut anywhere, and notes in `took` how long each piece of it has been on its way, in ms."""

    took: list[float]
    _rest: bytes = b""

    def read(self, text: bytes) -> None:
        now = time.monotonic_ns()
        text = self._rest + text
        cut = text.rfind(b"^", max(0, len(text) - _MARK_BYTES + 1))
        text, self._rest = (text, b"") if cut < 0 else (text[:cut], text[cut:])
        self.took.extend((now - int(mark)) / 1e6 for mark in _MARK.findall(text))


class Model(ReplayChatCompletionClient):
    """Writes pieces that say when they were written."""

    def __init__(self, load: Load) -> None:
        super().__init__(["unused"])
        self._load = load

    async def create_stream(self, *_: Any, **__: Any) -> AsyncGenerator[str | CreateResult, None]:
        written: list[str] = []
        for _number in range(self._load.pieces):
            await asyncio.sleep(self._load.pause)
            written.append(f"^{time.monotonic_ns():019d} ")
            yield written[-1]
        usage = RequestUsage(prompt_tokens=1, completion_tokens=len(written))
        yield CreateResult(finish_reason="stop", content="".join(written), usage=usage, cached=False)


def team(client: ChatCompletionClient) -> RoundRobinGroupChat:
    """One agent, which speaks once."""
    return RoundRobinGroupChat([AssistantAgent("Writer", client, model_client_stream=True)], max_turns=1)


def autogen(load: Load) -> Cost:
    return in_loop(_measured(load, _autogen))


def ours(load: Load) -> Cost:
    return in_loop(_measured(load, _ours))


Way = Callable[[Load, list[float]], Awaitable[None]]


async def _measured(load: Load, way: Way) -> Cost:
    """The cost of a piece is what more of them cost: that of a run with one piece is taken off."""
    await way(Load(runs=2, pieces=10, pause=0), [])
    bare = min([(await _spent(replace(load, pieces=1), way))[0] for _ in range(3)])
    spent, took = await _spent(load, way)
    quantiles = statistics.quantiles(took, n=100)
    cpu = (spent - bare) / (load.total - load.runs) * 1e6
    return Cost(cpu=cpu, run_ms=bare / load.runs * 1e3, p50=quantiles[49], p99=quantiles[98])


async def _spent(load: Load, way: Way) -> tuple[float, list[float]]:
    took: list[float] = []
    cpu = time.process_time()
    await way(load, took)
    cpu = time.process_time() - cpu
    if len(took) != load.total:
        raise Unmeasurable(f"{load.total} pieces were written, {len(took)} came through")
    return cpu, took


async def _autogen(load: Load, took: list[float]) -> None:
    async def run() -> None:
        reader = Reader(took)
        async for item in team(Model(load)).run_stream(task="Write."):
            if isinstance(item, ModelClientStreamingChunkEvent):
                reader.read(item.content.encode())

    async with asyncio.TaskGroup() as group:
        for _ in range(load.runs):
            group.create_task(run())


async def _ours(load: Load, took: list[float]) -> None:
    with tempfile.TemporaryDirectory(prefix="askstream-bench-") as folder:
        journal = SqliteJournal(Path(folder, "journal.db"))
        source = Own(Factory("bench.tokens:team", team, "first"))
        orchestrator = AutoGenOrchestrator(model="bench", client=lambda: Model(load), source=source)
        async with asyncio.TaskGroup() as group:
            bus = Bus(journal, group)
            runs = Runs(journal, bus, orchestrator, Limits(active_runs=load.runs), group=group)
            house = House(runs=runs, bus=bus)
            async with asyncio.TaskGroup() as viewers:
                for _ in range(load.runs):
                    viewers.create_task(_view(house, Reader(took)))
            await runs.close()
            bus.close()
        await orchestrator.close()
        await journal.close()


async def _view(house: House, reader: Reader) -> None:
    """A run and its one viewer, whose socket takes everything at once."""
    record, _ = await house.runs.start(Question(text="Write.", principal="bench"))
    viewer = await house.bus.attach(record.run_id, wanted=Filter(include=frozenset({"agent_chunk"}), tokens=True))

    async def send(message: Message) -> None:
        reader.read(b"".join(_DELTA.findall(message.get("body", b""))))

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError("nobody leaves")

    await Stream(viewer, house)({"type": "http", "method": "GET"}, receive, send)
