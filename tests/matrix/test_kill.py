"""After kill -9 in mid-run each kind of team goes on from its last turn, or says honestly that it can't."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.conftest import ServerProcess, started
from tests.e2e.viewers import ask, sse_lines
from tests.matrix import runs
from tests.matrix.conftest import TEAM, environment
from tests.matrix.script import Model
from tests.matrix.teams import KINDS
from tests.timing import PATIENCE

pytestmark = pytest.mark.filterwarnings(
    "ignore:Using LocalCommandLineCodeExecutor",
    "ignore:No approval function set",
    "ignore:Pydantic serializer warnings",
)

QUICK = ("writer_and_critic", "chainlit_team_with_person", "selector_by_prompt", "swarm", "magentic_one", "team_tool")
"""Kinds for every test run, of which each is resumed in another way."""


@pytest.mark.parametrize("kinds", [QUICK, pytest.param(tuple(KINDS), marks=pytest.mark.long)], ids=["quick", "all"])
async def test_after_kill_9_a_run_is_what_it_would_have_been_or_is_interrupted(
    kinds: tuple[str, ...], model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them hang in a model call when the server is killed. The log has no gap, and no turn comes twice."""
    for name, value in environment(model).items():
        monkeypatch.setenv(name, value)
    expected = {kind: await runs.in_process(kind, model) for kind in kinds}
    model.reset(**{kind: KINDS[kind].hangs_at for kind in kinds})
    replies = {kind: iter(KINDS[kind].replies) for kind in kinds}
    with started(tmp_path, *TEAM, **environment(model)) as first:
        run_ids = {kind: await ask(first.url, runs.QUESTION, session_id=kind) for kind in kinds}
        following = asyncio.gather(*(_follow(first, run_ids[kind], replies[kind]) for kind in kinds))
        assert await asyncio.to_thread(model.hung.wait, PATIENCE)
        first.kill()
        seen = dict(zip(kinds, await following, strict=True))
    model.reset()
    with started(tmp_path, *TEAM, **environment(model)) as second:
        following = asyncio.gather(
            *(_follow(second, run_ids[kind], replies[kind], after=len(seen[kind])) for kind in kinds)
        )
        async with asyncio.timeout(3 * PATIENCE):
            rest = dict(zip(kinds, await following, strict=True))
    for kind in kinds:
        _check(kind, [*seen[kind], *rest[kind]], expected[kind])


async def _follow(
    server: ServerProcess, run_id: str, replies: Iterator[str], *, after: int = 0
) -> list[dict[str, Any]]:
    """The run's events to its end, or to that of its server. The person's replies are sent."""
    found: list[dict[str, Any]] = []

    async def lines() -> AsyncGenerator[str]:
        query = {"after": str(after), "tokens": "true"}
        async for _, line in sse_lines(server.url, f"/runs/{run_id}/events", params=query):
            found.append(json.loads(line)["event"])
            yield line

    with contextlib.suppress(httpx2.TransportError):
        await runs.followed(server.url, lines(), replies)
    return found


def _check(kind: str, events: list[dict[str, Any]], expected: runs.Seen) -> None:
    assert [event["id"] for event in events] == list(range(1, len(events) + 1)), kind
    if not KINDS[kind].resumes:
        assert (events[-1]["event_type"], events[-1]["data"]["error"]) == ("error", "interrupted"), kind
        return
    assert events[-1]["event_type"] == "completed", (kind, events[-1])
    seen = runs.of_events(_without_repeated(events), expected.steps)
    assert seen.steps == expected.steps, kind
    assert replace(seen, usage=expected.usage) == expected, kind


def _without_repeated(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events without those of the turn that was done again."""
    found: list[dict[str, Any]] = []
    for event in events:
        if event["event_type"] == "resumed":
            found = [one for one in found if one["id"] <= event["data"]["from_id"]]
        found.append(event)
    return found
