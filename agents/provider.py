"""AutoGen's model clients, with three more errors: for an answer that broke off, for a refusal, and for silence.

AutoGen takes a stream that ends cleanly but early for a whole answer, and a refusal for an empty one. Only the chunks
show the difference, so two private methods that yield chunks are overridden. Tests fail if an upgrade moves them.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, cast

import orjson
from autogen_core import CancellationToken
from autogen_ext.models.openai import (
    AzureOpenAIChatCompletionClient,
    BaseOpenAIChatCompletionClient,
    OpenAIChatCompletionClient,
)
from openai import APIConnectionError, APITimeoutError, AsyncOpenAI, AsyncStream
from openai._streaming import ServerSentEvent
from openai.lib._parsing import type_to_response_format_param
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel, ValidationError

from askstream.agents import failures
from askstream.agents.quirks import AnswerRepair
from askstream.agents.silence import LastHeard, SilenceLimits, SilenceWatch
from askstream.server.events.errors import RunFailed
from askstream.server.events.unicode import mended_json


class _StreamCheck:
    """Checks, from the chunks of one answer, that it is whole."""

    def __init__(self) -> None:
        self.done = False  # the server has sent its mark of the end
        self._chunks = 0
        self._finish: str | None = None
        self._refused = False

    @property
    def begun(self) -> bool:
        return self._chunks > 0

    def add(self, chunk: ChatCompletionChunk) -> None:
        self._chunks += 1
        for choice in chunk.choices[:1]:
            self._finish = choice.finish_reason or self._finish
            self._refused = self._refused or bool(choice.delta.refusal)

    def check(self) -> None:
        """Raise RunFailed unless the answer is whole. Call it after the last chunk."""
        if not self._chunks:
            raise RunFailed("model_bad_response", failures.NO_STREAM)
        if self._refused:
            raise RunFailed("model_refused", failures.REFUSED)
        match self._finish:
            case None if not self.done:  # some servers send the mark and no reason
                raise failures.cut_short()
            case "content_filter":
                raise RunFailed("model_refused", failures.FILTERED)
            case _:  # "length" too: the text is kept, see model_answer.py
                return


async def _checked(
    chunks: AsyncGenerator[ChatCompletionChunk], check: _StreamCheck, watch: SilenceWatch
) -> AsyncGenerator[ChatCompletionChunk]:
    try:
        async with aclosing(chunks):
            with watch:
                async for chunk in chunks:
                    watch.heard()
                    check.add(chunk)
                    yield chunk
                    watch.waits()
    except APITimeoutError:
        raise
    except APIConnectionError as problem:
        if check.begun:  # the connection died in the middle of the answer
            raise failures.cut_short() from problem
        raise
    check.check()


def _chunk(value: object, repair: AnswerRepair) -> ChatCompletionChunk:
    """Parse one item of a stream. Raises RunFailed if it is no JSON object.

    The library's own `construct` costs twenty times as much and accepts everything: it is only for servers that
    deviate from the API.
    """
    if not isinstance(value, dict):
        raise RunFailed("model_bad_response", failures.NO_STREAM)
    return _parsed(repair.chunk(cast("dict[str, Any]", value)))


def _parsed(value: dict[str, Any]) -> ChatCompletionChunk:
    try:
        return ChatCompletionChunk.model_validate(value)
    except ValidationError:
        return ChatCompletionChunk.construct(**value)


class _MarkedStream(AsyncStream[object]):
    """A stream of JSON values. `done`: the server's mark of the end has come."""

    done = False

    async def _iter_events(self) -> AsyncIterator[ServerSentEvent]:
        async for event in super()._iter_events():
            self.done = self.done or event.data.startswith("[DONE]")
            yield event


def _sendable(conversation: dict[str, Any]) -> dict[str, Any]:
    """The conversation with all texts mended: a lone surrogate from a tool or an agent can't be sent."""
    try:
        orjson.dumps(conversation)
    except TypeError:
        return mended_json(conversation)
    return conversation


