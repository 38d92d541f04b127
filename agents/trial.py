"""The check of a team when the server starts. It finds what would fail at the second run only."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from askstream.agents.copying import shared_names, stateful
from askstream.agents.team_factory import unavailable
from askstream.server.events.errors import RunFailed

if TYPE_CHECKING:
    from autogen_agentchat.base import Team

# For each of the two calls. A factory may connect to databases and to MCP servers.
TRIAL_SECONDS = 30.0


async def make_twice(
    spec: str,
    open_team: Callable[[], AbstractAsyncContextManager["Team"]],
    *,
    seconds: float = TRIAL_SECONDS,
) -> None:
    """Make a team, discard it, and do the same again. Raises RunFailed `team_unavailable`.

    Two teams that share a part with a conversation's state are refused, with its name.
    """
    first = await _parts(spec, open_team, seconds)
    try:
        second = await _parts(spec, open_team, seconds)
    except RunFailed as problem:
        raise RunFailed(
            "team_unavailable", f"{problem} It worked once, but each run needs a team of its own."
        ) from problem
    if names := shared_names(first, second):
        what = ", ".join(names)
        raise unavailable(spec, f"two runs would share {what}, which remember. Make them inside of the factory")


async def _parts(
    spec: str,
    open_team: Callable[[], AbstractAsyncContextManager["Team"]],
    seconds: float,
) -> list[Any]:
    manager = open_team()
    try:
        async with asyncio.timeout(seconds):
            team = await manager.__aenter__()
    except TimeoutError as problem:
        raise unavailable(spec, f"its factory hasn't returned after {seconds:g} seconds") from problem
    try:
        return stateful(team)
    finally:
        await manager.__aexit__(None, None, None)
