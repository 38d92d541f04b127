"""Your own team: `askstream serve --team examples.own_team:team`, then ask it how long it is until a date.

Nothing in it depends on askstream. The factory is called for each run and returns an AutoGen team. It gets the
configured model client because it has a parameter of that name.
"""

from datetime import date

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import MaxMessageTermination, TextMentionTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core.models import ChatCompletionClient


def days_between(first: str, second: str) -> int:
    """Count the days from one date to another, both written YYYY-MM-DD."""
    return (date.fromisoformat(second) - date.fromisoformat(first)).days


def today() -> str:
    """Tell today's date."""
    return date.today().isoformat()  # noqa: DTZ011 - the reader's own day is meant


def team(model_client: ChatCompletionClient) -> RoundRobinGroupChat:
    """Make a team of an agent that counts and one that checks, until the second approves."""
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
