"""One run of a kind of team: in process with `run_stream`, or served and watched over a transport."""

import base64
import io
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from autogen_agentchat.base import ChatAgent, TaskResult, Team
from autogen_agentchat.messages import (
    BaseAgentEvent,
    BaseChatMessage,
    BaseTextChatMessage,
    CodeExecutionEvent,
    CodeGenerationEvent,
    HandoffMessage,
    MultiModalMessage,
    SelectorEvent,
    SelectSpeakerEvent,
    StructuredMessage,
    TextMessage,
    ThoughtEvent,
    ToolCallExecutionEvent,
    ToolCallRequestEvent,
)
from PIL import Image as Pictures

from askstream.agents.models import ModelSettings, connect
from tests.e2e.viewers import TERMINAL, client_of, say, socket, sse_lines
from tests.matrix.kinds import KINDS, made
from tests.matrix.script import Model

QUESTION = "Write something."
# Facts about the model for AutoGen, in process and served.
INFO: dict[str, Any] = dict.fromkeys(
    ("structured_output", "multiple_system_messages", "vision", "function_calling", "json_output"), True
)

Step = tuple[Any, ...]
"""What a viewer must see of one message or event, without ids and times."""


@dataclass(slots=True)
class Seen:
    """A run, as it was in process or as the events say."""

    steps: list[Step] = field(default_factory=list[Step])
    stop_reason: str | None = None
    answer: tuple[str, str] = ("", "")
    messages: int = 0
    usage: tuple[int, int] = (0, 0)


async def in_process(kind: str, model: Model) -> Seen:
    """Run the team as AutoGen's samples do. Its usage is what the model's server has counted."""
    model.reset()
    replies, seen = iter(KINDS[kind].replies), Seen()
    client = connect(ModelSettings(model="fake", base_url=model.fake.base_url, info=INFO))

    async def ask(_prompt: str, _token: object = None) -> str:
        return next(replies)

    try:
        async with made(kind, client, ask) as team:
            task: BaseChatMessage | None = TextMessage(source="user", content=QUESTION)
            while task is not None:
                said = await _said(team, task, seen)
                _add(seen, said)
                task = _reply(said[-1], replies) if isinstance(said[-1], HandoffMessage) else None
    finally:
        await client.close()
    seen.usage, seen.answer = model.usage, KINDS[kind].answer or seen.answer
    return seen


async def _said(team: Team | ChatAgent, task: BaseChatMessage, seen: Seen) -> list[BaseAgentEvent | BaseChatMessage]:
    """The team's messages after `task`, which some kinds repeat."""
    said: list[BaseAgentEvent | BaseChatMessage] = []
    async for message in team.run_stream(task=task):
        if isinstance(message, TaskResult):
            seen.stop_reason = message.stop_reason
        elif message.id != task.id:
            said.append(message)
    return said


def _reply(handoff: HandoffMessage, replies: Iterator[str]) -> HandoffMessage | None:
    """The person's reply to a handoff to them."""
    if handoff.target != "user":
        return None
    return HandoffMessage(source="user", target=handoff.source, content=next(replies))


def _add(seen: Seen, said: Sequence[BaseAgentEvent | BaseChatMessage]) -> None:
    spent: dict[str, tuple[int, int]] = {}
    for message in said:
        if usage := message.models_usage:
            before = spent.get(message.source, (0, 0))
            spent[message.source] = (before[0] + usage.prompt_tokens, before[1] + usage.completion_tokens)
        if isinstance(message, BaseChatMessage):
            seen.messages += 1
            seen.answer = (message.source, message.to_text())
            used = spent.pop(message.source, (0, 0))
            seen.steps.append(("says", message.source, message.to_text(), used, _content(message)))
        else:
            seen.steps += _steps(message)


def _content(message: BaseChatMessage) -> Any:
    match message:
        case BaseTextChatMessage():
            return None
        case MultiModalMessage():
            return [part if isinstance(part, str) else part.image.size for part in message.content]
        case StructuredMessage():
            return cast(Any, message).content.model_dump(mode="json")
        case _:
            return message.model_dump(mode="json", exclude=set(BaseChatMessage.model_fields))


