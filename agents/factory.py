"""Makes an orchestrator from plain arguments."""

import asyncio
import importlib
import logging
import sqlite3
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from askstream.agents import console, loading, models
from askstream.agents.about import BUNDLED
from askstream.agents.arguments import RunArguments
from askstream.agents.human import TeamProfile
from askstream.agents.memory import ContextWindow
from askstream.agents.models import BadModelSettings, ModelSettings
from askstream.agents.orchestrator import AutoGenOrchestrator, ClientSource, TeamSource
from askstream.agents.team_factory import TeamFactory
from askstream.agents.waits import WaitPolicy
from askstream.server import private
from askstream.server.events.errors import RunFailed

if TYPE_CHECKING:
    from autogen_agentchat.base import Team
    from autogen_core.models import ChatCompletionClient
    from autogen_core.tools import FunctionTool

    from askstream.agents.provider import AzureClient, OpenAIClient

log = logging.getLogger(__name__)

WAREHOUSE = "warehouse.db"
_NO_DATABASE = "The team's database can't be made. Check that ASKSTREAM_DATA names a folder that can be written."

_NEEDS_TOOLS = (
    "The bundled team needs a model that can call tools: it would make up its figures. ASKSTREAM_MODEL_INFO says "
    '"function_calling": false. Choose another model with ASKSTREAM_MODEL, or a team of your own with ASKSTREAM_TEAM.'
)


@asynccontextmanager
async def open_orchestrator(
    *,
    model: ModelSettings,
    data: Path,
    warehouse: Path | None = None,
    team: object = None,
    max_messages: int = 40,
    conversation_messages: int = 400,
) -> AsyncGenerator[AutoGenOrchestrator]:
    """A server's orchestrator, closed at the end of the block. No run may be active then.

    `data` is the folder where the bundled team's database is made on first use, unless `warehouse` names one.
    `team` is a factory, a team, or the text of `--team`; the default is the bundled team. `warm` or the first run
    imports AutoGen; with a `team` it is imported at once, to check the team. Raises BadModelSettings, or RunFailed
    `team_unavailable`, for settings with which no run could succeed.
    """
    model.check()
    if team is None and model.info.get("function_calling") is False:
        raise BadModelSettings(_NEEDS_TOOLS)
    console.replace_input()  # before a team's module can keep the original
    async with AsyncExitStack() as stack:
        source: TeamSource
        if team is None:
            source = BundledTeam(data, warehouse, max_messages)
            name, connect = await _model_of_bundled_team(model, stack)
        else:
            source = CustomTeam(await loading.load(team))
            name, connect = _model_of(source.factory, model)
        orchestrator = AutoGenOrchestrator(
            model=name,
            client=connect,
            source=source,
            max_messages=max_messages,
            conversation_messages=conversation_messages,
            waits=WaitPolicy(seconds=model.wait_seconds, retries=model.retries),
            window=ContextWindow(model.context_window),
        )
        stack.push_async_callback(orchestrator.close)
        if isinstance(source, CustomTeam):
            await orchestrator.try_team(source.factory.spec)
        yield orchestrator


@contextmanager
def _needs_database() -> Generator[None]:
    """Raises RunFailed `team_unavailable` where the database can't be made or read."""
    try:
        yield
    except (OSError, sqlite3.Error) as problem:
        log.error("the database can't be made: %s", problem)
        raise RunFailed("team_unavailable", _NO_DATABASE) from problem


class BundledTeam:
    """The Business Insights team over a SQLite file."""

    makes_in_thread = False
    about = BUNDLED

    def __init__(self, data: Path, warehouse: Path | None, max_messages: int) -> None:
        if warehouse is not None and not warehouse.is_file():
            raise RunFailed(
                "team_unavailable", f"There is no database {warehouse.name!r} where ASKSTREAM_WAREHOUSE says."
            )
        self._path, self._is_own = warehouse or data / WAREHOUSE, warehouse is None
        self._max_messages = max_messages
        self._kit: Mapping[str, FunctionTool] = {}

    @property
    def profile(self) -> TeamProfile:
        from askstream.agents.insights import team as insights

        return insights.PROFILE

    async def prepare(self) -> None:
        await asyncio.to_thread(self._prepare)

    def _prepare(self) -> None:
        """Make the database in another process while this one imports AutoGen: each needs a core for a second."""
        from askstream.agents.insights import warehouse

        with _needs_database():
            finish = None if self._path.exists() else warehouse.build_in_child(self._path)
            if self._is_own:  # an operator's own database keeps its mode
                private.close_to_others(self._path, private.FILE_MODE)
        importlib.import_module("askstream.agents.provider")  # and what a model's client needs
        from askstream.agents.insights import team as insights
        from askstream.agents.insights.tools import toolbox

        with _needs_database():
            if finish is not None:
                finish()
            self._kit = insights.kit(toolbox(self._path))

    @asynccontextmanager
    async def team(self, values: RunArguments) -> AsyncGenerator["Team"]:
        from askstream.agents.insights import team as insights

        yield insights.team(values.model_client, self._kit, max_messages=self._max_messages, asks=values.asks)

    async def close(self) -> None:
        """Do nothing: its tools open the database for each call."""


class CustomTeam:
    """The teams of a factory that the operator names."""

    makes_in_thread = True

    def __init__(self, factory: TeamFactory) -> None:
        self.factory = factory
        self.profile, self.about = TeamProfile(author=factory.author), factory.about

    async def prepare(self) -> None:
        """Do nothing: the factory's module is imported."""

    def team(self, values: RunArguments) -> AbstractAsyncContextManager["Team"]:
        return self.factory.team(values)

    async def close(self) -> None:
        await self.factory.close()


def _model_of(factory: TeamFactory, model: ModelSettings) -> tuple[str, ClientSource]:
    """The name of a custom team's model, and its client. The offline analyst can't play other agents."""
    if model.kind == "offline":
        factory.keep_default_client()
    if factory.client is None:
        return f"chosen by {factory.spec}", _connect_none
    if model.kind == "offline":
        log.warning("the team %s: %s", factory.spec, models.MODEL_MISSING)
        return models.NO_MODEL, _connect_none
    return model.name, partial(models.connect, model)


def _connect_none() -> "ChatCompletionClient":
    from askstream.agents.no_model import NoModel

    return NoModel()


async def _model_of_bundled_team(model: ModelSettings, stack: AsyncExitStack) -> tuple[str, ClientSource]:
    if model.kind != "offline":
        return model.name, partial(models.connect, model)
    model, name = await _offline(model, stack)
    return name, partial(_connect_offline, model)


async def _offline(model: ModelSettings, stack: AsyncExitStack) -> tuple[ModelSettings, str]:
    """Start the offline analyst. Return settings that name it."""
    from askstream.agents.insights import offline

    endpoint = await stack.enter_async_context(offline.serve())
    return replace(model, base_url=endpoint.base_url, api_key=endpoint.api_key, names="field"), offline.MODEL


def _connect_offline(model: ModelSettings) -> "OpenAIClient | AzureClient":
    """Import the analyst in the thread that imports the client's libraries, so that it doesn't block the loop."""
    from askstream.agents.insights import offline

    offline.load()
    return models.connect(model)
