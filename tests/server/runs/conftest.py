"""Runs over a journal that returns at once, and over one that yields at every step."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest

from askstream.server.journal import Journal, open_journal
from tests.conformance.journals import Yielding
from tests.server.runs.harness import Harness


@pytest.fixture(params=["prompt", "yielding"])
async def harness(request: pytest.FixtureRequest) -> AsyncIterator[Harness]:
    memory = open_journal("memory://")
    journal = cast(Journal, Yielding(memory)) if request.param == "yielding" else memory
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        yield Harness(journal, group)
