"""`create_app`: builds the application from its settings and the parts that it is given, as one ASGI application.

All parts are opened before the first request and closed after the last, in one event loop, so that nothing has to be
looked up in module-level state.
"""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol, TypeAlias, cast

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from askstream.agents.factory import open_orchestrator
from askstream.server import lifespan, private, proxies
from askstream.server.auth import Access, Gate, LiveStreams
from askstream.server.auth.origins import EVERY_ORIGIN, Origins
from askstream.server.auth.setup import Auth, open_gate
from askstream.server.bus import Bus
from askstream.server.connections import InboundLimits, PrincipalConnections, SocketRoute
from askstream.server.events.errors import JournalError, NotStarted
from askstream.server.http import views
from askstream.server.http.guarded import Guarded, admitted
from askstream.server.http.login import LoginRoutes
from askstream.server.http.readiness import Readiness
from askstream.server.http.routes import HttpRoutes
from askstream.server.journal import Journal, SupportsCheck, open_journal
from askstream.server.problems import HANDLERS, refuse
from askstream.server.runs import Mock, Orchestrator, Runs
from askstream.server.runs.orchestrator import About, SupportsAbout, SupportsWarm, open_named
from askstream.server.runs.retention import attempt, check_periodically, expire_periodically, recover_periodically
from askstream.server.settings import Settings, auth, exempt, inbound, limits, model, warnings
from askstream.transports import base

log = logging.getLogger("__main__")

# Between two attempts to make the team ready, in seconds.
WARM_SECONDS = 5.0

TeamFactory: TypeAlias = Callable[..., Any]
"""Makes an AutoGen team for one run; docs/teams.md has its forms and parameters."""


class SupportsRunStream(Protocol):
    """AutoGen's teams and agents. Each run gets a copy."""

    def run_stream(self, *, task: Any) -> Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts that the caller gave, in place of what the settings name. The caller closes those that it made."""

    team: str | TeamFactory | SupportsRunStream | None = None
    orchestrator: Orchestrator | str | None = None
    journal: Journal | None = None
    auth: Auth | None = None
    transports: Sequence[base.TransportFactory]


class Drainer:
    """Drains a server that shuts down. `accepting`: whether it accepts new work."""

    def __init__(self, bus: Bus, runs: Runs, seconds: float) -> None:
        self._bus, self._runs, self._seconds = bus, runs, seconds
        self._lock = asyncio.Lock()
        self.accepting = True

    async def __call__(self) -> None:
        """Refuse new work, send viewers away, give runs time to end, and leave the rest to the next server.

        Idempotent: a second call waits for the first, and adds no time to it.
        """
        first, self.accepting = self.accepting, False
        async with self._lock:
            if first:
                self._bus.drain()
                await self._runs.drain(self._seconds)
                self._bus.drain()


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The opened parts of an application. Call `drain` before the server that runs `asgi` shuts down.

    `socket_routes` has the WebSocket routes by path, for a server that accepts WebSockets itself once `admitted` has
    said who asks. `warmed` is done once the team's libraries have been imported.
    """

    asgi: ASGIApp
    socket_routes: Mapping[bytes, SocketRoute]
    gate: Gate
    runs: Runs
    model: str
    warmed: asyncio.Future[bool]
    drain: Drainer
    inbound: InboundLimits

    def admitted(self, scope: Scope) -> Access | None:
        """Return who opens a WebSocket; None if only `asgi` can answer."""
        return admitted(self.gate, scope)


class App:
    """An ASGI application. Its server's lifespan starts it, or that of a host application: `lifespan=app.lifespan`.

    A request that comes before that, or after the end, gets 503 `not_started`.
    """

    def __init__(self, settings: Settings, parts: Parts) -> None:
        self._settings, self._parts = settings, parts
        self._service: Service | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan.serve_lifespan(self.lifespan(), receive, send)
        elif self._service is None:
            await refuse(NotStarted(), scope, receive, send)
        else:
            await self._service.asgi(scope, receive, send)

    @asynccontextmanager
    async def lifespan(self, host: object = None) -> AsyncGenerator[None]:
        """Serve requests within the block. Drain runs at its end, and at SIGTERM.

        Raises AskstreamError or ValueError if the settings can't be followed, such as a journal file that another
        process has, and RuntimeError within another such block.
        """
        async with self.open() as service:
            with lifespan.drain_on_signals(service.drain):
                yield
            await service.drain()

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Service]:
        """Do the same as `lifespan`, for a server that drains by itself."""
        if self._service is not None:
            raise RuntimeError("this application was started already; start it once, with one lifespan")
        async with open_service(self._settings, self._parts) as service:
            self._service = service
            try:
                yield service
            finally:
                self._service = None


