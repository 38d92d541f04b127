"""Call paths through the server are short, for a reader's memory and for an event's cost.

The server is the real one, on uvicorn and SQLite; the viewer is a socket. Only the team is the test's own.
"""

import ast
import asyncio
import contextlib
import io
import logging
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median_low
from typing import cast

import pytest

from askstream.server import telemetry
from askstream.server.app import Service, create_app
from askstream.server.events import AgentChunk, AgentResponse, Draft, Usage
from askstream.server.process import Server, config
from askstream.server.runs import Answer, Sink, Task
from askstream.server.settings import Settings
from tests.server.call_paths import ROOT, CallPath, called

# Goals of the design. A call path that gets longer in one place must get shorter in another. Of a question's functions,
# 26 limit what its client sends and starts, and 8 find out who asks.
EVENT_CALLS, EVENT_FILES = 40, 11
QUESTION_FUNCTIONS = 107
FUNCTION_LINES = 15
EVENTS, QUESTIONS = 15, 6
ANSWER = Answer(final_response="42", total_messages=1, usage=Usage(), agent_name="A")
ASK = b'{"question":"why?","tokens":true}'
REQUEST = (
    b"POST /ask-stream HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
)
DRAFTS = {
    "agent_response": Draft("A", "some text", AgentResponse(progress=50, usage=Usage(3, 4))),
    "agent_chunk": Draft("A", "", AgentChunk(delta="some text", message_id="m")),
}
written = called("write", within="asyncio/selector_events.py")
arrived = called("data_received", within="")


@dataclass
class Prompted:
    """An orchestrator that emits what it is given, and answers when that is None."""

    model: str = "none"
    drafts: asyncio.Queue[Draft | None] = field(default_factory=asyncio.Queue[Draft | None])
    call_path: CallPath = field(default_factory=CallPath)

    async def run(self, task: Task, sink: Sink) -> Answer:
        while draft := await self.drafts.get():
            self.call_path.begin()
            await sink.emit(draft)
        return ANSWER


@contextlib.asynccontextmanager
async def serving(service: Service) -> AsyncGenerator[int]:
    """Serve, and yield the port."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = Server(config(service))
    running = asyncio.ensure_future(server.serve(sockets=[listening]))
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        await running


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """The log of events, set up as the command does it, and restored at the end."""
    loggers = [logging.getLogger(name) for name in ("", "stream_events")]
    before = [(logger, logger.handlers, logger.level, logger.propagate) for logger in loggers]
    telemetry.configure("INFO")
    lines = io.StringIO()
    for handler in loggers[1].handlers:
        cast("logging.StreamHandler[io.StringIO]", handler).setStream(lines)
    yield lines
    for logger, handlers, level, propagate in before:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture
async def port(tmp_path: Path, team: Prompted) -> AsyncIterator[int]:
    """The port of a server whose team is `team`."""
    async with asyncio.timeout(60), create_app(Settings(data=tmp_path)).open() as service:
        await asyncio.wait({service.warmed})
        service.runs.add_orchestrator("team", team)
        async with serving(service) as number:
            yield number


@pytest.fixture
def team() -> Prompted:
    return Prompted()


async def _asked(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Start a run and return a viewer that has seen its first event."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST % (len(ASK), ASK))
    await reader.readuntil(b'"event_type":"started"')
    return reader, writer


async def _idle() -> None:
    """Return when an event has no effects left: its log line comes last, 10 ms after the one before."""
    for _ in range(5):
        await asyncio.sleep(0.01)


@pytest.mark.serial
@pytest.mark.parametrize("kind", DRAFTS)
async def test_an_event_needs_few_steps_from_the_team_to_the_socket(
    port: int, team: Prompted, logged: io.StringIO, kind: str
) -> None:
    """One viewer, one event in flight. Calls after the write count as well, such as those of the log line."""
    reader, writer = await _asked(port)
    ways: list[CallPath] = []
    for _ in range(EVENTS):
        team.call_path = CallPath(milestone=written)
        team.drafts.put_nowait(DRAFTS[kind])
        await reader.readuntil(b'"event_type":"%s"' % kind.encode())
        await _idle()
        team.call_path.end()
        ways.append(team.call_path)
    team.drafts.put_nowait(None)
    await reader.read()
    writer.close()
    assert logged.getvalue().count(kind) == (EVENTS if kind == "agent_response" else 0)  # chunks at DEBUG
    # On a machine that stalls the journal's thread writes some of them, and its calls aren't counted.
    ways = [call_path for call_path in ways if call_path.passed is not None]
    typical = median_low(len(call_path.calls) for call_path in ways)
    call_path = next(call_path for call_path in ways if len(call_path.calls) == typical)
    assert len(call_path.calls) <= EVENT_CALLS, call_path.report()
    assert len(call_path.files) <= EVENT_FILES, call_path.report()


@pytest.mark.serial
async def test_a_question_needs_few_functions_from_its_bytes_to_the_team(port: int, team: Prompted) -> None:
    """A typical question, not the first, which imports and caches."""
    ways: list[CallPath] = []
    for _ in range(QUESTIONS):
        call_path = CallPath(start=arrived, stop=lambda frame: frame.f_code is Prompted.run.__code__)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await _idle()
        call_path.begin()
        writer.write(REQUEST % (len(ASK), ASK))
        await reader.readuntil(b'"event_type":"started"')
        team.drafts.put_nowait(None)
        await reader.readuntil(b"\r\n0\r\n\r\n")
        writer.close()
        call_path.end()
        ways.append(call_path)
    call_path = sorted(ways[1:], key=lambda call_path: len(call_path.functions))[(QUESTIONS - 1) // 2]
    assert len(call_path.functions) <= QUESTION_FUNCTIONS, call_path.report()


def test_functions_are_short() -> None:
    """Nine of ten, without their docstrings: few calls of long functions would be as much to read."""
    lengths = sorted(
        _length(node)
        for folder in ("server", "transports", "agents")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    assert lengths[int(len(lengths) * 0.9)] < FUNCTION_LINES


def _length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return a function's lines, with its signature."""
    lines = (node.end_lineno or 0) - node.lineno + 1
    first = node.body[0]
    return lines - ((first.end_lineno or 0) - first.lineno + 1) if ast.get_docstring(node) else lines
