"""A model client that an agent brought along: it keeps its ways, and gets the run's rules for models that stumble.

It streams only where its agent does, since a stream's usage may not be counted.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Unpack

from autogen_agentchat.base import Team
from autogen_core.models import (
    ChatCompletionClient,
    CreateResult,
    LLMMessage,
    RequestUsage,
)

from askstream.agents import calls, model_answer, nesting
from askstream.agents.calls import ModelCaller
from askstream.agents.tap import ModelCalls, Options, Tap, speaking
from askstream.agents.wrapped_client import WrappedClient


def wrap(team: Team, caller: ModelCaller, model_calls: ModelCalls) -> None:
    """Give the clients that agents and inner teams brought along the run's rules. They must be fresh."""
    for part in (*nesting.agents(team), *nesting.teams(team)):
        for name, value in list(vars(part).items()):
            if isinstance(value, ChatCompletionClient) and not isinstance(value, Tap | OwnClient):
                setattr(part, name, OwnClient(value, caller, model_calls))


class OwnClient(WrappedClient):
    """Around an agent's own `client`, for one run. Other attributes are those of `client`."""

    def __init__(self, client: ChatCompletionClient, caller: ModelCaller, model_calls: ModelCalls) -> None:
        super().__init__(client)
        self._caller, self._model_calls = caller, model_calls

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def create(self, messages: Sequence[LLMMessage], **options: Unpack[Options]) -> CreateResult:
        speaker = speaking.get()
        try:
            await calls.prepare(options.get("json_output"))
            result = await self._caller.call(
                lambda fitting: self._client.create(fitting, **options),
                messages,
                agent_name=speaker.name if speaker else None,
                token=options.get("cancellation_token"),
            )
            self._finish(result, options)
            self._model_calls.answered(speaker, "", result)
        except Exception as problem:
            self._model_calls.failed(speaker, problem)
            raise
        return result

    async def create_stream(
        self, messages: Sequence[LLMMessage], **options: Unpack[Options]
    ) -> AsyncGenerator[str | CreateResult, None]:
        speaker = speaking.get()
        try:
            await calls.prepare(options.get("json_output"))
            piece, stream = await self._caller.stream(
                lambda fitting: self._client.create_stream(fitting, **options),
                messages,
                agent_name=speaker.name if speaker else None,
                token=options.get("cancellation_token"),
            )
            async with aclosing(stream):
                while piece is not None:
                    if isinstance(piece, CreateResult):
                        if mark := self._finish(piece, options):
                            yield mark
                        self._model_calls.answered(speaker, "", piece)
                    yield piece
                    piece = await anext(stream, None)
        except Exception as problem:
            self._model_calls.failed(speaker, problem)
            raise

    def _finish(self, result: CreateResult, options: Options) -> str:
        """Add the mark of a cut answer to `result`. Return it."""
        speaker = speaking.get()
        if speaker is None or not speaker.needs_whole_only:
            return ""
        mark = model_answer.mark(result, options)
        if mark and isinstance(result.content, str):
            result.content += mark
        return mark

    async def close(self) -> None:
        await self._client.close()

    def actual_usage(self) -> RequestUsage:
        return self._client.actual_usage()

    def total_usage(self) -> RequestUsage:
        return self._client.total_usage()
