"""What a run costs over HTTP beside the same team driven in process, and how soon its first event comes.

One process each, with the same model: ours is the product's own server, AutoGen's reads `team.run_stream` to its end.
Both take their runs at the same time and at the same pace, and each way's own clock counts its CPU, all threads.
"""

import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.base import ChatAgent, Team
from autogen_agentchat.messages import ModelClientStreamingChunkEvent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core.models import ChatCompletionClient

from askstream.agents import models
from askstream.agents.factory import Bundled
from askstream.agents.insights import offline
from askstream.server import cli
from bench import machine, servers, tokens
from bench.builds import Unmeasurable
from bench.journal import in_loop
from bench.servers import OURS, Running, Server

QUESTION = "Which region sold most, and why?"
_SHAPE = "BENCH_SHAPE"
_DELTA = re.compile(rb'"delta":"([^"]*)"')
# Between two questions, for the cancel of the one before.
_BETWEEN = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """So many agents that speak in turn, each writing so many pieces with `pause` seconds between them.

    With no agents it is the bundled team, whose model is the offline analyst.
    """

    agents: int
    pieces: int = 0
    pause: float = 0.0

    @property
    def written(self) -> int:
        return self.agents * self.pieces


BUNDLED = Shape(agents=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """CPU milliseconds a run."""

    ours: float
    autogens: float


def costs(shape: Shape, *, runs: int, times: int) -> Costs:
    """Of `runs` at once; the least of so many rounds of them. Raises Unmeasurable where a run doesn't come through."""
    ours: list[float] = []
    autogens: list[float] = []
    with servers.running(_server(shape)) as server, _in_process(shape, runs) as plain:
        for _ in range(times + 1):  # the first round imports and fills caches
            ours.append(_served(server, shape, runs))
            autogens.append(plain.round())
    return Costs(ours=min(ours[1:]) / runs * 1e3, autogens=min(autogens[1:]) / runs * 1e3)


def first_event_ms(*, going: int, asked: int) -> tuple[float, float]:
    """From a question to its first event, p50 and p99 of so many, while other runs write 20 pieces a second each.

    Of several rounds the one that others have disturbed least.
    """
    shape = Shape(agents=1, pieces=100_000, pause=0.05)
    with servers.running(_server(shape)) as server:
        others = asyncio.run(_start(server.port, going))
        machine.settle(server.pid, longest=3)
        took = machine.least_disturbed(
            lambda: asyncio.run(_first_events(server.port, asked)), (server.pid, os.getpid())
        )
        if others and asyncio.run(_states(server.port, others)) != {"running"}:
            raise Unmeasurable(f"of {going} runs some ended early")
    quantiles = statistics.quantiles(took, n=100)
    return quantiles[49] * 1e3, quantiles[98] * 1e3


# ---- over HTTP ---------------------------------------------------------------------------------------------


def _server(shape: Shape) -> Server:
    """`askstream serve` with its defaults, except that a model's client is replaced by one that costs nothing."""
    variables = {
        _SHAPE: json.dumps(asdict(shape)),
        "ASKSTREAM_ACTIVE_RUNS": "10000",
        "ASKSTREAM_LOG_EVENTS": "1000000",
        "ASKSTREAM_LOG_BYTES": "1000000000",
    }
    if shape != BUNDLED:
        variables |= {"ASKSTREAM_TEAM": "bench.overhead:team", "OPENAI_API_KEY": "none"}
    return Server(
        name=OURS,
        transport="sse",
        command=lambda port, data: _program("serve", "--port", str(port), "--data", str(data)),
        prepare=lambda port, runs: servers.Watching(requests=[], control="", control_port=port),
        environment=variables,
    )


def _served(server: Running, shape: Shape, runs: int) -> float:
    before = machine.cpu_seconds(server.pid)
    answers = asyncio.run(_asked(server.port, runs))
    for answer in answers:
        written = sum(text.count(b"^") for text in _DELTA.findall(answer))
        if b'"event_type":"completed"' not in answer or (shape.written and written != shape.written):
            raise Unmeasurable(f"a run ended with {answer[-300:]!r}, {written} of {shape.written} pieces")
    return machine.cpu_seconds(server.pid) - before


async def _asked(port: int, runs: int) -> list[bytes]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_ask(port)) for _ in range(runs)]
    return [task.result() for task in tasks]


async def _ask(port: int) -> bytes:
    async with _posted(port, "/ask-stream", {"question": QUESTION, "tokens": True}) as answer:
        return await answer.read()


