"""The model and its client. Importing this module is cheap; `connect` imports the libraries."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import urlsplit

from askstream.server.events.errors import AskstreamError

if TYPE_CHECKING:
    from askstream.agents.provider import AzureClient, OpenAIClient

# AutoGen knows it, it can use tools, and every account may use it without further checks.
DEFAULT_MODEL = "gpt-4.1-mini"
# Most servers behind a base_url need no key, but the client library does.
NO_KEY = "no-key"

NO_MODEL = "no model configured"
MODEL_MISSING = (
    "The team needs a model, and none is configured. Set OPENAI_API_KEY on the server, or OPENAI_BASE_URL for a model "
    "server of your own."
)

_HERE = ("127.0.0.1", "localhost", "::1")

Names: TypeAlias = Literal["field", "prefix", "none"]

# Assumed of a model that AutoGen doesn't know by name. A team without tools would be useless.
_UNKNOWN: Mapping[str, Any] = {
    "vision": False,
    "function_calling": True,
    "json_output": True,
    "family": "unknown",
    "structured_output": False,
    "multiple_system_messages": False,
}


class BadModelSettings(AskstreamError):
    """The settings don't describe a model that can be reached; the message says which one to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """The operator's settings of the model. Without any, the offline analyst answers.

    `info` overrides what AutoGen knows or assumes about the model (`vision`, `function_calling`, `json_output`,
    `family`, `structured_output`, `multiple_system_messages`). `names` says how a message names its speaker to the
    model: in the API's `name` field, as AutoGen does by default and a few servers reject, as a prefix of the text, or
    not at all. `stream_usage` asks a stream for its usage, which is 0 otherwise; a few servers reject the question.
    """

    model: str | None = None
    api_key: str | None = field(default=None, repr=False)
    base_url: str | None = None
    azure_endpoint: str | None = None
    azure_api_key: str | None = field(default=None, repr=False)
    azure_api_version: str | None = None
    azure_deployment: str | None = None
    info: Mapping[str, Any] = field(default_factory=dict[str, Any])
    names: Names = "field"
    stream_usage: bool = True
    # A reasoning model may be silent for long. Keep this below a run's own limit on silence (120 s).
    timeout_seconds: float = 100.0
    # For requests that the provider asks to repeat (429, 5xx) or that don't reach it; waits follow Retry-After.
    max_retries: int = 2

    @property
    def kind(self) -> Literal["azure", "openai", "offline"]:
        if self.azure_endpoint:
            return "azure"
        return "openai" if self.api_key or self.base_url else "offline"

    @property
    def name(self) -> str:
        return self.model or self.azure_deployment or DEFAULT_MODEL

    def check(self) -> None:
        """Raise BadModelSettings if Azure's settings are incomplete."""
        needed = {
            "AZURE_OPENAI_API_KEY": self.azure_api_key or self.api_key,
            "OPENAI_API_VERSION": self.azure_api_version,
            "AZURE_OPENAI_DEPLOYMENT or ASKSTREAM_MODEL": self.azure_deployment or self.model,
        }
        missing = [variable for variable, value in needed.items() if not value]
        if self.azure_endpoint and missing:
            raise BadModelSettings(f"AZURE_OPENAI_ENDPOINT is set, so {missing[0]} must be set as well.")


def connect(settings: ModelSettings) -> "OpenAIClient | AzureClient":
    """Make a client for `settings`. Raises BadModelSettings. Takes seconds the first time: call it in a thread."""
    settings.check()
    try:
        return _azure(settings) if settings.kind == "azure" else _openai(settings)
    except (ValueError, TypeError) as problem:
        raise BadModelSettings(f"The model client for {settings.name!r} can't be made: {problem}") from problem


def _openai(settings: ModelSettings) -> "OpenAIClient":
    from openai import DefaultAsyncHttpxClient

    from askstream.agents.provider import OpenAIClient

    arguments = _common(settings)
    arguments["api_key"] = settings.api_key or NO_KEY
    if settings.base_url:
        arguments["base_url"] = settings.base_url
        if urlsplit(settings.base_url).hostname in _HERE:  # the environment's proxy can't reach it
            arguments["http_client"] = DefaultAsyncHttpxClient(trust_env=False)
    return _known(OpenAIClient, arguments, settings.info)


def _azure(settings: ModelSettings) -> "AzureClient":
    from askstream.agents.provider import AzureClient

    arguments = _common(settings)
    arguments["api_key"] = settings.azure_api_key or settings.api_key
    arguments["azure_endpoint"] = settings.azure_endpoint
    arguments["api_version"] = settings.azure_api_version
    arguments["azure_deployment"] = settings.azure_deployment or settings.model
    return _known(AzureClient, arguments, settings.info)


def _common(settings: ModelSettings) -> dict[str, Any]:
    # The client's own `include_usage` is ignored by AutoGen 0.7.5.
    usage: dict[str, Any] = {"stream_options": {"include_usage": True}} if settings.stream_usage else {}
    return {
        "model": settings.name,
        "timeout": settings.timeout_seconds,
        "max_retries": settings.max_retries,
        "include_name_in_message": settings.names == "field",
        "add_name_prefixes": settings.names == "prefix",
        **usage,
    }


def _known(client: type[Any], arguments: dict[str, Any], info: Mapping[str, Any]) -> Any:
    """A client with AutoGen's facts about the model, or those assumed of unknown models; `info` overrides both."""
    try:
        known = client(**arguments)
    except ValueError as problem:
        if "model_info" not in str(problem):
            raise
        return client(**arguments, model_info={**_UNKNOWN, **info})
    return client(**arguments, model_info={**known.model_info, **info}) if info else known
