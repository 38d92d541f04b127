"""The four roles played in a test: the analyst's pure function and the real tools, with the messages of a chat."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from askstream.agents.insights.offline.analyst import reply
from askstream.agents.insights.offline.conversation import Act, Say, call_id
from askstream.agents.insights.sql import ToolError
from askstream.agents.insights.tools import Tool, toolbox

ORDER = ("PlanningAgent", "DataAgent", "AnalysisAgent", "ReportAgent")
TOOLS = {
    "PlanningAgent": ("describe_schema",),
    "DataAgent": ("describe_schema", "run_sql", "compare_periods"),
    "AnalysisAgent": ("run_sql", "compare_periods", "break_down"),
    "ReportAgent": ("make_chart",),
}
MOST_ROUNDS = 8  # calls of the model with tools in one turn, as the team has it


@dataclass(slots=True)
class Called:
    agent: str
    name: str
    arguments: dict[str, Any]
    result: dict[str, Any]


@dataclass(slots=True)
class Story:
    """What was said, in order, and every call."""

    said: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    calls: list[Called] = field(default_factory=list[Called])
    thoughts: list[str] = field(default_factory=list[str])

    @property
    def order(self) -> list[str]:
        return [agent for agent, _ in self.said]

    @property
    def report(self) -> str:
        return self.said[-1][1]

    @property
    def answer(self) -> str:
        """The report without its SQL."""
        return self.report.partition("## SQL")[0]

    @property
    def charts(self) -> list[dict[str, Any]]:
        return [call.result["chart"] for call in self.calls if call.name == "make_chart"]


VAGUE = "How are we doing in the north?"
SILENCE = "Nobody answered. Go on with an assumption, and state it."


async def ask(
    path: Path,
    *questions: str,
    named: bool = True,
    answer: str | None = None,
    remarks: Sequence[str] = (),
    asks: bool = False,
) -> Story:
    """The whole conversation; the story is that of the last question. Without names, texts alone tell who speaks.

    When asked back the person gives the answer, or none; when the report is there, one remark after the other.
    """
    contexts: dict[str, list[dict[str, Any]]] = {
        agent: [{"role": "system", "content": f"You are {agent}, and so on.{' ASK USER:' * asks}"}] for agent in ORDER
    }
    tools, story = toolbox(path), Story()
    for question in questions:
        story = Story()
        for said in (question, *(f"REVIEW: {remark}" for remark in remarks)):
            _hear(contexts, said, "user" if named else None)
            await _answered(contexts, tools, story, named, SILENCE if answer is None else answer)
    return story


def _hear(contexts: dict[str, list[dict[str, Any]]], text: str, name: str | None) -> None:
    for agent, context in contexts.items():
        if agent != name:
            context.append({"role": "user", "content": text, **({"name": name} if name else {})})


async def _answered(
    contexts: dict[str, list[dict[str, Any]]], tools: dict[str, Tool], story: Story, named: bool, answer: str
) -> None:
    speaker = ORDER[0]
    while len(story.said) < 40:
        text = await _turn(speaker, contexts[speaker], tools, story)
        story.said.append((speaker, text))
        for agent, context in contexts.items():
            if agent != speaker:
                context.append({"role": "user", "content": text, **({"name": speaker} if named else {})})
        if speaker == ORDER[-1]:
            return
        if any(line.startswith("ASK USER:") for line in text.splitlines()):
            _hear(contexts, answer, "user" if named else None)
            continue
        speaker = ORDER[ORDER.index(speaker) + 1]
    raise AssertionError("the team never came to an end")


async def _turn(agent: str, context: list[dict[str, Any]], tools: dict[str, Tool], story: Story) -> str:
    offered = [{"type": "function", "function": {"name": name}} for name in TOOLS[agent]]
    for _ in range(MOST_ROUNDS + 1):
        match reply(context, offered):
            case Say(text):
                context.append({"role": "assistant", "content": text})
                return text
            case Act(thought, calls) as act:
                position = len(context)
                story.thoughts.append(thought)
                context.append({"role": "assistant", "content": thought, "tool_calls": _wire(act, position)})
                for call in calls:
                    assert call.name in TOOLS[agent], f"{agent} has no tool {call.name}"
                    content = await _known(tools[call.name], dict(call.arguments))
                    story.calls.append(Called(agent, call.name, dict(call.arguments), orjson.loads(content)))
                    context.append({"role": "tool", "tool_call_id": call_id(call, position), "content": content})
    raise AssertionError(f"{agent} called tools {MOST_ROUNDS + 1} times in one turn")


_KNOWN: dict[str, str] = {}  # the data never changes, so neither does a result


async def _known(tool: Tool, arguments: dict[str, Any]) -> str:
    owner = getattr(tool, "__self__", "")
    key = f"{owner} {tool.__name__} {orjson.dumps(arguments, option=orjson.OPT_SORT_KEYS).decode()}"
    if key not in _KNOWN:
        _KNOWN[key] = await _result(tool, arguments)
    return _KNOWN[key]


async def _result(tool: Tool, arguments: dict[str, Any]) -> str:
    try:
        return await tool(**arguments)
    except ToolError as error:
        return str(error)


def _wire(act: Act, position: int) -> list[dict[str, Any]]:
    return [
        {
            "id": call_id(call, position),
            "type": "function",
            "function": {"name": call.name, "arguments": orjson.dumps(call.arguments).decode()},
        }
        for call in act.calls
    ]
