"""A cancel ends each kind of team in time, and its model is asked no more."""

import asyncio
import json
from typing import Any

import pytest

from tests.e2e.conftest import ServerProcess
from tests.e2e.viewers import client_of, say, socket
from tests.matrix import runs
from tests.matrix.script import Model
from tests.matrix.teams import KINDS
from tests.timing import GLANCE, PATIENCE

# A run must have ended 5 s after its cancel, whatever it does.
IN_TIME = 5.0


@pytest.mark.parametrize("kind", KINDS)
async def test_a_run_that_is_cancelled_in_a_model_call_ends_in_time(
    kind: str, server: ServerProcess, model: Model
) -> None:
    for transport in ("sse", "websocket"):
        model.reset(**{kind: KINDS[kind].hangs_at})
        events = await _cancelled(transport, server, kind, model)
        assert (events[-1]["event_type"], events[-1]["data"]["reason"]) == ("cancelled", "client")
        assert events[-1]["id"] == len(events)
        async with asyncio.timeout(IN_TIME):
            while model.fake.answering:  # noqa: ASYNC110 - another thread's
                await asyncio.sleep(GLANCE)
        assert not model.asked_more


async def _cancelled(transport: str, server: ServerProcess, kind: str, model: Model) -> list[dict[str, Any]]:
    """The events of a run that is cancelled when its model hangs."""
    async with runs.asked(transport, server.url, kind) as stream:
        first = json.loads(await anext(stream))["event"]
        following = asyncio.ensure_future(runs.followed(server.url, stream, iter(KINDS[kind].replies)))
        assert await asyncio.to_thread(model.hung.wait, PATIENCE)
        async with asyncio.timeout(IN_TIME):
            await _cancel(transport, server.url, first["run_id"])
            return [first, *(json.loads(line)["event"] for line in await following)]


async def _cancel(transport: str, url: str, run_id: str) -> None:
    if transport == "sse":
        async with client_of(url) as client:
            (await client.post(f"/runs/{run_id}/cancel")).raise_for_status()
    else:
        async with socket(url) as ws:
            assert (await say(ws, type="cancel", run_id=run_id))["ok"]
