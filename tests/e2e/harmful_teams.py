"""Teams that harm their server, for `--team tests.e2e.harmful_teams:NAME`. The question says what they do.

Their model is scripted: an agent calls the tool that the question names in its turn, and repeats its result.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import FunctionCall
from autogen_core.models import (
    CreateResult,
    FunctionExecutionResultMessage,
    LLMMessage,
    ModelInfo,
    RequestUsage,
    UserMessage,
)
from autogen_ext.models.replay import ReplayChatCompletionClient

# Seconds of a harmless agent's turn.
TURN = float(os.environ.get("HARMFUL_TURN", "0.05"))


_INFO: ModelInfo = {
    "vision": False,
    "function_calling": True,
    "json_output": False,
    "family": "unknown",
    "structured_output": False,
}


class Obedient(ReplayChatCompletionClient):
    """Calls the tool that the question's text begins with, in the turn of the agent that the text names."""

    def __init__(self, name: str) -> None:
        super().__init__(["never"], _INFO)
        self._agent_name = name

    async def create(self, messages: Sequence[LLMMessage], **_: Any) -> CreateResult:
        question = next(str(message.content) for message in messages if isinstance(message, UserMessage))
        tool, _in, who = question.partition(" in ")
        last = messages[-1]
        if isinstance(last, FunctionExecutionResultMessage):
            return _result(f"{self._agent_name} got {last.content[0].content}")
        if who == self._agent_name:
            return _result([FunctionCall(id="call", name=tool, arguments="{}")])
        await asyncio.sleep(TURN)
        return _result(f"{self._agent_name} spoke")


def _result(content: str | list[FunctionCall]) -> CreateResult:
    reason = "stop" if isinstance(content, str) else "function_calls"
    return CreateResult(finish_reason=reason, content=content, usage=RequestUsage(1, 1), cached=False)


def leave() -> str:
    """Exit, as a command-line parser does, in a thread."""
    sys.exit(2)


async def leave_later() -> str:
    """Exit on the event loop."""
    sys.exit(2)


async def leave_by_callback() -> str:
    """Exit in a callback, which no task contains."""
    asyncio.get_running_loop().call_soon(sys.exit, 3)
    await asyncio.sleep(0.05)
    return "nothing"


def die() -> str:
    """End the process as a segmentation fault does."""
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


async def block() -> str:
    """Block the event loop."""
    time.sleep(1.2)  # noqa: ASYNC251 - the mistake that the log must name
    return "slept"


def look_up() -> str:
    """Raise an ordinary error."""
    rows: dict[str, str] = {}
    return rows["no such row"]


TOOLS = (leave, leave_later, leave_by_callback, die, block, look_up)


def team() -> RoundRobinGroupChat:
    members = [
        AssistantAgent(name, Obedient(name), tools=list(TOOLS), reflect_on_tool_use=True) for name in ("A", "B", "C")
    ]
    return RoundRobinGroupChat(list(members), max_turns=3)
