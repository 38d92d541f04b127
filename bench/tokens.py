"""What a piece of a model's text costs on its way to a viewer, beside what AutoGen's own stream costs for it.

In one process, with a model that writes at a given pace. Ours goes the whole way: team, tap, writer, SQLite journal,
bus, SSE frames, written to a connection that is ours as the server does it. AutoGen's is `run_stream` of the same team,
read to its end. What the model and who reads take by themselves is measured as well, and taken off both.
"""

import asyncio
import gc
import re
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.messages import ModelClientStreamingChunkEvent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core.models import ChatCompletionClient, CreateResult, RequestUsage
from autogen_ext.models.replay import ReplayChatCompletionClient
from starlette.types import Message

from askstream.agents.factory import Own
from askstream.agents.loading import Factory
from askstream.agents.orchestrator import AutoGenOrchestrator
from askstream.server.bus import Bus
from askstream.server.connections.direct import Owner, Rest
from askstream.server.connections.uvicorn import EXTENSION
from askstream.server.events import Filter
from askstream.server.journal.sqlite.journal import SqliteJournal
from askstream.server.process import COLLECT, SWITCH
from askstream.server.runs import Limits, Question, Runs
from askstream.transports.base import House
from askstream.transports.sse import Stream
from bench.builds import Unmeasurable
from bench.journal import in_loop

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
    """CPU in µs a piece, all threads, and in ms what a run takes beside them; from model to viewer in ms.

    `bench` is what the benchmark's own part takes for a piece; it is not in `cpu`. Pieces that come together are read
    for less: where little else is left of `cpu`, it is 0.
    """

    cpu: float
    bench: float
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
    """The cost of a piece is what more of them cost: that of a run with one piece is taken off, and so is our own part
    in it."""
    await way(Load(runs=2, pieces=10, pause=0), [])
    with _tuned_as_served():
        run_ms, cpu, took = await _costs(load, way)
        _, own, _ = await _costs(load, _bench)
    quantiles = statistics.quantiles(took, n=100)
    return Cost(cpu=max(0.0, cpu - own), bench=own, run_ms=run_ms, p50=quantiles[49], p99=quantiles[98])


@contextmanager
def _tuned_as_served() -> Generator[None]:
    before, switch = gc.get_threshold(), sys.getswitchinterval()
    gc.set_threshold(*COLLECT)
    sys.setswitchinterval(SWITCH)
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        sys.setswitchinterval(switch)
        gc.set_threshold(*before)


async def _costs(load: Load, way: Way) -> tuple[float, float, list[float]]:
    """Of a run with one piece, in ms; of a piece more, in µs; and how long pieces took."""
    bare = min([(await _spent(replace(load, pieces=1), way))[0] for _ in range(3)])
    spent, took = await _spent(load, way)
    return bare / load.runs * 1e3, (spent - bare) / (load.total - load.runs) * 1e6, took


async def _spent(load: Load, way: Way) -> tuple[float, list[float]]:
    took: list[float] = []
    cpu = time.process_time()
    await way(load, took)
    cpu = time.process_time() - cpu
    if len(took) != load.total:
        raise Unmeasurable(f"{load.total} pieces were written, {len(took)} came through")
    return cpu, took


async def _bench(load: Load, took: list[float]) -> None:
    """The model and who reads it, with nothing between them."""

    async def run() -> None:
        reader = Reader(took)
        async for item in Model(load).create_stream():
            if isinstance(item, str):
                reader.read(item.encode())

    await _at_once(load, run)


async def _autogen(load: Load, took: list[float]) -> None:
    async def run() -> None:
        reader = Reader(took)
        async for item in team(Model(load)).run_stream(task="Write."):
            if isinstance(item, ModelClientStreamingChunkEvent):
                reader.read(item.content.encode())

    await _at_once(load, run)


async def _at_once(load: Load, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
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
            await _at_once(load, lambda: _view(house, Reader(took)))
            await runs.close()
            bus.close()
        await orchestrator.close()
        await journal.close()


async def _view(house: House, reader: Reader) -> None:
    """A run and its one viewer."""
    record, _ = await house.runs.start(Question(text="Write.", principal="bench"))
    viewer = await house.bus.attach(record.run_id, wanted=Filter(include=frozenset({"agent_chunk"}), tokens=True))
    socket = _Socket(reader)

    def take(owner: Owner) -> Rest:
        return Rest(socket, owner, set(), is_paused=False)

    async def send(_message: Message) -> None:
        """The head of the response."""

    async def receive() -> Message:
        raise AssertionError("the connection is ours: nobody waits for more of the request")

    await Stream(viewer, house)(
        {"type": "http", "method": "GET", "extensions": {EXTENSION: {"take": take}}}, receive, send
    )
    await socket.closed.wait()


class _Socket(asyncio.Transport):
    """Of a client that takes everything at once."""

    def __init__(self, reader: Reader) -> None:
        super().__init__()
        self._reader = reader
        self.closed = asyncio.Event()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Nothing is ever said to it."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._reader.read(b"".join(_DELTA.findall(data)))

    def close(self) -> None:
        self.closed.set()
