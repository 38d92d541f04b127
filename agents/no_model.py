"""The model client of a server without a model: each call fails with `model_missing`."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any, NoReturn

from autogen_core.models import (
    ChatCompletionClient,
    CreateResult,
    LLMMessage,
    ModelCapabilities,  # pyright: ignore[reportDeprecated]  # the abstract property that must be there names it
    ModelFamily,
    ModelInfo,
    RequestUsage,
)
from autogen_core.tools import Tool, ToolSchema

from askstream.agents.models import MODEL_MISSING
from askstream.server.events.errors import RunFailed

# Agents check them when they are made, before any call.
_ABLE_TO_ALL = ModelInfo(
    vision=True,
    function_calling=True,
    json_output=True,
    structured_output=True,
    family=ModelFamily.UNKNOWN,
    multiple_system_messages=True,
)


class NoModel(ChatCompletionClient):
    async def create(self, messages: Sequence[LLMMessage], **_options: Any) -> CreateResult:
        _fail()

    async def create_stream(
        self, messages: Sequence[LLMMessage], **_options: Any
    ) -> AsyncGenerator[str | CreateResult, None]:
        _fail()
        yield ""  # makes it a generator

    async def close(self) -> None:
        """Do nothing: it holds nothing."""

    def actual_usage(self) -> RequestUsage:
        return RequestUsage(0, 0)

    def total_usage(self) -> RequestUsage:
        return RequestUsage(0, 0)

    def count_tokens(self, messages: Sequence[LLMMessage], *, tools: Sequence[Tool | ToolSchema] = ()) -> int:
        return 0

    def remaining_tokens(self, messages: Sequence[LLMMessage], *, tools: Sequence[Tool | ToolSchema] = ()) -> int:
        return 1

    @property
    def capabilities(self) -> ModelCapabilities:  # pyright: ignore[reportDeprecated]
        return self.model_info

    @property
    def model_info(self) -> ModelInfo:
        return _ABLE_TO_ALL


def _fail() -> NoReturn:
    raise RunFailed("model_missing", MODEL_MISSING)
