"""The roof: builds the house from the settings, and gives it back as one ASGI application.

Everything is opened before the first request and closed after the last, in one event loop, so that nothing has to
be looked up in module-level state: `async with open_app(settings) as house: ...`.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import chain

from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute

from askstream.agents.factory import open_orchestrator
from askstream.agents.models import ModelSettings
from askstream.server.bus import Bus
from askstream.server.connections import SocketRoute
from askstream.server.events.errors import AskstreamError
from askstream.server.http.routes import Desk
from askstream.server.journal import open_journal
from askstream.server.problems import HANDLERS
from askstream.server.runs import Limits, Mock, Runs
from askstream.server.runs.orchestrator import Orchestrator, Warms, open_named
from askstream.server.runs.retention import keep_going, retain
from askstream.server.settings import Settings
from askstream.transports import base

log = logging.getLogger("__main__")


@dataclass(slots=True)
class App:
    """An open house. `drain` once, before the server that runs `asgi` is told to stop.

    `sockets` are the routes of WebSockets, by path, for a server that accepts them itself. `warmed` is done once the
    team's libraries have been imported.
    """

    asgi: Starlette
    sockets: Mapping[bytes, SocketRoute]
    runs: Runs
    model: str
    warmed: asyncio.Task[None]
    _bus: Bus
    _seconds: float
    _doors: "Doors"

    async def drain(self) -> None:
        """Takes no new work, sends viewers away, gives runs time to end, and leaves the rest to the next server."""
        self._doors.open = False
        self._bus.drain()
        await self.runs.drain(self._seconds)
        self._bus.drain()


@dataclass(slots=True)
class Doors:
    """Whether this server takes new work."""

    open: bool = True

    def __call__(self) -> bool:
        return self.open


@asynccontextmanager
async def open_app(settings: Settings) -> AsyncGenerator[App]:
    """Raises JournalError, ValueError or AskstreamError where the settings can't be followed."""
    transports = base.factories(settings.transports)
    async with AsyncExitStack() as closing:
        journal = open_journal(settings.journal_url, synchronous=settings.synchronous)
        closing.push_async_callback(journal.close)
        orchestrator = await closing.enter_async_context(
            _team(settings) if settings.orchestrator is None else _own(settings.orchestrator, settings.team)
        )
        group = await closing.enter_async_context(asyncio.TaskGroup())
        bus = Bus(journal, group)
        closing.callback(bus.close)
        runs = Runs(journal, bus, orchestrator, _limits(settings), group=group, stand_ins={"mock": Mock()})
        closing.push_async_callback(runs.close)
        await runs.recover()
        retaining = retain(journal, keep_seconds=settings.keep_seconds, most_bytes=settings.journal_bytes)
        warmed = group.create_task(_warm(orchestrator))
        for background in (warmed, group.create_task(retaining), group.create_task(keep_going(runs.recover))):
            closing.callback(background.cancel)
        context = _context(settings, runs, bus)
        closing.push_async_callback(context.tasks.close)
        doors = Doors()
        routes = _routes(settings, transports, context, doors)
        yield App(
            Starlette(routes=routes, exception_handlers=HANDLERS, middleware=_middleware(settings)),
            {route.path.encode(): route for route in routes if isinstance(route, SocketRoute)},
            runs,
            orchestrator.model,
            warmed,
            bus,
            settings.drain_seconds,
            doors,
        )


def _team(settings: Settings) -> AbstractAsyncContextManager[Orchestrator]:
    return open_orchestrator(
        model=_model(settings),
        data=settings.data,
        warehouse=settings.warehouse,
        team=settings.team,
        max_messages=settings.messages,
    )


def _own(orchestrator: str, team: str | None) -> AbstractAsyncContextManager[Orchestrator]:
    if team is not None:
        raise ValueError(f"expected a team or an orchestrator, got both: {team!r} and {orchestrator!r}")
    return open_named(orchestrator)


async def _warm(orchestrator: Orchestrator) -> None:
    """Imports AutoGen while nobody waits yet: requests are answered meanwhile, and the first question finds it done."""
    if isinstance(orchestrator, Warms):
        try:
            await orchestrator.warm()
        except AskstreamError:
            log.debug("the team can't be made ready", exc_info=True)  # the first question is told
        except Exception:  # a stranger's code: it must not end the server
            log.exception("%s can't be made ready", orchestrator.model)


def _context(settings: Settings, runs: Runs, bus: Bus) -> base.TransportContext:
    return base.TransportContext(
        runs=runs,
        bus=bus,
        question_characters=settings.question_characters,
        heartbeat_seconds=settings.heartbeat_seconds,
        send_seconds=settings.send_seconds,
    )


def _routes(
    settings: Settings, transports: Sequence[base.Factory], context: base.TransportContext, doors: Doors
) -> Sequence[BaseRoute]:
    desk = Desk(context.runs, question_characters=settings.question_characters, ready=doors)
    return [*chain.from_iterable(transport(context).routes() for transport in transports), *desk.routes()]


def _middleware(settings: Settings) -> Sequence[Middleware]:
    """The document promises that pages of all origins may ask; an operator narrows that down."""
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=["X-Run-Id", "Location", "Retry-After"],
        )
    ]


def _limits(settings: Settings) -> Limits:
    return Limits(
        active_runs=settings.active_runs,
        messages=settings.messages,
        run_seconds=settings.run_seconds,
        silence_seconds=settings.silence_seconds,
        log_events=settings.log_events,
        log_bytes=settings.log_bytes,
        input_seconds=settings.input_seconds,
        orphan_seconds=None if settings.orphan_seconds == "never" else settings.orphan_seconds,
    )


def _model(settings: Settings) -> ModelSettings:
    return ModelSettings(
        model=settings.model,
        api_key=_secret(settings.openai_api_key),
        base_url=settings.openai_base_url or None,
        azure_endpoint=settings.azure_endpoint or None,
        azure_api_key=_secret(settings.azure_api_key),
        azure_api_version=settings.azure_api_version or None,
        azure_deployment=settings.azure_deployment or None,
        info=settings.model_info,
    )


def _secret(value: SecretStr | None) -> str | None:
    """An empty variable is none: shells and compose files set them so."""
    return (value.get_secret_value() or None) if value else None
