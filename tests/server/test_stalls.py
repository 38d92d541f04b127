"""The log names the call that blocks the event loop."""

import asyncio
import re
import time
from pathlib import Path

import pytest

from askstream.server import stalls
from tests.timing import GLANCE, MS, PATIENCE

STALL = 200 * MS


async def until_logged(caplog: pytest.LogCaptureFixture, words: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while words not in caplog.text:  # noqa: ASYNC110 - a record of the log has no event of its own
            await asyncio.sleep(GLANCE)


def blocks() -> None:
    time.sleep(4 * STALL)


@pytest.mark.serial
async def test_a_call_that_blocks_the_loop_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    """With its function, file and line, also if it called a library; then how long it was."""
    with stalls.reported(seconds=STALL, pause=GLANCE):
        await asyncio.sleep(2 * GLANCE)
        blocks()
        await until_logged(caplog, "goes on after")
    here = re.escape(str(Path(__file__)))
    assert len(re.findall(rf"blocked for \d+ ms by blocks, at {here}:\d+;", caplog.text)) == 1
    assert len(caplog.records) == 2


@pytest.mark.serial
async def test_a_busy_loop_is_no_stall(caplog: pytest.LogCaptureFixture) -> None:
    """Its iterations are short."""
    until = time.monotonic() + 3 * STALL
    with stalls.reported(seconds=STALL, pause=GLANCE):
        while time.monotonic() < until:  # noqa: ASYNC110 - it is busy, and waits for nothing
            await asyncio.sleep(0)
    assert not caplog.records
