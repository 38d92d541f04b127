"""A model client between a team and the real one: it sends the model's text directly to the run's viewers.

Streaming through a team costs AutoGen 190 to 390 µs an event, for queues, tasks and several JSON dumps. So the tap
sends on the pieces, and gives the team whole messages only. It also counts the run's usage, and records a model's
errors before AutoGen turns them into text.
"""

import json
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
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

from askstream.agents import answers, calls, failures
from askstream.agents.calls import ModelCaller
from askstream.agents.chunk_buffer import ChunkBuffer
from askstream.server.events import AgentThinking, Draft, Usage


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
        self.agent_problems: dict[str, Exception] = {}  # errors that agents' own code raised in their turns
        self._texts: dict[str, tuple[str, str]] = {}
        self._thoughts: dict[str, tuple[str, str]] = {}

    def answered(self, speaker: Speaker | None, message_id: str, result: CreateResult) -> None:
        self.usage += answers.usage(result)
        name = speaker.name if speaker else ""
        self.callers.add(name)
        self.succeeded(speaker)
        if isinstance(result.content, str):
            self._texts[name] = (message_id, result.content)

    def succeeded(self, speaker: Speaker | None) -> None:
        self.problems.pop(speaker.name if speaker else "", None)

    def failed(self, speaker: Speaker | None, problem: Exception) -> None:
        self.problems[speaker.name if speaker else ""] = problem

    def message_id(self, agent_name: str, text: str) -> str | None:
        """The id of the chunks that were sent of `text`, None if the agent's last text was another one.

        An agent may put a note before what its model wrote.
        """
        message_id, written = self._texts.get(agent_name, (None, None))
        return message_id if written is not None and text.endswith(written) else None

    def thought(self, agent_name: str, message_id: str, text: str) -> None:
        """Record the text of a thought's chunks."""
        self._thoughts[agent_name] = (message_id, text)

    def thought_id(self, agent_name: str, text: str) -> str | None:
        """The id of the chunks that were sent of the thought `text`."""
        message_id, written = self._thoughts.get(agent_name, (None, None))
        return message_id if written == text else None


class Options(TypedDict, total=False):
    """The options of a model call, by AutoGen's names. The client has the defaults."""

    tools: Sequence[Tool | ToolSchema]
    tool_choice: Tool | Literal["auto", "required", "none"]
    json_output: bool | type[BaseModel] | None
    extra_create_args: Mapping[str, Any]
    cancellation_token: CancellationToken | None


