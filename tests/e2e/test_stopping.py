"""A server ends at a signal, in any state of its runs; the next one resumes them."""

import asyncio
import time

import pytest

from tests.chaos.team import Plan
from tests.e2e.conftest import Start
from tests.e2e.viewers import ask, client_of, is_terminal, watch_sse
from tests.timing import GLANCE, MS, PATIENCE

TEAM = ("--team", "tests.chaos.team:factory")
# The drain, 5 s for tools that ignore their cancel, 3 s for connections, 1 s at the end, and a busy machine.
STOP_SECONDS = 15_000 * MS


@pytest.mark.long
@pytest.mark.parametrize(
    "plan",
    [Plan(tag="thread", pause=60, chunks=0), Plan(tag="task", pause=60, chunks=1, stubborn=True)],
    ids=["a tool's thread", "a task that ignores its cancel"],
)
async def test_tools_that_ignore_a_stop_do_not_keep_the_server_running(start: Start, plan: Plan) -> None:
    """SIGTERM ends it in time, with exit status 0; the run is kept, and resumed."""
    server = start(*TEAM, ASKSTREAM_DRAIN_SECONDS="0.1")
    run_id = await ask(server.url, plan.question())
    async with client_of(server.url) as client, asyncio.timeout(PATIENCE):
        # Its first event is `started`; the next one begins the step that takes a minute.
        while (await client.get(f"/runs/{run_id}")).json()["last_id"] < 2:  # noqa: ASYNC110 - another process brings it about
            await asyncio.sleep(GLANCE)
    began = time.monotonic()
    assert await asyncio.to_thread(server.stop) == 0
    assert time.monotonic() - began < STOP_SECONDS
    again = start(*TEAM, ASKSTREAM_DRAIN_SECONDS="0.1", ASKSTREAM_RUN_SECONDS="1")
    log = await watch_sse(again.url, run_id)
    assert is_terminal(log[-1])
    assert any('"resumed"' in line for line in log)
