"""A team whose model costs nothing and marks each piece of its text with the time at which it was written.

    python bench/writers.py PACKAGE serve ...    the server, with this model; PACKAGE is "askstream." or ""
    python bench/writers.py stream RUNS ROUNDS   AutoGen's own run_stream in process, RUNS at once

Servers of other checkouts run this file, too, so it imports nothing of the project by name.
"""

import asyncio
import importlib
import json
import os
import re
import statistics
import sys
import time
from collections.abc import AsyncGenerator
from typing import Any

import uvloop
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.base import Team
from autogen_agentchat.messages import ModelClientStreamingChunkEvent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core.models import ChatCompletionClient, CreateResult, RequestUsage
from autogen_ext.models.replay import ReplayChatCompletionClient

QUESTION = "Which region sold most, and why?"
MARK = re.compile(r"\^(\d{19})")
# Agents that speak in turn, pieces that each of them writes, and seconds between two pieces: "3 50 0.05".
SHAPE = "BENCH_SHAPE"


def shape() -> tuple[int, int, float]:
    agents, pieces, pause = os.environ[SHAPE].split()
    return int(agents), int(pieces), float(pause)


class Model(ReplayChatCompletionClient):
    def __init__(self, _settings: object = None) -> None:
        super().__init__(["unused"])

    async def create_stream(self, *_: Any, **__: Any) -> AsyncGenerator[str | CreateResult, None]:
        _agents, pieces, pause = shape()
        written: list[str] = []
        for _number in range(pieces):
            await asyncio.sleep(pause)
            written.append(f"^{time.monotonic_ns():019d} ")
            yield written[-1]
        usage = RequestUsage(prompt_tokens=1, completion_tokens=len(written))
        yield CreateResult(finish_reason="stop", content="".join(written), usage=usage, cached=False)


def team(client: ChatCompletionClient) -> Team:
    agents = shape()[0]
    writers: list[Any] = [AssistantAgent(f"Writer{n}", client, model_client_stream=True) for n in range(agents)]
    return RoundRobinGroupChat(writers, max_turns=agents)


def delays(text: str) -> list[float]:
    """Return for each piece in a text that arrives now its delay in ms."""
    now = time.monotonic_ns()
    return [(now - int(moment)) / 1e6 for moment in MARK.findall(text)]


def quantiles(times: list[float]) -> tuple[float, float]:
    """Return p50 and p99; 0 if there are no delays."""
    found = statistics.quantiles(times, n=100) if len(times) > 1 else [0.0] * 99
    return found[49], found[98]


def serve(package: str) -> None:
    """Run `askstream serve` with a model client that costs nothing."""
    if package:
        importlib.import_module("without").switch_off()
    models: Any = importlib.import_module(f"{package}agents.models")
    models.connect = Model
    importlib.import_module(f"{package}server.cli").main()


async def stream(runs: int, rounds: int) -> None:
    """Print a line of JSON for each round: CPU seconds, pieces that came, p50 and p99 of their delays in ms."""
    for _ in range(rounds):
        took: list[float] = []
        before = time.process_time()
        async with asyncio.TaskGroup() as group:
            for _ in range(runs):
                group.create_task(_run(took))
        print(json.dumps([time.process_time() - before, len(took), *quantiles(took)]))


async def _run(took: list[float]) -> None:
    async for item in team(Model()).run_stream(task=QUESTION):
        if isinstance(item, ModelClientStreamingChunkEvent):
            took += delays(item.content)


if __name__ == "__main__":
    first = sys.argv.pop(1)
    if first == "stream":
        uvloop.run(stream(*map(int, sys.argv[1:])))
    else:
        serve(first)