class Tap(ChatCompletionClient):
    """A model client for one run, around the client that all runs share. Closing it has no effect.

    `watched` is entered during each call if the client itself ends a call that is silent for too long.
    """

    def __init__(
        self,
        client: ChatCompletionClient,
        buffer: ChunkBuffer,
        model_calls: ModelCalls,
        caller: ModelCaller | None = None,
        watched: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._client, self._buffer, self._model_calls = client, buffer, model_calls
        self._caller, self._watched = caller or ModelCaller(buffer), watched

    async def create(self, messages: Sequence[LLMMessage], **options: Unpack[Options]) -> CreateResult:
        return await self._forward(messages, options)

    async def create_stream(
        self, messages: Sequence[LLMMessage], **options: Unpack[Options]
    ) -> AsyncGenerator[str | CreateResult, None]:
        speaker = speaking.get()
        if speaker is None or speaker.needs_whole_only:
            yield await self._forward(messages, options)
            return
        # A custom agent may need the pieces. It gets them, and its own events have them.
        try:
            with self._watched():
                piece, stream = await self._begin(messages, options, speaker)
            async with aclosing(stream):
                yield self._passed_on(piece, speaker)
                async for piece in stream:
                    yield self._passed_on(piece, speaker)
        except Exception as problem:
            self._model_calls.failed(speaker, problem)
            raise

    async def _begin(
        self, messages: Sequence[LLMMessage], options: Options, speaker: Speaker | None
    ) -> tuple[str | CreateResult, AsyncGenerator[str | CreateResult, None]]:
        await calls.prepare(options.get("json_output"))
        return await self._caller.stream(
            lambda fitting: self._client.create_stream(fitting, **options),
            messages,
            agent_name=speaker.name if speaker else None,
            token=options.get("cancellation_token"),
        )

    def _passed_on(self, piece: str | CreateResult, speaker: Speaker) -> str | CreateResult:
        if isinstance(piece, CreateResult):
            self._model_calls.answered(speaker, "", _with_valid_arguments(piece))
        return piece

    async def _forward(self, messages: Sequence[LLMMessage], options: Options) -> CreateResult:
        """Send the pieces to viewers as they come, and return the whole."""
        speaker = speaking.get()
        text = _Text(self._buffer, speaker.name) if speaker else None
        try:
            with self._watched():
                whole = _with_valid_arguments(await self._read(messages, options, speaker, text))
            if text is not None and speaker is not None and speaker.needs_whole_only:
                await text.finish(whole, answers.mark(whole, options))
        except Exception as problem:
            self._model_calls.failed(speaker, problem)
            raise
        finally:
            if text is not None:
                await text.end()
        if text is not None:
            await self._think(text, whole)
        self._model_calls.answered(speaker, text.message_id if text else "", whole)
        return whole

    async def _read(
        self, messages: Sequence[LLMMessage], options: Options, speaker: Speaker | None, text: "_Text | None"
    ) -> CreateResult:
        piece, stream = await self._begin(messages, options, speaker)
        async with aclosing(stream):
            if isinstance(piece, str):
                if text is not None:
                    await text.add(piece)
                async for piece in stream:
                    if text is not None and isinstance(piece, str):
                        await text.add(piece)
        if isinstance(piece, str):
            raise failures.cut_short()
        return piece

    async def _think(self, text: "_Text", whole: CreateResult) -> None:
        """Give the whole its thought. AutoGen drops one before tool calls: viewers get it from here."""
        if isinstance(whole.content, str):
            whole.thought = text.thought or whole.thought  # AutoGen's strips letters of "<think>" off both ends
            self._model_calls.thought(text.agent_name, text.thought_id, text.thought)
            return
        self._model_calls.thought(text.agent_name, text.message_id, whole.thought or "")
        if text.thought:
            body = AgentThinking(message_id=text.thought_id)
            await self._buffer.emit(Draft(text.agent_name, text.thought, body))

    async def close(self) -> None:
        """Do nothing: the server owns the client and closes it."""

    def actual_usage(self) -> RequestUsage:
        usage = self._model_calls.usage  # AutoGen knows no unknown usage
        return RequestUsage(usage.prompt_tokens or 0, usage.completion_tokens or 0)

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
        self._buffer, self.agent_name = buffer, agent_name
        self.message_id = str(uuid.uuid4())
        self.thought_id = str(uuid.uuid4())
        self._thoughts: list[str] = []
        self._place: Literal["start", "thought", "text"] = "start"

    @property
    def thought(self) -> str:
        return "".join(self._thoughts)

    async def add(self, piece: str) -> None:
        match self._place:
            case "text":
                await self._buffer.write(self.agent_name, self.message_id, piece)
            case "start":
                self._place = "thought" if piece.startswith(_THINK) else "text"
                await self.add(piece.removeprefix(_THINK))
            case "thought":
                head, done, tail = piece.partition(_THOUGHT)
                if head:
                    self._thoughts.append(head)
                    await self._buffer.write(self.agent_name, self.thought_id, head, thought=True)
                if done:
                    self._place = "text"
                    await self._buffer.end(self.thought_id)
                if tail:
                    await self.add(tail)

    async def finish(self, whole: CreateResult, mark: str) -> None:
        """Add `mark` to the whole, and send it."""
        if mark and isinstance(whole.content, str):
            whole.content += mark
            await self._buffer.write(self.agent_name, self.message_id, mark)

    async def end(self) -> None:
        await self._buffer.end(self.thought_id)
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
