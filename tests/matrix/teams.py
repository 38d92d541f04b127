"""All kinds of teams, for `--team tests.matrix.teams:served`: the session's id names the kind."""

from collections.abc import AsyncGenerator

from autogen_agentchat.base import ChatAgent, Team
from autogen_core.models import ChatCompletionClient

from tests.matrix import classics, endings, parts
from tests.matrix.kinds import KINDS, SLOW, Ask, made

__all__ = ["KINDS", "SLOW", "classics", "endings", "parts", "served"]


async def served(
    model_client: ChatCompletionClient, session_id: str, input_func: Ask
) -> AsyncGenerator[Team | ChatAgent]:
    name = session_id.partition(":")[0]
    async with made(name if name in (*KINDS, *SLOW) else "writer_and_critic", model_client, input_func) as team:
        yield team
