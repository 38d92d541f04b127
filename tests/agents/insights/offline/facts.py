"""The names in the data, as the planner gets them."""

import asyncio
from functools import lru_cache
from pathlib import Path

import orjson

from askstream.agents.insights.offline.grammar import Slots, read
from askstream.agents.insights.offline.names import Facts, facts_from
from askstream.agents.insights.offline.plan import No, Plan
from askstream.agents.insights.offline.understanding import refusal, understood
from askstream.agents.insights.tools import toolbox


@lru_cache
def facts_of(path: Path) -> Facts:
    async def described() -> str:
        return await toolbox(path)["describe_schema"]()

    found = facts_from(orjson.loads(asyncio.run(described())))
    assert found is not None
    return found


def slots_of(path: Path, question: str) -> Slots:
    return read(question, facts_of(path))


def plan_of(path: Path, question: str) -> Plan:
    """The plan of a question that stands alone; a no says why."""
    try:
        return understood(slots_of(path, question), facts_of(path))
    except No as no:
        return refusal(no, slots_of(path, question), facts_of(path))
