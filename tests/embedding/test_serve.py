"""`serve` in a notebook's running loop and in a script: it answers, it ends, and it leaves the process unchanged."""

import asyncio
import gc
import logging
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

import askstream
from askstream.server.events.errors import RunFailed
from askstream.server.process import AddressInUse
from tests.e2e.viewers import ask, client_of, sse_lines, watch_sse, watch_ws
from tests.embedding.conftest import Process
from tests.embedding.counting import Counting

SCRIPT = """
import sys
from tests.embedding.counting import Counting
import askstream
handle = askstream.serve(orchestrator=Counting(), port=0, data=sys.argv[1], drain_seconds=0.1)
print("after", handle, flush=True)
"""


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    """A test's settings: a free port, and nothing that outlives it."""
    return {"orchestrator": Counting(), "journal": "memory://", "port": 0, "data": tmp_path, "drain_seconds": 0}


async def test_in_a_running_loop_it_returns_at_once_and_answers(options: dict[str, Any]) -> None:
    """Requests before its start wait. Both transports work."""
    handle = askstream.serve(**options)
    assert handle.url in repr(handle)
    run_id = await ask(handle.url, "3 0.01")
    assert await watch_sse(handle.url, run_id) == await watch_ws(handle.url, run_id)
    assert await handle is handle
    await handle.stop()
    assert "stopped" in repr(handle)


async def test_stopping_sends_viewers_away_and_frees_the_port(options: dict[str, Any]) -> None:
    """It begins at once, awaited or not, and a second call is the same."""
    handle = await askstream.serve(**options)
    run_id = await ask(handle.url, "600 0.1")
    stopping: asyncio.Task[None] | None = None
    lines: list[str] = []
    async for _, line in sse_lines(handle.url, f"/runs/{run_id}/events"):
        lines.append(line)
        stopping = stopping or handle.stop()
    assert '"drain"' in lines[-1]
    assert handle.stop() is stopping
    await handle.stop()
    with pytest.raises(httpx2.ConnectError):
        await ask(handle.url, "1 0")


async def test_a_notebooks_process_is_left_as_it_is(options: dict[str, Any]) -> None:
    """No tuning, handlers, threads or loggers: the process belongs to others."""

    def state() -> tuple[Any, ...]:
        loop: Any = asyncio.get_running_loop()
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        loggers = [logging.getLogger(name) for name in (None, "stream_events", "uvicorn.error", "openai")]
        log = [(logger.level, logger.propagate, list(logger.handlers)) for logger in loggers]
        gc_state = (gc.get_threshold(), gc.get_freeze_count())
        return (*gc_state, sys.getswitchinterval(), loop.__class__, loop._default_executor, handlers, log)

    await asyncio.to_thread(lambda: None)  # the loop's own threads are there
    before = state()
    handle = await askstream.serve(**options)
    await watch_sse(handle.url, await ask(handle.url, "2 0"))
    assert state() == before
    await handle.stop()
    assert state() == before


async def test_a_start_that_fails_is_raised_by_awaiting_and_logged(
    options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the reason, for a handle that nobody awaits."""
    wrong: dict[str, Any] = {**options, "orchestrator": None, "team": "no.such:team"}
    handle = askstream.serve(**wrong)
    with pytest.raises(RunFailed, match="no module"):
        await handle
    assert "no module" in caplog.text
    await handle.stop()
    _connect(handle.url, refused=True)


async def test_a_start_that_fails_is_logged_once(options: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """asyncio adds no line for a handle that nobody awaits."""
    wrong: dict[str, Any] = {**options, "orchestrator": None, "team": "no.such:team"}
    await askstream.serve(**wrong).ended()
    assert [record.levelname for record in caplog.records if record.levelno > logging.WARNING] == ["ERROR"]
    caplog.clear()  # a record would keep the error, and with it the handle
    gc.collect()
    assert not caplog.records


async def test_stopping_before_the_start_is_done_cancels_it(options: dict[str, Any]) -> None:
    asked = asyncio.Event()

    async def make() -> None:
        asked.set()
        await asyncio.Event().wait()

    slow: dict[str, Any] = {**options, "orchestrator": None, "team": make}
    handle = askstream.serve(**slow)
    await asked.wait()
    await asyncio.wait_for(handle.stop(), 10)
    _connect(handle.url, refused=True)


async def test_mistakes_are_raised_at_once(options: dict[str, Any]) -> None:
    """An unknown setting, an invalid value, a port that another server has."""
    with pytest.raises(TypeError, match="did you mean 'port'"):
        askstream.serve(**options, prot=1)
    del options["port"]
    with pytest.raises(ValueError, match="port"):
        askstream.serve(**options, port="http")
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(AddressInUse, match="can't listen"):
        askstream.serve(**options, port=other.getsockname()[1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_script_blocks_until_a_signal_and_goes_on(tmp_path: Path, number: int) -> None:
    """It drains, then the script continues after the call. The next call finds the unfinished run."""
    script = Process([sys.executable, "-c", SCRIPT, str(tmp_path)])
    try:
        await asyncio.to_thread(script.wait_for, lambda: "serves on" in script.output)
        url = script.lines[0].split()[-1]
        async with client_of(url) as client:
            assert (await client.get("/health")).json() == {"status": "ok"}
        await ask(url, "600 0.1")
        assert await asyncio.to_thread(script.end, number) == 0
        assert "after <askstream has stopped>" in script.output
    finally:
        script.release()


def test_a_script_that_cannot_start_reports_why(tmp_path: Path) -> None:
    script = Process([sys.executable, "-c", SCRIPT.replace("orchestrator=Counting()", "'no.such:team'"), str(tmp_path)])
    assert script.wait() == 1
    assert "there is no module no" in script.lines[-1]


def _connect(url: str, *, refused: bool) -> None:
    host, port = url.removeprefix("http://").split(":")
    with socket.socket() as client:
        assert (client.connect_ex((host, int(port))) != 0) == refused
