"""A model client between a team and the real one: it sends the model's text directly to the run's viewers.

Streaming through a team costs AutoGen 190 to 390 µs an event, for queues, tasks and several JSON dumps. So the tap
sends on the pieces, and gives the team whole messages only. It also counts the run's usage, and records a model's
errors before AutoGen turns them into text.
"""

import json
import uuid
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, Unpack

from autogen_agentchat.messages import BaseAgentEvent, BaseChatMessage
from autogen_core import CancellationToken, FunctionCall
from autogen_core.models import (
    ChatCompletionClient,
    CreateResult,
    LLMMessage,
    RequestUsage,
)
from autogen_core.tools import Tool, ToolSchema
from pydantic import BaseModel

from askstream.agents import calls, failures, model_answer
from askstream.agents.calls import ModelCaller
from askstream.agents.chunk_buffer import ChunkBuffer
from askstream.agents.thoughts import Part, ThoughtSplitter
from askstream.agents.wrapped_client import WrappedClient
from askstream.server.events import AgentThinking, Draft, Usage
from askstream.server.events.unicode import mended


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
        # By the id of the usage object, which AutoGen passes on from the model's result to the agent's message. The
        # object is kept, so that no other one gets its id.
        self._results: dict[int, tuple[RequestUsage, str]] = {}
        self.usage = spent or Usage()
        self.callers: set[str] = set()
        self.problems: dict[str, Exception] = {}  # of agents whose last call failed
        self.agent_problems: dict[str, Exception] = {}  # errors that agents' own code raised in their turns
        self._texts: dict[str, tuple[str, str]] = {}
        self._thoughts: dict[str, tuple[str, str]] = {}

    def answered(self, speaker: Speaker | None, message_id: str, result: CreateResult) -> None:
        self.usage += model_answer.usage(result)
        name = speaker.name if speaker else ""
        self.callers.add(name)
        self.problems.pop(name, None)
        self._results[id(result.usage)] = (result.usage, message_id)
        if isinstance(result.content, str):
            self._texts[name] = (message_id, result.content)

    def failed(self, speaker: Speaker | None, problem: Exception) -> None:
        self.problems[speaker.name if speaker else ""] = problem

    def has_counted(self, usage: RequestUsage, agent_name: str) -> bool:
        """Whether `usage`, which a message of that agent has, is a part of the run's usage already."""
        return id(usage) in self._results or agent_name in self.callers

    def message_id(self, message: BaseAgentEvent | BaseChatMessage, text: str) -> str | None:
        """The id of the chunks that were sent of the message's `text`, None if there were none.

        An agent may put a note before what its model wrote.
        """
        if message.models_usage is not None and id(message.models_usage) in self._results:
            return self._results[id(message.models_usage)][1] or None
        message_id, written = self._texts.get(message.source, ("", ""))
        return message_id if written and text.endswith(written) else None

    def thought(self, agent_name: str, message_id: str, text: str) -> None:
        """Record the text of a thought's chunks."""
        self._thoughts[agent_name] = (message_id, text)

    def thought_id(self, message: BaseAgentEvent | BaseChatMessage, text: str) -> str | None:
        """The id of the chunks that were sent of the message's thought `text`."""
        message_id, written = self._thoughts.get(message.source, (None, None))
        return message_id if written == text else None


class Options(TypedDict, total=False):
    """The options of a model call, by AutoGen's names. The client has the defaults."""

    tools: Sequence[Tool | ToolSchema]
    tool_choice: Tool | Literal["auto", "required", "none"]
    json_output: bool | type[BaseModel] | None
    extra_create_args: Mapping[str, Any]
    cancellation_token: CancellationToken | None


