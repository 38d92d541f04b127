"""The real model clients, made to notice what AutoGen's let pass: an answer that broke off, and a refusal.

A stream that ends cleanly but early is silent success to AutoGen, and a refusal an empty answer. Both can be told
only from the chunks as they come, so `_create_stream_chunks`, which yields them, is watched here. It is AutoGen's
own method and no promise of theirs: the tests of this file fail should an upgrade move it.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from autogen_ext.models.openai import AzureOpenAIChatCompletionClient, OpenAIChatCompletionClient
from openai import APIConnectionError, APITimeoutError
from openai.types.chat import ChatCompletionChunk

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


class OpenAIClient(OpenAIChatCompletionClient):
    """For OpenAI, and for whoever speaks its API."""

    def _create_stream_chunks(self, *args: Any, **kwargs: Any) -> AsyncGenerator[ChatCompletionChunk]:
        return _watched(super()._create_stream_chunks(*args, **kwargs))

    def _create_stream_chunks_beta_client(self, *args: Any, **kwargs: Any) -> AsyncGenerator[ChatCompletionChunk]:
        return _watched(super()._create_stream_chunks_beta_client(*args, **kwargs))


class AzureClient(AzureOpenAIChatCompletionClient):
    """For models deployed at Azure."""

    def _create_stream_chunks(self, *args: Any, **kwargs: Any) -> AsyncGenerator[ChatCompletionChunk]:
        return _watched(super()._create_stream_chunks(*args, **kwargs))

    def _create_stream_chunks_beta_client(self, *args: Any, **kwargs: Any) -> AsyncGenerator[ChatCompletionChunk]:
        return _watched(super()._create_stream_chunks_beta_client(*args, **kwargs))
