"""The settings of an operator, read from environment variables. README has the most used ones.

Only app.py, process.py, embedded.py and cli.py read them; everything else gets plain arguments.
"""

import difflib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from askstream.agents.models import ModelSettings, Names
from askstream.server.auth import ANONYMOUS
from askstream.server.auth.jwt import JwtSettings
from askstream.server.auth.origins import LOOPBACK_ORIGINS, Origins, checked_host
from askstream.server.auth.setup import Auth, AuthSettings
from askstream.server.connections import InboundLimits
from askstream.server.proxies import LOOPBACK, checked_prefix, networks
from askstream.server.requests import QUESTION_CHARACTERS
from askstream.server.runs import Limits

try:
    import resource
except ImportError:  # not on Windows
    resource = None

PREFIX = "ASKSTREAM_"
FILE_URL = "sqlite:///"
# Kubernetes sets these in every container beside a service called askstream.
_OF_KUBERNETES = re.compile(rf"{PREFIX}(SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
# Descriptors for all that is no connection: the journal, the log, models' servers, refusals.
OTHER_DESCRIPTORS = 64


def _env(*names: str) -> AliasChoices:
    """For variables without the prefix ASKSTREAM_, since other programs use them as well."""
    return AliasChoices(*names)


class Settings(BaseSettings):
    """Times in seconds. A field `x` is the variable ASKSTREAM_X unless it names another."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="ignore",
        populate_by_name=True,
        enable_decoding=False,
        env_ignore_empty=True,  # shells and compose files leave variables empty
    )

    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8000, ge=0, le=65535, description="port to listen on; 0 chooses a free one")
    data: Path = Field(default=Path(".askstream"), description="data folder: the journal and the bundled database")
    journal: str | None = Field(
        default=None, description="memory://, sqlite:///path or package.module:attribute; a file in the data folder"
    )
    synchronous: Literal["off", "normal", "full", "extra"] = Field(
        default="normal", description="SQLite's: normal survives a killed server, full a power cut as well"
    )
    team: str | None = Field(
        default=None, description="your own AutoGen team: package.module:name, file.py, file.py:name or team.json"
    )
    orchestrator: str | None = Field(default=None, description="package.module:attribute, instead of an AutoGen team")
    warehouse: Path | None = Field(default=None, description="your own SQLite file for the bundled team's questions")
    transports: tuple[str, ...] = Field(default=("sse", "websocket"), description="names, or package.module:attribute")
    direct: bool = Field(default=True, description="write to viewers' connections without a task for each")
    root_path: str = Field(default="", description="path that a proxy strips, such as /ai; else X-Forwarded-Prefix")
    trusted_proxies: tuple[str, ...] = Field(
        default=LOOPBACK, description="addresses and networks whose X-Forwarded-* headers count"
    )
    cors_origins: tuple[str, ...] = Field(
        default=LOOPBACK_ORIGINS, description="origins whose pages may use this server; http://localhost:* is any port"
    )
    hosts: tuple[str, ...] = Field(default=(), description="further names of this server, where it needs no token")
    auth: str = Field(
        default="auto",
        description="who needs a token: auto (all but this machine), token (everybody), none; jwt, or a hook of your "
        "own: package.module:function",
    )
    tokens_file: Path | None = Field(
        default=None, description="lines of `name token`; a file in the data folder, for `askstream tokens`"
    )
    jwt_secret: SecretStr | None = Field(default=None, description="the secret that signs JWTs with HS256")
    jwt_keys: str | None = Field(default=None, description="JWKS file or URL, for JWTs with RS256 or ES256")
    jwt_audience: str | None = Field(default=None)
    jwt_issuer: str | None = Field(default=None)
    jwt_leeway: float = Field(default=10, ge=0, description="by which clocks may differ, in seconds")

    openai_api_key: SecretStr | None = Field(default=None, validation_alias=_env("OPENAI_API_KEY"))
    openai_base_url: str | None = Field(default=None, validation_alias=_env("OPENAI_BASE_URL"))
    azure_endpoint: str | None = Field(default=None, validation_alias=_env("AZURE_OPENAI_ENDPOINT"))
    azure_api_key: SecretStr | None = Field(default=None, validation_alias=_env("AZURE_OPENAI_API_KEY"))
    azure_api_version: str | None = Field(default=None, validation_alias=_env("OPENAI_API_VERSION"))
    azure_deployment: str | None = Field(default=None, validation_alias=_env("AZURE_OPENAI_DEPLOYMENT"))
    model: str | None = Field(default=None, description="name of the model to ask")
    model_names: Names = Field(
        default="field", description="how messages name their speaker to the model: field, prefix or none"
    )
    model_stream_usage: bool = Field(default=True, description="ask the model's server for the usage of a stream")
    model_info: dict[str, Any] = Field(
        default={}, description="JSON: facts about an unknown model, such as function_calling and context_window"
    )
    model_options: dict[str, Any] = Field(
        default={}, description="JSON: options of each request, such as max_tokens and temperature; timeout, retries"
    )
    model_wait_seconds: float = Field(default=60, ge=0, description="how long a call waits for a model that is away")
    first_token_seconds: float = Field(default=120, gt=0, description="how long a model may take to begin its answer")
    token_silence_seconds: float = Field(default=60, gt=0, description="how long a model may pause in its answer")

    log_level: str = Field(default="INFO", validation_alias=_env("LOG_LEVEL", "ASKSTREAM_LOG_LEVEL"))
    log_libraries: bool = Field(
        default=False, description="AutoGen and the model's library log at LOG_LEVEL, too: prompts and answers"
    )
    log_file: Path | None = Field(default=None, description="also log there, so that `tail -f` and grep work")
    log_file_bytes: int = Field(default=0, ge=0, description="size at which the log file is begun anew; 0: never")
    log_files: int = Field(default=5, gt=0, description="earlier log files that are kept then: server.log.1 and so on")

    question_characters: int = Field(default=QUESTION_CHARACTERS, gt=0)
    messages: int = Field(default=40, gt=0, description="agents' messages in one run, anew after a person's answer")
    conversation_messages: int = Field(
        default=400, gt=0, description="agents' messages in one run in which a person has answered"
    )
    active_runs: int = Field(default=64, gt=0)
    waiting_runs: int = Field(default=1000, gt=0, description="runs that wait for a human")
    principal_runs: int = Field(default=8, gt=0, description="active runs of one principal")
    run_starts: int = Field(default=30, gt=0, description="runs that one principal may start in a minute")
    principal_connections: int = Field(default=200, gt=0, description="streams and WebSockets of one principal")
    limit_anonymous: bool = Field(
        default=False, description="limit `anonymous` as any principal; it is everybody who needs no token"
    )
    connections: int = Field(default=10_000, gt=0, description="at most 64 less than the open files that are allowed")
    keep_alive_seconds: float = Field(default=5, gt=0, description="how long a connection is kept between requests")
    backlog: int = Field(default=2048, gt=0, description="connections that wait to be accepted")
    head_bytes: int = Field(default=64 * 1024, gt=0, description="bytes of a request's line and headers")
    head_lines: int = Field(default=100, gt=0, description="headers of a request")
    head_seconds: float = Field(default=10, gt=0, description="time for a request's head to arrive")
    body_seconds: float = Field(default=30, gt=0, description="time for a request's body to arrive")
    message_bytes: int = Field(default=64 * 1024, gt=0, description="bytes of a WebSocket message")
    messages_a_second: float = Field(default=20, gt=0, description="messages, pings and pongs of one WebSocket")
    messages_at_once: float = Field(default=40, ge=1, description="the same, in a burst")
    subscriptions: int = Field(default=32, gt=0, description="runs that one WebSocket may watch")
    run_seconds: float = Field(default=900, gt=0)
    silence_seconds: float = Field(default=120, gt=0, description="how long a run may go on without any event")
    log_events: int = Field(default=10_000, gt=0, description="events in one run's log")
    log_bytes: int = Field(default=16 * 2**20, gt=0, description="bytes in one run's log")
    input_seconds: float = Field(default=600, gt=0, description="how long a run waits for a human by default")
    orphan_seconds: float | Literal["never"] = Field(default=300, description="how long a run goes on unwatched")
    drain_seconds: float = Field(default=20, ge=0, description="how long runs may take to end when the server stops")
    send_seconds: float = Field(default=15, gt=0, description="how long a viewer may read nothing before it is cut")
    keep_seconds: float = Field(default=24 * 3600, gt=0, description="how long the log of a run that ended is kept")
    journal_bytes: int = Field(default=2**30, gt=0, description="all logs together; the oldest ended ones go first")
    heartbeat_seconds: float = Field(default=15, gt=0)

    @field_validator("port", mode="before")
    @classmethod
    def _ignore_kubernetes(cls, value: object) -> object:
        """Read Kubernetes' address of a service called askstream as no port: it is in every container beside it."""
        return cls.model_fields["port"].default if _is_of_kubernetes(value) else value

    @field_validator("transports", "trusted_proxies", "cors_origins", "hosts", mode="before")
    @classmethod
    def _read_list(cls, value: object) -> object:
        """Read a JSON list, or plain words with commas or spaces between them."""
        if isinstance(value, str) and not value.lstrip().startswith(("[", "{")):
            return tuple(re.split(r"[,\s]+", value.strip(", \n\t")))
        return cls._read_json(value)

    @field_validator("model_info", "model_options", mode="before")
    @classmethod
    def _read_object(cls, value: object) -> object:
        return cls._read_json(value)

    @staticmethod
    def _read_json(value: object) -> object:
        """Read a variable's JSON. pydantic-settings would do so as well, but not report what is wrong with it."""
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError as problem:
            raise ValueError(f'expected JSON, such as ["…"] or {{"…": …}}, got {value!r}') from problem

    @field_validator("root_path")
    @classmethod
    def _check_prefix(cls, prefix: str) -> str:
        return checked_prefix(prefix)

    @field_validator("trusted_proxies")
    @classmethod
    def _check_networks(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        networks(names)
        return names

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        Origins(names)
        return names

    @field_validator("hosts")
    @classmethod
    def _check_hosts(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(checked_host, names))

    @property
    def journal_url(self) -> str:
        return self.journal or f"{FILE_URL}{self.data / 'askstream.db'}"


def warnings(environment: Mapping[str, str]) -> list[str]:
    """Return a sentence for each variable that looks like a setting and has no effect."""
    known = _variables()
    found = [name for name in environment if name.upper().startswith(PREFIX) and name.upper() not in known]
    sentences = [_misspelt(name, known) for name in sorted(found) if not _OF_KUBERNETES.fullmatch(name)]
    if _is_of_kubernetes(address := environment.get(f"{PREFIX}PORT")):
        sentences.append(f"{PREFIX}PORT is {address!r}, which Kubernetes sets: no port, so the default is used")
    return sentences


def _is_of_kubernetes(value: object) -> bool:
    return isinstance(value, str) and "://" in value


def _misspelt(name: str, known: Sequence[str]) -> str:
    by_rest = {each.removeprefix(PREFIX): each for each in known}  # with the prefix, all of them are alike
    near = difflib.get_close_matches(name.upper().removeprefix(PREFIX), by_rest, 1)
    return f"there is no setting {name}" + (f"; did you mean {by_rest[near[0]]}?" if near else "")


def _variables() -> list[str]:
    """Return the names of all variables that are read."""
    names: list[str] = []
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias
        names += map(str, alias.choices) if isinstance(alias, AliasChoices) else [f"{PREFIX}{name.upper()}"]
    return names


def exempt(settings: Settings) -> frozenset[str]:
    """Return the principals without limits of their own. `anonymous` is one person on their own machine, or everybody
    behind a proxy that authenticates."""
    return frozenset() if settings.limit_anonymous else frozenset({ANONYMOUS.principal})


def inbound(settings: Settings) -> InboundLimits:
    return InboundLimits(
        head_bytes=settings.head_bytes,
        head_lines=settings.head_lines,
        head_seconds=settings.head_seconds,
        body_seconds=settings.body_seconds,
        keep_alive_seconds=settings.keep_alive_seconds,
        connections=min(settings.connections, max(1, _descriptors() - OTHER_DESCRIPTORS)),
        backlog=settings.backlog,
        message_bytes=settings.message_bytes,
        messages_a_second=settings.messages_a_second,
        messages_at_once=settings.messages_at_once,
        subscriptions=settings.subscriptions,
    )


def _descriptors() -> int:
    """Return how many files and sockets this process may have open."""
    if resource is None:
        return sys.maxsize
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if most == resource.RLIM_INFINITY else most


def limits(settings: Settings) -> Limits:
    return Limits(
        active_runs=settings.active_runs,
        waiting_runs=settings.waiting_runs,
        principal_runs=settings.principal_runs,
        run_starts=settings.run_starts,
        exempt=exempt(settings),
        messages=settings.messages,
        conversation_messages=settings.conversation_messages,
        run_seconds=settings.run_seconds,
        silence_seconds=settings.silence_seconds,
        log_events=settings.log_events,
        log_bytes=settings.log_bytes,
        input_seconds=settings.input_seconds,
        orphan_seconds=None if settings.orphan_seconds == "never" else settings.orphan_seconds,
    )


def auth(settings: Settings, given: Auth | None = None) -> AuthSettings:
    """`given` replaces the setting `auth`."""
    return AuthSettings(
        auth=given if given is not None else settings.auth or "auto",
        host=settings.host,
        data=settings.data,
        tokens_file=settings.tokens_file,
        hosts=settings.hosts,
        origins=settings.cors_origins,
        trusted_proxies=settings.trusted_proxies,
        jwt=JwtSettings(
            secret=_secret(settings.jwt_secret),
            keys=settings.jwt_keys or None,
            audience=settings.jwt_audience or None,
            issuer=settings.jwt_issuer or None,
            leeway=settings.jwt_leeway,
        ),
    )


def model(settings: Settings) -> ModelSettings:
    return ModelSettings(
        model=settings.model,
        api_key=_secret(settings.openai_api_key),
        base_url=settings.openai_base_url or None,
        azure_endpoint=settings.azure_endpoint or None,
        azure_api_key=_secret(settings.azure_api_key),
        azure_api_version=settings.azure_api_version or None,
        azure_deployment=settings.azure_deployment or None,
        info=settings.model_info,
        names=settings.model_names,
        stream_usage=settings.model_stream_usage,
        options=settings.model_options,
        wait_seconds=settings.model_wait_seconds,
        first_token_seconds=settings.first_token_seconds,
        token_silence_seconds=settings.token_silence_seconds,
    )


def _secret(value: SecretStr | None) -> str | None:
    """Count an empty variable as unset: shells and compose files leave variables empty."""
    return (value.get_secret_value() or None) if value else None
