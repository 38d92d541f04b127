"""The model and its client. Importing this module is cheap; `connect` imports the libraries."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
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


# Facts about a model: AutoGen's own, and the size of its context in tokens.
_INFO: Mapping[str, type[bool | str | int]] = {
    "vision": bool,
    "function_calling": bool,
    "json_output": bool,
    "family": str,
    "structured_output": bool,
    "multiple_system_messages": bool,
    "context_window": int,
}
# Options of each request, by the API's names. A test compares them with the library's. Those of other servers, such as
# `top_k`, go into `extra_body`.
REQUEST_OPTIONS = frozenset(
    [
        "audio",
        "extra_body",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "metadata",
        "modalities",
        "moderation",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "seed",
        "service_tier",
        "stop",
        "store",
        "stream_options",
        "temperature",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
        "web_search_options",
    ]
)
# Seconds until the first token and between two tokens; how often a call is repeated while the model's server is away.
_OWN_OPTIONS = frozenset({"timeout", "retries"})
# Connecting takes no longer than this, or the server counts as away.
_CONNECT_SECONDS = 10.0


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
    # Of each request, by the API's names, and `timeout` and `retries`. An option of None is left out of requests.
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    # While the model's server is away, a call is tried again for so long.
    wait_seconds: float = 60.0
    # A reasoning model may be silent for long, and a slow one reads a long prompt for minutes.
    first_token_seconds: float = 120.0
    token_silence_seconds: float = 60.0

    @property
    def kind(self) -> Literal["azure", "openai", "offline"]:
        if self.azure_endpoint:
            return "azure"
        return "openai" if self.api_key or self.base_url else "offline"

    @property
    def name(self) -> str:
        return self.model or self.azure_deployment or DEFAULT_MODEL

    @property
    def retries(self) -> int | None:
        """The maximum of a call's repetitions while the model's server is away, None for no maximum."""
        return self.options.get("retries")

    @property
    def context_window(self) -> int | None:
        """The number of tokens that the model can read, if the settings say so."""
        return self.info.get("context_window")

    @property
    def silence(self) -> tuple[float, float]:
        """Seconds that a call may be silent: until its first token, and later."""
        timeout = self.options.get("timeout")
        return (timeout, timeout) if timeout else (self.first_token_seconds, self.token_silence_seconds)

    def check(self) -> None:
        """Raise BadModelSettings for incomplete settings of Azure, and for facts and options that don't exist."""
        _check_info(self.info)
        _check_options(self.options)
        needed = {
            "AZURE_OPENAI_API_KEY": self.azure_api_key or self.api_key,
            "OPENAI_API_VERSION": self.azure_api_version,
            "AZURE_OPENAI_DEPLOYMENT or ASKSTREAM_MODEL": self.azure_deployment or self.model,
        }
        missing = [variable for variable, value in needed.items() if not value]
        if self.azure_endpoint and missing:
            raise BadModelSettings(f"AZURE_OPENAI_ENDPOINT is set, so {missing[0]} must be set as well.")


def _check_info(info: Mapping[str, Any]) -> None:
    for name, value in info.items():
        _check_name("ASKSTREAM_MODEL_INFO", name, _INFO)
        if type(value) is not _INFO[name]:
            kind = {bool: "true or false", int: "a number", str: "a text"}[_INFO[name]]
            raise BadModelSettings(f"ASKSTREAM_MODEL_INFO: expected {name} to be {kind}, got {value!r}.")
    if info.get("context_window", 1) <= 0:
        raise BadModelSettings("ASKSTREAM_MODEL_INFO: expected context_window to be above 0, in tokens.")


def _check_options(options: Mapping[str, Any]) -> None:
    for name in options:
        _check_name("ASKSTREAM_MODEL_OPTIONS", name, REQUEST_OPTIONS | _OWN_OPTIONS)
    timeout, retries = options.get("timeout", 1), options.get("retries", 0)
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or timeout <= 0:
        raise BadModelSettings(f"ASKSTREAM_MODEL_OPTIONS: expected timeout to be seconds above 0, got {timeout!r}.")
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise BadModelSettings(f"ASKSTREAM_MODEL_OPTIONS: expected retries to be 0 or more, got {retries!r}.")


def _check_name(setting: str, name: str, known: Collection[str]) -> None:
    if name in known:
        return
    close = get_close_matches(name, known, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted(known))}."
    raise BadModelSettings(f"{setting} has no {name!r}: {hint}")


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
    from openai import Timeout

    from askstream.agents.silence import SilenceLimits

    first, later = settings.silence
    # The client's own `include_usage` is ignored by AutoGen 0.7.5.
    usage: dict[str, Any] = {"stream_options": {"include_usage": True}} if settings.stream_usage else {}
    arguments = {
        **usage,
        **{name: value for name, value in settings.options.items() if name in REQUEST_OPTIONS},
        "model": settings.name,
        "silence": SilenceLimits(first_token=first, later=later),
        # The limits on silence act first, and say what it was.
        "timeout": Timeout(max(first, later) + 10, connect=_CONNECT_SECONDS),
        "max_retries": 0,  # calls.py waits for a server that is away, and tells viewers
        "include_name_in_message": settings.names == "field",
        "add_name_prefixes": settings.names == "prefix",
    }
    return {name: value for name, value in arguments.items() if value is not None}


def _known(client: type[Any], arguments: dict[str, Any], info: Mapping[str, Any]) -> Any:
    """A client with AutoGen's facts about the model, or those assumed of unknown models; `info` overrides both."""
    info = {name: value for name, value in info.items() if name in _UNKNOWN}
    try:
        known = client(**arguments)
    except ValueError as problem:
        if "model_info" not in str(problem):
            raise
        return client(**arguments, model_info={**_UNKNOWN, **info})
    return client(**arguments, model_info={**known.model_info, **info}) if info else known
