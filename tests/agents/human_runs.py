"""Runs that need a person, and the bundled team with a model that plays its four agents."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
from autogen_agentchat.teams import BaseGroupChat
from autogen_core.models import ChatCompletionClient

from askstream.agents.human import TeamProfile
from askstream.agents.insights import team as insights
from askstream.agents.insights.team import PLANNER
from askstream.agents.insights.tools import toolbox
from askstream.server.runs.orchestrator import Answer, Inquiry, Reply, Task
from tests.agents import fake_provider
from tests.agents.fake_provider import Body, Provider
from tests.agents.sample_teams import Make, Recorder, orchestrator

NOBODY_THERE = Reply(value=None, answered=False)
APPROVED = Reply(value={"approve": True})


def sent_back(remark: str) -> Reply:
    return Reply(value={"approve": False, "remark": remark})


class HumanRun:
    """A run that continues in a new orchestrator after each inquiry, with nothing but the checkpoint's bytes, as if in
    another process."""

    def __init__(self, fake: Provider, make: Make, profile: TeamProfile | None = None, **limits: Any) -> None:
        self.fake, self._make, self._profile, self._limits = fake, make, profile, limits
        self.sink = Recorder()
        self.inquiries: list[Inquiry] = []

    async def run(self, first: Task, replies: Sequence[Reply] = ()) -> Answer:
        """Ask `first` and give the replies in order; the team must ask for all of them."""
        left, now = list(replies), first
        async with orchestrator(self.fake, self._make, profile=self._profile, **self._limits) as team:
            while isinstance(outcome := await team.run(now, self.sink), Inquiry):
                self.inquiries.append(outcome)
                reply = left.pop(0)
                if reply.answered:
                    jsonschema.validate(reply.value, outcome.schema)
                now = replace(first, checkpoint=outcome.state, reply=reply)
        assert left == []
        return outcome

    async def stretch(self, now: Task) -> Answer | Inquiry:
        async with orchestrator(self.fake, self._make, profile=self._profile, **self._limits) as team:
            return await team.run(now, self.sink)


def bundled(client: ChatCompletionClient) -> BaseGroupChat:
    return insights.team(client, insights.kit(toolbox(Path("nowhere"))))


def staff(*, questions: int = 0) -> fake_provider.Script:
    """Play the four agents. Each repeats the person's last text; the planner asks `questions` times."""

    def model(body: Body, _: int) -> fake_provider.Reply:
        messages = body["messages"]
        name = str(messages[0]["content"]).removeprefix("You are ").partition(",")[0]
        heard = [str(message["content"]) for message in messages if message.get("name") == "user"]
        asked = sum("ASK USER:" in str(message["content"]) for message in messages if message["role"] == "assistant")
        if name == PLANNER and asked < questions:
            return fake_provider.Reply(text=[f"It is open.\nASK USER: Which measure ({asked})?\n1) revenue"])
        return fake_provider.Reply(text=[f"{name} on {heard[-1]}"])

    return model


def insights_run(fake: Provider) -> HumanRun:
    return HumanRun(fake, bundled, insights.PROFILE)
