"""`serve`: a server in the process of a script or a notebook.

Nothing of a notebook's process is changed: no thresholds, threads, signal handlers or loggers.
"""

import asyncio
import difflib
import logging
import socket
import threading
from collections.abc import Generator, Sequence
from typing import Any

from askstream.server import console, process
from askstream.server.app import App, SupportsRunStream, TeamFactory, create_app
from askstream.server.auth.setup import Auth
from askstream.server.events.errors import AskstreamError
from askstream.server.journal import Journal
from askstream.server.runs import Orchestrator
from askstream.server.settings import Settings
from askstream.transports.base import TransportFactory

log = logging.getLogger("__main__")


def serve(
    team: str | TeamFactory | SupportsRunStream | None = None,
    *,
    orchestrator: Orchestrator | str | None = None,
    journal: Journal | str | None = None,
    transports: Sequence[str | TransportFactory] | None = None,
    auth: Auth | None = None,
    **settings: Any,
) -> "Handle":
    """Serve a team. The arguments are those of `create_app`, and the settings by name: `serve(make, port=0)`.

    In a script it blocks until SIGINT or SIGTERM, and drains. In a running event loop, as in a notebook's cell, it
    returns at once: `await` the handle to wait until the server answers, and `await handle.stop()` to end it.
    Raises TypeError for an unknown setting, ValueError for an invalid value, and AddressInUse.
    """
    _check_names(settings)
    chosen = Settings(**settings)
    app = create_app(chosen, team=team, orchestrator=orchestrator, journal=journal, transports=transports, auth=auth)
    listening = process.listen(chosen.host, chosen.port, stalled_seconds=chosen.send_seconds)
    if _has_running_loop():
        return Handle(app, listening, direct=chosen.direct)
    return process.run(_until_stopped(app, listening, direct=chosen.direct))


class Handle:
    """A server in this event loop. It answers at `url`; requests before its start wait."""

    def __init__(self, app: App, listening: socket.socket, *, direct: bool = True) -> None:
        listening.listen()  # uvicorn sets the backlog
        self.url = process.url(listening)
        self._app, self._listening, self._direct = app, listening, direct
        self._stopping: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        self._started: asyncio.Future[process.GracefulShutdown] = loop.create_future()
        self._serving = loop.create_task(self._serve())

    def __await__(self) -> Generator[Any, None, "Handle"]:
        """Wait until the server answers. Raises the error of a failed start."""
        yield from self.started().__await__()
        return self

    def __repr__(self) -> str:
        state = "has stopped" if self._serving.done() else f"serves on {self.url}; the page is {self.url}/client"
        return f"<askstream {state}>"

    def stop(self) -> "asyncio.Task[None]":
        """Drain and stop the server. This begins at once; the returned task ends with the server. Idempotent."""
        if self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_task(self._stop())
        return self._stopping

    async def started(self) -> process.GracefulShutdown:
        """Wait until the server answers. Return its shutdown, which signals call."""
        return await asyncio.shield(self._started)

    async def ended(self) -> None:
        """Wait until the server has stopped."""
        await asyncio.wait({self._serving})

    async def _stop(self) -> None:
        if self._serving.done():
            return
        if self._started.done():
            self._started.result()()
        else:
            self._serving.cancel()
        await self.ended()

    async def _serve(self) -> None:
        try:
            async with self._app.open() as service:
                server = process.Server(process.config(service, direct=self._direct))
                stop = process.GracefulShutdown(service, server)
                self._started.set_result(stop)
                await server.serve(sockets=[self._listening])
                await stop.finished()
        except Exception as problem:  # noqa: BLE001 - the edge of the server's task
            self._failed(problem)
        finally:
            self._listening.close()
            self._started.cancel()  # ends all waits for a start; asyncio logs no error that nobody awaited

    def _failed(self, problem: Exception) -> None:
        log.error("askstream can't serve: %s", problem if isinstance(problem, AskstreamError) else repr(problem))
        if not self._started.done():
            self._started.set_exception(problem)


async def _until_stopped(app: App, listening: socket.socket, *, direct: bool) -> Handle:
    handle = Handle(app, listening, direct=direct)
    stop = await handle.started()
    if threading.current_thread() is threading.main_thread():
        stop.on_signals()
    console.say(process.greeting(listening, stop.app))
    await handle.ended()
    return handle


def _has_running_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _check_names(settings: dict[str, Any]) -> None:
    for name in settings.keys() - Settings.model_fields.keys():
        near = difflib.get_close_matches(name, Settings.model_fields, 1)
        raise TypeError(f"there is no setting {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