async def _open_stream(client: AsyncOpenAI, conversation: dict[str, Any], options: dict[str, Any]) -> _MarkedStream:
    """Send a request and return the answer's stream of JSON values.

    The conversation and its tools go into the body directly. As arguments, the library would search them for keys to
    rename, of which there are none, at more cost than all the rest.
    """
    body: dict[str, Any] = {**_sendable(conversation), **(options.get("extra_body") or {})}
    arguments: dict[str, Any] = {**options, "messages": (), "extra_body": body}
    answer: Any = await client.chat.completions.with_raw_response.create(stream=True, **arguments)
    return answer.parse(to=_MarkedStream)


async def _await_stream(opening: "asyncio.Future[_MarkedStream]") -> _MarkedStream:
    """Return the stream of `opening`. A cancel just as it opens closes it."""
    try:
        return await opening
    except BaseException:
        opening.cancel()
        if opening.done() and not opening.cancelled() and opening.exception() is None:
            await opening.result().close()
        raise


async def _chunks(
    client: AsyncOpenAI,
    conversation: dict[str, Any],
    options: dict[str, Any],
    token: CancellationToken | None,
    check: _StreamCheck,
) -> AsyncGenerator[ChatCompletionChunk]:
    """One answer's chunks. Its connection is released as soon as reading stops.

    AutoGen's own method leaves an unfinished stream to the garbage collector, so connections to the provider leak; and
    it makes a task for each chunk.
    """
    opening = asyncio.ensure_future(_open_stream(client, conversation, options))
    if token is not None:
        token.link_future(opening)
    repair = AnswerRepair()
    async with await _await_stream(opening) as stream:
        async for value in stream:
            if token is not None and token.is_cancelled():
                raise asyncio.CancelledError
            yield _chunk(value, repair)
        check.done = stream.done
    for added in repair.end():
        yield _parsed(added)


class _Streams(BaseOpenAIChatCompletionClient):
    """AutoGen's two streaming methods, for free text and for structured output; shared by both clients.

    `silence` limits the silence of each call, for its first token and later.
    """

    limits_silence = True

    def __init__(self, *, silence: SilenceLimits | None = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._silence, self._heard = silence or SilenceLimits(), LastHeard()

    def _create_stream_chunks(
        self,
        tool_params: list[ChatCompletionToolParam],
        oai_messages: list[ChatCompletionMessageParam],
        create_args: dict[str, Any],
        cancellation_token: CancellationToken | None,
    ) -> AsyncGenerator[ChatCompletionChunk, None]:
        conversation: dict[str, Any] = {"messages": oai_messages}
        if tool_params:
            conversation["tools"] = tool_params
        check = _StreamCheck()
        chunks = _chunks(self._client, conversation, create_args, cancellation_token, check)
        return _checked(chunks, check, SilenceWatch(self._silence, self._heard, oai_messages))

    def _create_stream_chunks_beta_client(
        self,
        tool_params: list[ChatCompletionToolParam],
        oai_messages: list[ChatCompletionMessageParam],
        create_args_no_response_format: dict[str, Any],
        response_format: type[BaseModel] | None,
        cancellation_token: CancellationToken | None,
    ) -> AsyncGenerator[ChatCompletionChunk, None]:
        """As above. AutoGen parses the whole answer by itself, so the library need not parse each piece as well."""
        options = dict(create_args_no_response_format)
        if response_format is not None:
            options["response_format"] = type_to_response_format_param(response_format)
        return self._create_stream_chunks(tool_params, oai_messages, options, cancellation_token)


class OpenAIClient(_Streams, OpenAIChatCompletionClient):
    """For OpenAI, and for servers with the same API."""


class AzureClient(_Streams, AzureOpenAIChatCompletionClient):
    """For models deployed at Azure."""
