"""A model client between a team and the real one: it sends the model's text directly to the run's viewers.

Streaming through a team costs AutoGen 190 to 390 µs an event, for queues, tasks and several JSON dumps. So the tap
sends on the pieces, and gives the team whole messages only. It also counts the run's usage, and records a model's
errors before AutoGen turns them into text.
"""

import json
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, Unpack

from autogen_core import CancellationToken, FunctionCall
from autogen_core.models import (
    ChatCompletionClient,
    CreateResult,
    LLMMessage,
    ModelCapabilities,  # pyright: ignore[reportDeprecated]  # the abstract property that must be there names it
    ModelInfo,
    RequestUsage,
)
from autogen_core.tools import Tool, ToolSchema
from pydantic import BaseModel

from askstream.agents import failures
from askstream.agents.chunk_buffer import ChunkBuffer
from askstream.server.events import Usage


@dataclass(frozen=True, slots=True)
class Speaker:
    """The agent whose turn it is. `needs_whole_only`: it doesn't need the pieces of a text."""

    name: str
    needs_whole_only: bool


# Set at the beginning of each turn, in the turn's task. None for calls outside of turns, such as a selector's choice of
# the next speaker: no agent writes their text, and no viewer gets it.
speaking: ContextVar[Speaker | None] = ContextVar("speaking", default=None)


class ModelCalls:
    """Records a run's model calls: their usage, their agents, and each agent's error if its last call failed."""

    def __init__(self, spent: Usage | None = None) -> None:
        self.usage = spent or Usage()
        self.callers: set[str] = set()
        self.problems: dict[str, Exception] = {}  # of agents whose last call failed
        self._texts: dict[str, tuple[str, str]] = {}

    def answered(self, speaker: Speaker | None, message_id: str, result: CreateResult) -> None:
        self.usage += Usage(result.usage.prompt_tokens, result.usage.completion_tokens)
        name = speaker.name if speaker else ""
        self.callers.add(name)
        self.problems.pop(name, None)
        if isinstance(result.content, str):
            self._texts[name] = (message_id, result.content)

    def failed(self, speaker: Speaker | None, problem: Exception) -> None:
        self.problems[speaker.name if speaker else ""] = problem

    def message_id(self, agent_name: str, text: str) -> str | None:
        """The id of the chunks that were sent of `text`, None if the agent's last text was another one."""
        message_id, written = self._texts.get(agent_name, (None, None))
        return message_id if written == text else None


class Options(TypedDict, total=False):
    """The options of a model call, by AutoGen's names. The client has the defaults."""

    tools: Sequence[Tool | ToolSchema]
    tool_choice: Tool | Literal["auto", "required", "none"]
    json_output: bool | type[BaseModel] | None
    extra_create_args: Mapping[str, Any]
    cancellation_token: CancellationToken | None