def create_app(
    settings: Settings | None = None,
    *,
    team: str | TeamFactory | SupportsRunStream | None = None,
    orchestrator: Orchestrator | str | None = None,
    journal: Journal | str | None = None,
    transports: Sequence[str | base.TransportFactory] | None = None,
    auth: Auth | None = None,
) -> App:
    """Return an ASGI application with its own lifespan, for an ASGI server or for mounting in another application.

    The arguments override the settings, which are read from the environment unless they are given. `team` is an
    AutoGen team or agent, a function that makes one, or the text of `--team`. `orchestrator`, an object or a name,
    replaces any team. `journal` is a journal or its URL. `transports` are names or factories.
    `auth` is `auto`, `token`, `none`, `jwt`, or a hook that returns the principal of a request's facts, or its name.
    Opens nothing and imports no AutoGen yet. Raises ValueError for an invalid team or transport.
    """
    settings = settings or Settings()
    if team is None and orchestrator is None:
        team, orchestrator = settings.team, settings.orchestrator
    _check_team_or_orchestrator(team, orchestrator)
    if isinstance(journal, str):
        settings, journal = settings.model_copy(update={"journal": journal}), None
    made = tuple(_transport(given) for given in (settings.transports if transports is None else transports))
    return App(settings, Parts(team=team, orchestrator=orchestrator, journal=journal, auth=auth, transports=made))


def _check_team_or_orchestrator(team: object, orchestrator: object) -> None:
    if team is not None and orchestrator is not None:
        raise ValueError(f"expected a team or an orchestrator, got both: {team!r} and {orchestrator!r}")
    if not (team is None or isinstance(team, str) or callable(team) or hasattr(team, "run_stream")):
        raise ValueError(f"expected a team, a function that makes one, or its name, got {team!r}")


def _transport(given: str | base.TransportFactory) -> base.TransportFactory:
    return base.factories([given])[0] if isinstance(given, str) else given


@asynccontextmanager
async def open_service(settings: Settings, parts: Parts) -> AsyncGenerator[Service]:
    """Open all parts. Raises AskstreamError or ValueError if the settings can't be followed."""
    for sentence in warnings(os.environ):
        log.warning("%s", sentence)
    async with AsyncExitStack() as closing:
        gate = open_gate(auth(settings, parts.auth))
        journal = _open_journal(settings, closing) if parts.journal is None else parts.journal
        orchestrator = await closing.enter_async_context(_orchestrator(settings, parts))
        group = await closing.enter_async_context(_task_group())
        bus = Bus(journal, group)
        closing.callback(bus.close)
        runs = Runs(journal, bus, orchestrator, limits(settings), group=group, others={"mock": Mock()})
        closing.push_async_callback(runs.close)
        warmed = group.create_task(_warm(orchestrator))
        closing.callback(warmed.cancel)
        await runs.recover(warmed)
        expiring = expire_periodically(journal, keep_seconds=settings.keep_seconds, most_bytes=settings.journal_bytes)
        streams = LiveStreams(gate.is_valid)
        jobs = (recover_periodically(runs.recover), _warm_again(orchestrator, warmed), streams.check_periodically())
        for job in (expiring, *jobs):
            closing.callback(group.create_task(job).cancel)
        if isinstance(journal, SupportsCheck):
            closing.callback(group.create_task(check_periodically(journal)).cancel)
        context = _context(settings, runs, bus, streams)
        closing.push_async_callback(context.tasks.close)
        yield _service(settings, parts, context, journal, gate, orchestrator, warmed)


@asynccontextmanager
async def _task_group() -> AsyncGenerator[asyncio.TaskGroup]:
    """Open a task group that raises its block's error without a group around it: a host's, or a failed start's."""
    raised: Exception | None = None
    try:
        async with asyncio.TaskGroup() as group:
            try:
                yield group
            except Exception as problem:
                raised = problem
                raise
    except BaseExceptionGroup as problems:
        if raised is None or problems.exceptions != (raised,):
            raise
        raise raised from None


def _open_journal(settings: Settings, closing: AsyncExitStack) -> Journal:
    if settings.journal is None or settings.data.is_dir():
        _close_data_folder(settings)
    journal = open_journal(settings.journal_url, synchronous=settings.synchronous)
    closing.push_async_callback(journal.close)
    return journal


