"""`serve`: a server in somebody else's process, a script or a notebook, which it leaves as it is.

Nothing of the process is tuned here: no thresholds, threads, signal handlers or loggers of a notebook are changed.
"""

import asyncio
import difflib
import logging
import socket
import sys
import threading
from collections.abc import Generator, Sequence
from typing import Any

from askstream.server import process
from askstream.server.app import App, TeamFactory, create_app
from askstream.server.events.errors import AskstreamError
from askstream.server.journal import Journal
from askstream.server.runs import Orchestrator
from askstream.server.settings import Settings
from askstream.transports.base import TransportFactory

log = logging.getLogger("__main__")


def serve(
    team: str | TeamFactory | None = None,
    *,
    orchestrator: Orchestrator | str | None = None,
    journal: Journal | str | None = None,
    transports: Sequence[str | TransportFactory] | None = None,
    **settings: Any,
) -> "Handle":
    """Serves a team. The arguments are those of `create_app`, and the settings by name: `serve(make, port=0)`.

    In a script it blocks until SIGINT or SIGTERM, and drains. In a running event loop, as in a notebook's cell, it
    returns at once: `await` the handle to wait until the server answers, and `await handle.stop()` to end it.
    Raises TypeError for a setting that there isn't, ValueError for a value that can't be, and AddressInUse.
    """
    _check_names(settings)
    chosen = Settings(**settings)
    app = create_app(chosen, team=team, orchestrator=orchestrator, journal=journal, transports=transports)
    listening = process.listen(chosen.host, chosen.port, stalled_seconds=chosen.send_seconds)
    if _has_running_loop():
        return Handle(app, listening, direct=chosen.direct)
    with asyncio.Runner(loop_factory=process.loop_factory()) as runner:
        return runner.run(_until_stopped(app, listening, direct=chosen.direct))


class Handle:
    """A server in this event loop. `url` is where it answers, from the first moment: early requests wait."""

    def __init__(self, app: App, listening: socket.socket, *, direct: bool = True) -> None:
        listening.listen(process.BACKLOG)
        self.url = process.url(listening)
        self._app, self._listening, self._direct = app, listening, direct
        self._stopping: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        self._started: asyncio.Future[process.GracefulShutdown] = loop.create_future()
        self._serving = loop.create_task(self._serve())

    def __await__(self) -> Generator[Any, None, "Handle"]:
        """Waits until the server answers. Raises what kept it from starting."""
        yield from self.started().__await__()
        return self

    def __repr__(self) -> str:
        state = "has stopped" if self._serving.done() else f"serves on {self.url}; the page is {self.url}/client"
        return f"<askstream {state}>"

    def stop(self) -> "asyncio.Task[None]":
        """Drains and stops the server. It begins at once; await what it returns to see the end. Idempotent."""
        if self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_task(self._stop())
        return self._stopping

    async def started(self) -> process.GracefulShutdown:
        """As awaiting the handle does, for whoever has signals stop the server."""
        return await asyncio.shield(self._started)

    async def ended(self) -> None:
        """Waits until the server has stopped, whoever stopped it."""
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
            self._started.cancel()  # ends all waits for a start, and asyncio's wish to log that nobody waited

    def _failed(self, problem: Exception) -> None:
        log.error("askstream can't serve: %s", problem if isinstance(problem, AskstreamError) else repr(problem))
        if not self._started.done():
            self._started.set_exception(problem)


async def _until_stopped(app: App, listening: socket.socket, *, direct: bool) -> Handle:
    handle = Handle(app, listening, direct=direct)
    stop = await handle.started()
    if threading.current_thread() is threading.main_thread():
        stop.on_signals()
    sys.stdout.write(process.greeting(listening, stop.model) + "\n")
    sys.stdout.flush()
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