class Tap(ChatCompletionClient):
    """A model client for one run, around the client that all runs share. Closing it has no effect."""

    def __init__(self, client: ChatCompletionClient, buffer: ChunkBuffer, model_calls: ModelCalls) -> None:
        self._client, self._buffer, self._model_calls = client, buffer, model_calls

    async def create(self, messages: Sequence[LLMMessage], **options: Unpack[Options]) -> CreateResult:
        return await self._forward(self._client.create_stream(messages, **options))

    async def create_stream(
        self, messages: Sequence[LLMMessage], **options: Unpack[Options]
    ) -> AsyncGenerator[str | CreateResult, None]:
        stream = self._client.create_stream(messages, **options)
        speaker = speaking.get()
        if speaker is None or speaker.needs_whole_only:
            yield await self._forward(stream)
            return
        # A custom agent may need the pieces. It gets them, and its own events have them.
        try:
            async with aclosing(stream):
                async for piece in stream:
                    if isinstance(piece, CreateResult):
                        self._model_calls.answered(speaker, "", _with_valid_arguments(piece))
                    yield piece
        except Exception as problem:
            self._model_calls.failed(speaker, problem)
            raise

    async def _forward(self, stream: AsyncGenerator[str | CreateResult, None]) -> CreateResult:
        """Send the pieces to viewers as they come, and return the whole."""
        speaker = speaking.get()
        text = _Text(self._buffer, speaker.name) if speaker else None
        whole: CreateResult | None = None
        try:
            async with aclosing(stream):
                async for piece in stream:
                    if isinstance(piece, CreateResult):
                        whole = _with_valid_arguments(piece)
                    elif text is not None:
                        await text.add(piece)
        except Exception as problem:
            self._model_calls.failed(speaker, problem)
            raise
        finally:
            if text is not None:
                await text.end()
        if whole is None:
            raise failures.cut_short()
        if text is not None and text.thought and isinstance(whole.content, str):
            whole.thought = text.thought  # AutoGen's strips letters of "<think>" off both ends
        self._model_calls.answered(speaker, text.message_id if text else "", whole)
        return whole

    async def close(self) -> None:
        """Do nothing: the server owns the client and closes it."""

    def actual_usage(self) -> RequestUsage:
        return RequestUsage(self._model_calls.usage.prompt_tokens, self._model_calls.usage.completion_tokens)

    def total_usage(self) -> RequestUsage:
        return self.actual_usage()

    def count_tokens(self, messages: Sequence[LLMMessage], *, tools: Sequence[Tool | ToolSchema] = ()) -> int:
        return self._client.count_tokens(messages, tools=tools)

    def remaining_tokens(self, messages: Sequence[LLMMessage], *, tools: Sequence[Tool | ToolSchema] = ()) -> int:
        return self._client.remaining_tokens(messages, tools=tools)

    @property
    def capabilities(self) -> ModelCapabilities:  # pyright: ignore[reportDeprecated]
        return self._client.capabilities

    @property
    def model_info(self) -> ModelInfo:
        return self._client.model_info


class _Text:
    """The text of one model call. Its thoughts before the answer are another text, with their own id."""

    def __init__(self, buffer: ChunkBuffer, agent_name: str) -> None:
        self._buffer, self._agent_name = buffer, agent_name
        self.message_id = str(uuid.uuid4())
        self._thought_id = str(uuid.uuid4())
        self._thoughts: list[str] = []
        self._place: Literal["start", "thought", "text"] = "start"

    @property
    def thought(self) -> str:
        return "".join(self._thoughts)

    async def add(self, piece: str) -> None:
        match self._place:
            case "text":
                await self._buffer.write(self._agent_name, self.message_id, piece)
            case "start":
                self._place = "thought" if piece.startswith(_THINK) else "text"
                await self.add(piece.removeprefix(_THINK))
            case "thought":
                head, done, tail = piece.partition(_THOUGHT)
                if head:
                    self._thoughts.append(head)
                    await self._buffer.write(self._agent_name, self._thought_id, head)
                if done:
                    self._place = "text"
                    await self._buffer.end(self._thought_id)
                if tail:
                    await self.add(tail)

    async def end(self) -> None:
        await self._buffer.end(self._thought_id)
        await self._buffer.end(self.message_id)


# AutoGen's clients mark a reasoning model's thoughts with these among the pieces of a stream.
_THINK, _THOUGHT = "<think>", "</think>"


def _with_valid_arguments(result: CreateResult) -> CreateResult:
    """Make the arguments of the result's tool calls a JSON object, or no JSON at all.

    Some servers send nothing for a tool without parameters. Other JSON that is no object hangs the whole team in a
    handoff; arguments that aren't JSON return to the model as the tool's error, and it can try again.
    """
    for call in result.content if isinstance(result.content, list) else []:
        call.arguments = _object_or_error(call)
    return result


def _object_or_error(call: FunctionCall) -> str:
    try:
        arguments = json.loads(call.arguments or "null")
    except ValueError:
        return call.arguments
    if arguments is None:
        return "{}"
    return call.arguments if isinstance(arguments, dict) else f"not an object: {call.arguments}"
