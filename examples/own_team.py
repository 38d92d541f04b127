"""Your own team: `python3 dev.py run --team examples/own_team.py`, then ask it how many days it is until 2026-12-24.

Nothing in it depends on askstream. The factory `team` is called for each run and returns an AutoGen team. It gets the
configured model client because it has a parameter of that name. On a server without a model, the parameter keeps its
default, and an agent answers that needs no model.
"""

import re
from collections.abc import Sequence
from datetime import date

from autogen_agentchat.agents import AssistantAgent, BaseChatAgent
from autogen_agentchat.base import Response
from autogen_agentchat.conditions import MaxMessageTermination, TextMentionTermination
from autogen_agentchat.messages import BaseChatMessage, TextMessage
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import CancellationToken
from autogen_core.models import ChatCompletionClient

title = "Days between dates"
greeting = "It counts the days from one date to another."
starters = ["How many days is it until 2026-12-24?", "How many days are there from 2024-02-28 to 2024-03-01?"]


def days_between(first: str, second: str) -> int:
    """Count the days from one date to another, both written YYYY-MM-DD."""
    return (date.fromisoformat(second) - date.fromisoformat(first)).days


def today() -> str:
    """Tell today's date."""
    return date.today().isoformat()  # noqa: DTZ011 - the reader's own day is meant


class DateReader(BaseChatAgent):
    """Understands dates written YYYY-MM-DD, and nothing else: it has no model."""

    def __init__(self) -> None:
        super().__init__("DateReader", "Counts days between dates written YYYY-MM-DD, without a model.")

    @property
    def produced_message_types(self) -> Sequence[type[BaseChatMessage]]:
        return (TextMessage,)

    async def on_messages(self, messages: Sequence[BaseChatMessage], cancellation_token: CancellationToken) -> Response:
        return Response(chat_message=TextMessage(source=self.name, content=_counted(messages[-1].to_text())))

    async def on_reset(self, cancellation_token: CancellationToken) -> None:
        """It remembers nothing."""


def _counted(question: str) -> str:
    try:
        first, second = [today(), *re.findall(r"\d{4}-\d{2}-\d{2}", question)][-2:]
        return f"From {first} to {second} it is {days_between(first, second)} days."
    except ValueError:  # there is no date, or no such day
        return (
            "This server has no model, so I only understand dates written YYYY-MM-DD, such as 2026-12-24. "
            "With OPENAI_API_KEY set, two agents answer any question about dates."
        )


def team(model_client: ChatCompletionClient | None = None) -> RoundRobinGroupChat:
    """Make a team of an agent that counts and one that checks, until the second approves."""
    if model_client is None:
        return RoundRobinGroupChat([DateReader()], max_turns=1)
    counter = AssistantAgent(
        "Counter",
        model_client,
        description="Counts days with its tools.",
        system_message="Answer questions about dates. Count only with your tools, and say what you counted.",
        tools=[days_between, today],
        reflect_on_tool_use=True,
    )
    checker = AssistantAgent(
        "Checker",
        model_client,
        description="Checks what was counted.",
        system_message="Check the other's answer with your tool. Say what is wrong, or repeat it and add DONE.",
        tools=[days_between],
        reflect_on_tool_use=True,
    )
    return RoundRobinGroupChat(
        [counter, checker],
        termination_condition=TextMentionTermination("DONE", sources=["Checker"]) | MaxMessageTermination(10),
    )
