"""The real model clients, made to notice what AutoGen's let pass: an answer that broke off, and a refusal.

A stream that ends cleanly but early is silent success to AutoGen, and a refusal an empty answer. Both can be told
only from the chunks as they come, so `_create_stream_chunks`, which yields them, is watched here. It is AutoGen's
own method and no promise of theirs: the tests of this file fail should an upgrade move it.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from autogen_core import CancellationToken
from autogen_ext.models.openai import (
    AzureOpenAIChatCompletionClient,
    BaseOpenAIChatCompletionClient,
    OpenAIChatCompletionClient,
)
from openai import APIConnectionError, APITimeoutError, AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam, ChatCompletionToolParam

from agents import failures
from server.events.errors import RunFailed


class _Watch:
    """Follows the chunks of one answer, and says at its end whether it is whole."""

    def __init__(self) -> None:
        self._chunks = 0
        self._finish: str | None = None
        self._refused = False

    @property
    def begun(self) -> bool:
        return self._chunks > 0

    def see(self, chunk: ChatCompletionChunk) -> None:
        self._chunks += 1
        for choice in chunk.choices[:1]:
            self._finish = choice.finish_reason or self._finish
            self._refused = self._refused or bool(choice.delta.refusal)

    def check(self) -> None:
        """Raises RunFailed unless the answer came to its end."""
        if not self._chunks:
            raise RunFailed("model_bad_response", failures.NO_STREAM)
        if self._refused:
            raise RunFailed("model_refused", failures.REFUSED)
        match self._finish:
            case None:
                raise failures.cut_short()
            case "content_filter":
                raise RunFailed("model_refused", failures.FILTERED)
            case "length":
                raise RunFailed("model_cut_short", failures.AT_LIMIT)
            case _:
                return


async def _watched(chunks: AsyncGenerator[ChatCompletionChunk]) -> AsyncGenerator[ChatCompletionChunk]:
    watch = _Watch()
    try:
        async with aclosing(chunks):
            async for chunk in chunks:
                watch.see(chunk)
                yield chunk
    except APITimeoutError:
        raise
    except APIConnectionError as problem:
        if watch.begun:  # the connection died in the middle of the answer
            raise failures.cut_short() from problem
        raise
    watch.check()


async def _opened(request: "asyncio.Future[AsyncStream[ChatCompletionChunk]]") -> AsyncStream[ChatCompletionChunk]:
    """The stream that answers `request`. A cancel that comes in the very moment in which it opens leaves it closed."""
    try:
        return await request
    except BaseException:
        request.cancel()
        if request.done() and not request.cancelled() and request.exception() is None:
            await request.result().close()
        raise


async def _chunks(
    client: AsyncOpenAI, arguments: dict[str, Any], token: CancellationToken | None
) -> AsyncGenerator[ChatCompletionChunk]:
    """One answer's chunks. However it ends, its connection is let go at once.

    AutoGen's own leaves a stream that it stops reading to the garbage collector, which is how connections to a
    provider leak; and it makes a task of each chunk.
    """
    request = asyncio.ensure_future(client.chat.completions.create(stream=True, **arguments))
    if token is not None:
        token.link_future(request)
    async with await _opened(request) as stream:
        async for chunk in stream:
            if token is not None and token.is_cancelled():
                raise asyncio.CancelledError
            yield chunk


class _Streams(BaseOpenAIChatCompletionClient):
    """What both kinds of client do: AutoGen's two ways to stream, for free text and for structured output."""

    def _create_stream_chunks(
        self,
        tool_params: list[ChatCompletionToolParam],
        oai_messages: list[ChatCompletionMessageParam],
        create_args: dict[str, Any],
        cancellation_token: CancellationToken | None,
    ) -> AsyncGenerator[ChatCompletionChunk, None]:
        tools = {"tools": tool_params} if tool_params else {}
        return _watched(_chunks(self._client, {"messages": oai_messages, **tools, **create_args}, cancellation_token))

    def _create_stream_chunks_beta_client(
        self, *args: Any, **options: Any
    ) -> AsyncGenerator[ChatCompletionChunk, None]:
        return _watched(super()._create_stream_chunks_beta_client(*args, **options))


class OpenAIClient(_Streams, OpenAIChatCompletionClient):
    """For OpenAI, and for whoever speaks its API."""


class AzureClient(_Streams, AzureOpenAIChatCompletionClient):
    """For models deployed at Azure."""
