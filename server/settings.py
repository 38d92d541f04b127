"""The settings of an operator, read from environment variables. README has the most used ones.

Only app.py, process.py, embedded.py and cli.py read them; everything else gets plain arguments.
"""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from askstream.agents.models import ModelSettings, Names
from askstream.server.proxies import LOOPBACK, checked_prefix, networks
from askstream.server.requests import QUESTION_CHARACTERS
from askstream.server.runs import Limits


def _env(*names: str) -> AliasChoices:
    """For variables without the prefix ASKSTREAM_, since other programs use them as well."""
    return AliasChoices(*names)


class Settings(BaseSettings):
    """Times in seconds. A field `x` is the variable ASKSTREAM_X unless it names another."""

    model_config = SettingsConfigDict(
        env_prefix="ASKSTREAM_", extra="ignore", populate_by_name=True, enable_decoding=False
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
    cors_origins: tuple[str, ...] = Field(default=("*",), description="origins whose pages may use this server")

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

    question_characters: int = Field(default=QUESTION_CHARACTERS, gt=0)
    messages: int = Field(default=40, gt=0, description="agents' messages in one run, anew after a person's answer")
    conversation_messages: int = Field(
        default=400, gt=0, description="agents' messages in one run in which a person has answered"
    )
    active_runs: int = Field(default=64, gt=0)
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

    @field_validator("transports", "trusted_proxies", "cors_origins", "model_info", "model_options", mode="before")
    @classmethod
    def _read_json(cls, value: object) -> object:
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

    @property
    def journal_url(self) -> str:
        return self.journal or f"sqlite:///{self.data / 'askstream.db'}"


def limits(settings: Settings) -> Limits:
    return Limits(
        active_runs=settings.active_runs,
        messages=settings.messages,
        conversation_messages=settings.conversation_messages,
        run_seconds=settings.run_seconds,
        silence_seconds=settings.silence_seconds,
        log_events=settings.log_events,
        log_bytes=settings.log_bytes,
        input_seconds=settings.input_seconds,
        orphan_seconds=None if settings.orphan_seconds == "never" else settings.orphan_seconds,
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
