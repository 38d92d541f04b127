"""A model client around another one, whose facts it passes on."""

from abc import ABC
from collections.abc import Sequence

from autogen_core.models import (
    ChatCompletionClient,
    LLMMessage,
    ModelCapabilities,  # pyright: ignore[reportDeprecated]  # the abstract property that must be there names it
    ModelInfo,
    RequestUsage,
)
from autogen_core.tools import Tool, ToolSchema


class WrappedClient(ChatCompletionClient, ABC):
    """A subclass makes the calls, and says what closing means and what was used."""

    def __init__(self, client: ChatCompletionClient) -> None:
        self._client = client

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