def _steps(event: BaseAgentEvent) -> Iterator[Step]:
    match event:
        case ThoughtEvent() | SelectorEvent():
            yield "thinks", event.source, event.content
        case SelectSpeakerEvent():
            yield "thinks", event.source, f"Gives the turn to {', '.join(event.content)}."
        case ToolCallRequestEvent():
            for call in event.content:
                yield "calls", event.source, call.name, call.id, json.loads(call.arguments)
        case ToolCallExecutionEvent():
            for end in event.content:
                yield "returns", event.source, end.name, end.call_id, _json(end.content), bool(end.is_error)
        case CodeGenerationEvent():
            blocks = [{"language": block.language, "code": block.code} for block in event.code_blocks]
            yield "calls", event.source, "execute_code", "", {"code_blocks": blocks}
        case CodeExecutionEvent():
            result = {"exit_code": event.result.exit_code, "output": event.result.output}
            yield "returns", event.source, "execute_code", "", result, event.result.exit_code != 0
        case _:
            pass


def _json(text: str) -> Any:
    """A tool's result: an object in JSON that loses nothing is an object for viewers."""
    kept = json.loads(text) if text.startswith("{") else text
    return kept if isinstance(kept, str) or json.dumps(kept) == text else text


def of_events(events: Sequence[dict[str, Any]], thoughts: Sequence[Step]) -> Seen:
    """A served run. Of its thoughts those that are among `thoughts`: the rest are beginnings of turns."""
    seen, end = Seen(), events[-1]["data"]
    for event in events:
        step = _seen_step(event)
        if step and (step[0] != "thinks" or step in thoughts):
            seen.steps.append(step)
    seen.stop_reason, seen.messages = end.get("stop_reason"), end.get("total_messages", 0)
    seen.answer = (end.get("answered_by", ""), end.get("final_response", ""))
    if usage := end.get("usage"):
        seen.usage = (usage["prompt_tokens"], usage["completion_tokens"])
    return seen


def _seen_step(event: dict[str, Any]) -> Step | None:
    agent, data = event["agent_name"], event["data"]
    match event["event_type"]:
        case "agent_response":
            used = (data["usage"]["prompt_tokens"], data["usage"]["completion_tokens"])
            return "says", agent, event["message"], used, _seen_content(data.get("content"))
        case "agent_thinking":
            return "thinks", agent, event["message"]
        case "tool_execution":
            call_id = "" if data["tool_name"] == "execute_code" else data["call_id"]
            if data["status"] == "started":
                return "calls", agent, data["tool_name"], call_id, data["parameters"]
            return "returns", agent, data["tool_name"], call_id, data["result"], data["status"] == "failed"
        case _:
            return None


def _seen_content(content: Any) -> Any:
    if not isinstance(content, list):
        return content
    return [part if isinstance(part, str) else _size(part["url"]) for part in cast(list[Any], content)]


def _size(url: str) -> tuple[int, int]:
    return Pictures.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).size


@asynccontextmanager
async def asked(transport: str, url: str, kind: str, **fields: Any) -> AsyncGenerator[AsyncIterator[str]]:
    """Ask a team over a transport, and yield the run's lines as they come."""
    ask = {"question": QUESTION, "session_id": f"{kind}:{transport}", "tokens": True, **fields}
    if transport == "sse":
        async with aclosing(sse_lines(url, "/ask-stream", method="POST", json=ask)) as found:
            yield (line async for _, line in found)
    else:
        async with socket(url) as ws:
            reply = await say(ws, type="ask", **ask)
            assert reply["ok"], reply
            yield (str(line) async for line in ws if not str(line).startswith('{"reply"'))


async def followed(url: str, lines: AsyncIterator[str], replies: Iterator[str]) -> list[str]:
    """The lines to the run's end. The person's replies are sent when they are asked for."""
    found: list[str] = []
    async for line in lines:
        found.append(line)
        event = json.loads(line)["event"]
        if event["event_type"] == "input_requested":
            await _answer(url, event["run_id"], event["data"]["request_id"], next(replies))
        if event["event_type"] in TERMINAL:
            break
    return found


async def _answer(url: str, run_id: str, request_id: str, value: str) -> None:
    async with client_of(url) as client:
        done = await client.post(f"/runs/{run_id}/input", json={"request_id": request_id, "value": value})
        done.raise_for_status()
