"""The roof: builds the house from the settings, and gives it back as one ASGI application.

Everything is opened before the first request and closed after the last, in one event loop, so that nothing has to
be looked up in module-level state: `async with open_app(settings) as house: ...`.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute

from server.bus import Bus
from server.journal import open_journal
from server.problem import HANDLERS
from server.routes import Desk
from server.runs import Limits, Orchestrator, Runs
from server.settings import Settings
from transports import base


@dataclass(slots=True)
class App:
    """An open house. `drain` once, before the server that runs `asgi` is told to stop."""

    asgi: Starlette
    runs: Runs
    model: str
    _doors: "Doors" = field(repr=False)

    async def drain(self) -> None:
        """Takes no new work, and returns when every run has ended."""
        self._doors.open = False
        await self.runs.close()


@dataclass(slots=True)
class Doors:
    """Whether this server takes new work."""

    open: bool = True

    def __call__(self) -> bool:
        return self.open


@asynccontextmanager
async def open_app(settings: Settings) -> AsyncGenerator[App]:
    """Raises JournalError, ValueError or AskstreamError where the settings can't be followed."""
    async with AsyncExitStack() as closing:
        journal = open_journal(settings.journal_url, synchronous=settings.synchronous)
        closing.push_async_callback(journal.close)
        orchestrator = await closing.enter_async_context(_orchestrator(settings))
        group = await closing.enter_async_context(asyncio.TaskGroup())
        bus = Bus(journal, group)
        closing.callback(bus.close)
        runs = Runs(journal, bus, orchestrator, _limits(settings), group=group)
        closing.push_async_callback(runs.close)
        await runs.recover()
        doors = Doors()
        yield App(_asgi(settings, runs, bus, doors), runs, orchestrator.model, doors)


def _asgi(settings: Settings, runs: Runs, bus: Bus, doors: Doors) -> Starlette:
    house = base.House(
        runs=runs,
        bus=bus,
        question_characters=settings.question_characters,
        heartbeat_seconds=settings.heartbeat_seconds,
    )
    desk = Desk(runs, question_characters=settings.question_characters, ready=doors)
    routes: list[BaseRoute] = [*desk.routes()]
    for transport in base.load(settings.transports, house):
        routes.extend(transport.routes())
    return Starlette(routes=routes, exception_handlers=HANDLERS, middleware=_middleware(settings))


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
    )


@asynccontextmanager
async def _orchestrator(settings: Settings) -> AsyncGenerator[Orchestrator]:
    from server.runs import Mock

    yield Mock()