class Tap(WrappedClient):
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
        super().__init__(client)
        self._buffer, self._model_calls = buffer, model_calls
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
            self._model_calls.answered(speaker, "", _mended(piece))
        return piece

    async def _forward(self, messages: Sequence[LLMMessage], options: Options) -> CreateResult:
        """Send the pieces to viewers as they come, and return the whole."""
        speaker = speaking.get()
        text = _Text(self._buffer, speaker.name) if speaker else None
        split = ThoughtSplitter()
        try:
            with self._watched():
                whole = await self._read(messages, options, speaker, split, text)
            whole = _mended(_without_thoughts(whole, split))
            if text is not None and speaker is not None and speaker.needs_whole_only:
                await text.finish(whole, model_answer.mark(whole, options))
        except Exception as problem:
            self._model_calls.failed(speaker, problem)
            raise
        finally:
            if text is not None:
                await text.end()
        if text is not None:
            await self._think(text, whole, mended(split.thought))
        self._model_calls.answered(speaker, text.message_id if text else "", whole)
        return whole

    async def _read(
        self,
        messages: Sequence[LLMMessage],
        options: Options,
        speaker: Speaker | None,
        split: ThoughtSplitter,
        text: "_Text | None",
    ) -> CreateResult:
        piece, stream = await self._begin(messages, options, speaker)
        async with aclosing(stream):
            while isinstance(piece, str):
                await _add(text, split.add(piece))
                piece = await anext(stream, None)
        if piece is None:
            raise failures.cut_short()
        await _add(text, split.end())
        return piece

    async def _think(self, text: "_Text", whole: CreateResult, thought: str) -> None:
        """Record the thought's chunks. AutoGen drops a thought before tool calls: viewers get it from here."""
        if isinstance(whole.content, str):
            self._model_calls.thought(text.agent_name, text.thought_id, thought)
            return
        self._model_calls.thought(text.agent_name, text.message_id, whole.thought or "")
        if thought:
            await self._buffer.emit(Draft(text.agent_name, thought, AgentThinking(message_id=text.thought_id)))

    async def close(self) -> None:
        """Do nothing: the server owns the client and closes it."""

    def actual_usage(self) -> RequestUsage:
        usage = self._model_calls.usage  # AutoGen knows no unknown usage
        return RequestUsage(usage.prompt_tokens or 0, usage.completion_tokens or 0)


async def _add(text: "_Text | None", parts: Iterable[tuple[Part, str]]) -> None:
    for part in parts:  # the splitter keeps what nobody reads, too
        if text is not None:
            await text.add(*part)


class _Text:
    """Sends the text of one model call. Its thoughts before the answer are another text, with their own id."""

    def __init__(self, buffer: ChunkBuffer, agent_name: str) -> None:
        self._buffer, self.agent_name = buffer, agent_name
        self._ids: dict[Part, str] = {"thought": str(uuid.uuid4()), "text": str(uuid.uuid4())}
        self._last: Part | None = None

    @property
    def message_id(self) -> str:
        return self._ids["text"]

    @property
    def thought_id(self) -> str:
        return self._ids["thought"]

    async def add(self, part: Part, piece: str) -> None:
        if self._last is None:
            await self._buffer.order.caught_up()
        elif part != self._last:
            await self._buffer.end(self._ids[self._last])
        if part == "thought" and self._last == "text":  # the text so far has proved to be a thought
            self._ids, self._last = {"thought": self._ids["text"], "text": str(uuid.uuid4())}, None
            return
        self._last = part
        await self._buffer.write(self.agent_name, self._ids[part], piece, thought=part == "thought")

    async def finish(self, whole: CreateResult, mark: str) -> None:
        """Add `mark` to the whole, and send it."""
        if mark and isinstance(whole.content, str):
            whole.content += mark
            await self._buffer.write(self.agent_name, self.message_id, mark)

    async def end(self) -> None:
        if self._last is not None:
            await self._buffer.end(self._ids[self._last])


def _without_thoughts(result: CreateResult, split: ThoughtSplitter) -> CreateResult:
    """Take the thoughts out of the result's text. AutoGen strips letters of "<think>" off both ends of a thought."""
    if not split.thought:
        return result
    if isinstance(result.content, str):
        result.content, result.thought = split.text, split.thought
    else:
        result.thought = split.text or None
    return result


def _mended(result: CreateResult) -> CreateResult:
    """Make the result's texts valid Unicode: they go into the team's state, and back to the model."""
    if isinstance(result.content, str):
        result.content = mended(result.content)
    else:
        for call in result.content:
            call.name, call.arguments = mended(call.name), mended(call.arguments)
    result.thought = mended(result.thought) if result.thought else result.thought
    return _with_valid_arguments(result)


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