def _close_data_folder(settings: Settings) -> None:
    """Make the data folder if there is none, for this user alone, and close an existing one to others."""
    try:
        private.make_folder(settings.data)
        private.close_folder(settings.data)
    except OSError as problem:
        where = f"{str(settings.data)!r}: {problem.strerror}"
        raise JournalError(f"can't write to the data folder {where}; choose another with ASKSTREAM_DATA") from problem


def _orchestrator(settings: Settings, parts: Parts) -> AbstractAsyncContextManager[Orchestrator]:
    match parts.orchestrator:
        case None:
            return _team(settings, parts.team)
        case str(spec):
            return open_named(spec)
        case given:
            return nullcontext(given)


def _team(settings: Settings, team: object) -> AbstractAsyncContextManager[Orchestrator]:
    return open_orchestrator(
        model=model(settings),
        data=settings.data,
        warehouse=settings.warehouse,
        team=team,
        max_messages=settings.messages,
        conversation_messages=settings.conversation_messages,
    )


async def _warm(orchestrator: Orchestrator) -> bool:
    """Import AutoGen before the first question needs it, and return whether that succeeded. Requests are answered
    meanwhile."""
    if not isinstance(orchestrator, SupportsWarm):
        return True
    return await attempt(f"{orchestrator.model} can't be made ready", orchestrator.warm)


async def _warm_again(orchestrator: Orchestrator, warmed: asyncio.Task[bool]) -> None:
    """Try again after a failure, such as a lack of file descriptors, until it succeeds."""
    succeeded = await warmed
    while not succeeded:
        await asyncio.sleep(WARM_SECONDS)
        succeeded = await _warm(orchestrator)


def _service(
    settings: Settings,
    parts: Parts,
    context: base.TransportContext,
    journal: Journal,
    gate: Gate,
    orchestrator: Orchestrator,
    warmed: asyncio.Future[bool],
) -> Service:
    drain = Drainer(context.bus, context.runs, settings.drain_seconds)
    login_routes = LoginRoutes(context.runs, gate).routes()
    transport_routes = [*chain.from_iterable(transport(context).routes() for transport in parts.transports)]
    readiness = Readiness(journal, lambda: drain.accepting)
    http_routes = HttpRoutes(
        context.runs,
        question_characters=settings.question_characters,
        readiness=readiness,
        about=lambda: views.about(
            orchestrator.about() if isinstance(orchestrator, SupportsAbout) else About(), ready=warmed.done()
        ),
    )
    return Service(
        asgi=_asgi(settings, gate, [*transport_routes, *login_routes, *http_routes.routes()]),
        gate=gate,
        socket_routes={route.path.encode(): route for route in transport_routes if isinstance(route, SocketRoute)},
        runs=context.runs,
        model=orchestrator.model,
        warmed=warmed,
        drain=drain,
        inbound=context.inbound,
    )


def _asgi(settings: Settings, gate: Gate, routes: Sequence[BaseRoute]) -> ASGIApp:
    """The gate comes before the proxies' headers, since it needs the connection's own address; and within CORS, so
    that a page of a listed origin can read a refusal."""
    app = Starlette(routes=routes, exception_handlers=HANDLERS)
    seen = ProxyHeadersMiddleware(cast(Any, app), list(settings.trusted_proxies))
    trusted = proxies.networks(settings.trusted_proxies)
    placed = proxies.ForwardedPrefix(cast(ASGIApp, seen), root_path=settings.root_path, trusted=trusted)
    return _cors(Guarded(placed, gate), settings.cors_origins)


def _context(settings: Settings, runs: Runs, bus: Bus, streams: LiveStreams) -> base.TransportContext:
    return base.TransportContext(
        runs=runs,
        bus=bus,
        streams=streams,
        question_characters=settings.question_characters,
        heartbeat_seconds=settings.heartbeat_seconds,
        send_seconds=settings.send_seconds,
        inbound=inbound(settings),
        connections=PrincipalConnections(settings.principal_connections, exempt(settings)),
    )


def _cors(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Answer preflights, and let pages of these origins read answers. The gate refuses all others."""
    every = [EVERY_ORIGIN] if EVERY_ORIGIN in origins else []
    return CORSMiddleware(
        app,
        allow_origins=every,
        allow_origin_regex=None if every else Origins(origins).pattern,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["*"],
        expose_headers=["X-Run-Id", "Location", "Retry-After"],
    )