async def _first_events(port: int, asked: int) -> list[float]:
    took: list[float] = []
    for _ in range(asked):
        began = time.perf_counter()
        async with _posted(port, "/ask-stream", {"question": QUESTION, "on_disconnect": "cancel"}) as answer:
            await answer.readuntil(b"data:")
            took.append(time.perf_counter() - began)
        await asyncio.sleep(_BETWEEN)
    return took


async def _start(port: int, runs: int) -> list[str]:
    return [(await _json(port, "/runs", {"question": QUESTION}))["run_id"] for _ in range(runs)]


async def _states(port: int, ids: list[str]) -> set[str]:
    return {(await _json(port, f"/runs/{run_id}"))["state"] for run_id in ids}


async def _json(port: int, path: str, body: Mapping[str, Any] | None = None) -> Any:
    async with _posted(port, path, body) as answer:
        return json.loads((await answer.read()).partition(b"\r\n\r\n")[2])


@asynccontextmanager
async def _posted(port: int, path: str, body: Mapping[str, Any] | None) -> AsyncGenerator[asyncio.StreamReader]:
    """The answer to a request, as it comes; without a body it is a GET."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    text = json.dumps(body) if body else ""
    head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
    writer.write((head + text).encode())
    try:
        yield reader
    finally:
        writer.close()


# ---- in process --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Plain:
    process: subprocess.Popen[str]

    def round(self) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        said = self.process.stdout.readline()
        if not said:
            raise Unmeasurable("AutoGen's process ended; it says why on standard error")
        return float(said)


@contextmanager
def _in_process(shape: Shape, runs: int) -> Generator[_Plain]:
    process = subprocess.Popen(
        _program("stream", str(runs)),
        cwd=servers.ROOT,
        env=servers.environment({_SHAPE: json.dumps(asdict(shape))}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    os.sched_setaffinity(process.pid, {machine.cores()[0]})
    try:
        yield _Plain(process)
    finally:
        process.kill()
        process.communicate()


def _program(*arguments: str) -> list[str]:
    return servers.python("-m", "bench.overhead", *arguments)


# ---- what runs in the other processes ----------------------------------------------------------------------

Make: TypeAlias = Callable[[], Awaitable[Team]]


def _shape() -> Shape:
    return Shape(**json.loads(os.environ[_SHAPE]))


def _model(shape: Shape) -> tokens.Model:
    return tokens.Model(tokens.Load(runs=1, pieces=shape.pieces, pause=shape.pause))


def team(client: ChatCompletionClient) -> Team:
    """The agents of the shape that the environment names."""
    shape = _shape()
    names = [f"Writer{number}" for number in range(shape.agents)]
    agents: list[ChatAgent | Team] = [AssistantAgent(name, client, model_client_stream=True) for name in names]
    return RoundRobinGroupChat(agents, max_turns=shape.agents)


def _serve() -> None:
    if (shape := _shape()) != BUNDLED:

        def connect(_settings: object) -> Any:
            return _model(shape)

        models.connect = connect
    cli.main()


async def _stream(runs: int) -> None:
    """A round of runs for each line that is read; the CPU seconds of each are written."""
    shape = _shape()
    async with _bundled() if shape == BUNDLED else _written(shape) as make:
        while await asyncio.to_thread(sys.stdin.readline):
            before = time.process_time()
            async with asyncio.TaskGroup() as group:
                for _ in range(runs):
                    group.create_task(_run(make, shape))
            print(time.process_time() - before, flush=True)


async def _run(make: Make, shape: Shape) -> None:
    written = 0
    async for item in (await make()).run_stream(task=QUESTION):
        if isinstance(item, ModelClientStreamingChunkEvent):
            written += item.content.count("^")
    if shape.written and written != shape.written:
        raise Unmeasurable(f"{written} of {shape.written} pieces came through")


@asynccontextmanager
async def _written(shape: Shape) -> AsyncGenerator[Make]:
    async def make() -> Team:
        return team(_model(shape))

    yield make


@asynccontextmanager
async def _bundled() -> AsyncGenerator[Make]:
    with tempfile.TemporaryDirectory(prefix="askstream-bench-") as folder:
        source = Bundled(Path(folder), None, 40)
        await source.prepare()
        async with offline.serve() as endpoint:
            settings = models.ModelSettings(base_url=endpoint.base_url, api_key=endpoint.api_key, names="field")
            client = models.connect(settings)

            async def make() -> Team:
                return await source.team(client)

            yield make


def main() -> None:
    if sys.argv[1] == "serve":
        _serve()
    else:
        in_loop(_stream(int(sys.argv[2])))


if __name__ == "__main__":
    main()
