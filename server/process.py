"""Runs the application: a socket, uvicorn, and signals that shut it down.

uvicorn's own handlers close WebSockets at once and leave event streams open; ours drain before it exits.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import monotonic
from typing import Any, TypeVar, cast

import uvicorn

from askstream.server import console, stalls, versions
from askstream.server.app import Service, create_app
from askstream.server.auth import Gate
from askstream.server.auth.locality import is_loopback
from askstream.server.settings import Settings

log = logging.getLogger("__main__")

T = TypeVar("T")

# Seconds for open connections after the last run has ended. Their streams are complete by then.
CLOSE_SECONDS = 3
# Synchronous tools run in threads, and a cancelled one holds its thread until it returns. asyncio's default is a few
# more than there are processors: a handful of such tools would use them up for everybody.
MAX_THREADS = 64
WORKER_PREFIX = "worker"
# Seconds for threads and tasks that still work when all else has ended. An idle thread needs milliseconds.
EXIT_SECONDS = 1.0
# TCP_USER_TIMEOUT, as a multiple of our send deadline. The kernel can't tell a dead peer from a slow reader; we can, so
# our deadline must fire first.
USER_TIMEOUT_FACTOR = 4
# Bytes that the system buffers for one connection.
SEND_BUFFER = 256 * 1024
# Thresholds of the garbage collector. A collection blocks everything: one of 20,000 young objects for 10 ms and more,
# since ended teams are reference cycles; one of 2,000 for half a millisecond, and all of them together for no longer.
# Older generations are collected after a million objects at the earliest: otherwise the objects of thousands of viewers
# would be searched each time some viewers come.
GC_THRESHOLDS = (2_000, 500, 50)
# The interpreter's switch interval in seconds; Python's default is 0.005. A busy loop would make the journal's thread
# wait for that long at each statement, and a tool in a thread would make the loop wait at each event.
SWITCH_INTERVAL = 0.0005


class AddressInUse(Exception):
    """Something else listens there already, or the address is not this machine's."""


class Server(uvicorn.Server):
    """uvicorn without handlers of its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def listen(host: str, port: int, *, stalled_seconds: float) -> socket.socket:
    """Return a bound socket. Its connections inherit its limits on clients that don't read. Raises AddressInUse."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # By default a client that reads nothing absorbs 3.35 MB before a send waits. TCP_USER_TIMEOUT ends a dead one also
    # when nobody sends to it any more.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        listening.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(USER_TIMEOUT_FACTOR * stalled_seconds * 1000)
        )
    try:
        listening.bind((host, port))
    except OSError as problem:
        listening.close()
        raise AddressInUse(f"can't listen on {host}:{port}: {problem.strerror}; choose another port") from problem
    return listening


def url(listening: socket.socket) -> str:
    """Return the address of a bound socket."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def greeting(listening: socket.socket, app: Service) -> str:
    """Return the text for the person who has started a server. Raises ValueError if its token can't be written."""
    where = url(listening)
    lines = [f"askstream serves on {where}", f"  page   {where}/client", f"  model  {app.model}"]
    return "\n".join([*lines, *_access(listening, app.gate)])


def _access(listening: socket.socket, gate: Gate) -> list[str]:
    """Say how other machines get in. The token itself is for a terminal only: anything else may be a log."""
    is_open = not is_loopback(listening.getsockname()[0])
    if gate.mode == "none" and is_open:
        return ["  access everybody who reaches this address may do everything (ASKSTREAM_AUTH=none)"]
    if gate.mode == "hook" or gate.mode == "none" or (gate.mode == "auto" and not is_open):
        return []
    try:
        token = gate.own_token()
    except OSError as problem:
        raise ValueError(f"can't write the token to {gate.tokens.made}: {problem.strerror}") from problem
    if token is None:
        return [f"  tokens {gate.tokens.file}"]
    return [
        f"  open   {_reachable(listening)}/client#token={token}"
        if sys.stdout.isatty()
        else f"  token  {gate.tokens.made}"
    ]


def _reachable(listening: socket.socket) -> str:
    """Return an address for other machines: of a server on all addresses, the one that leads to the network."""
    host, port = listening.getsockname()[:2]
    if host not in ("0.0.0.0", "::"):  # noqa: S104
        return url(listening)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # chooses a route and sends nothing
        return f"http://{probe.getsockname()[0]}:{port}"
    return f"http://{socket.gethostname()}:{port}"


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's, if it is installed: a third less CPU for each event sent."""
    try:
        import uvloop
    except ImportError:  # not on Windows
        return None
    return uvloop.new_event_loop


def config(app: Service, *, direct: bool = True) -> uvicorn.Config:
    """Return uvicorn's configuration, with our protocols. `direct`: transports may take connections over."""
    return uvicorn.Config(
        app.asgi,
        lifespan="off",
        proxy_headers=False,  # the application reads them itself, under every server
        **_protocols(app, direct=direct),
        ws_max_size=app.inbound.message_bytes,
        ws_per_message_deflate=False,  # tens of KB a socket, for messages that are mostly small
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=CLOSE_SECONDS,
        timeout_keep_alive=cast(int, app.inbound.keep_alive_seconds),  # uvicorn passes it on to `call_later`
        backlog=app.inbound.backlog,
    )


def _protocols(app: Service, *, direct: bool) -> dict[str, Any]:
    """Return ours, or uvicorn's if its version wasn't tested: private names that ours use may have changed."""
    if not versions.warn({"uvicorn": uvicorn.__version__}, consequence=", so connections are plain ASGI, at more CPU"):
        return {"http": "httptools", "ws": "websockets-sansio"}
    from askstream.server.connections.uvicorn import HttpProtocol
    from askstream.server.connections.uvicorn_websocket import WebSocket

    http = partial(
        HttpProtocol, socket_routes=app.socket_routes, admitted=app.admitted, direct=direct, limits=app.inbound
    )
    return {"http": http, "ws": WebSocket}


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run an event loop until `main` has ended, and return its result.

    Foreign code may exit where nothing contains it, such as in a callback of its own. The loop then goes on. Ctrl-C
    ends it until the server has set its own handler.
    """
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        loop = runner.get_loop()
        serving = loop.create_task(main)
        while not serving.done():
            try:
                loop.run_until_complete(serving)
            except (SystemExit, KeyboardInterrupt) as problem:
                if serving.done() or _is_ctrl_c(problem):
                    raise
                log.exception("code of a team or a plug-in tried to end the server, which goes on")
        return serving.result()


def _is_ctrl_c(problem: BaseException) -> bool:
    return isinstance(problem, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler


async def serve(settings: Settings, listening: socket.socket, ready: Callable[[Service], None]) -> None:
    """Serve until a signal has been handled. Call `ready` once requests will be answered.

    Ends the process instead of returning if a thread or task that can't be stopped would keep it from ending.
    """
    workers = _tune()
    with stalls.reported():
        async with create_app(settings).open() as app:
            server = Server(config(app, direct=settings.direct))
            gc.freeze()  # all objects so far live as long as the server: they are never searched again
            gc.enable()
            app.warmed.add_done_callback(lambda _: gc.freeze())
            stop = GracefulShutdown(app, server)
            stop.on_signals()
            listening.listen(settings.backlog)
            ready(app)
            await server.serve(sockets=[listening])
            await stop.finished()
    if not await _all_ended(workers):
        log.warning("tools that can't be stopped still run; exiting without them")
        logging.shutdown()
        os._exit(0)


def _tune() -> ThreadPoolExecutor:
    """Tune the whole process for serving, and return the loop's threads. Not for a process that isn't ours."""
    console.ignore_input()
    workers = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix=WORKER_PREFIX)
    asyncio.get_running_loop().set_default_executor(workers)
    gc.set_threshold(*GC_THRESHOLDS)
    sys.setswitchinterval(SWITCH_INTERVAL)
    return workers


async def _all_ended(workers: ThreadPoolExecutor) -> bool:
    """Whether all threads and tasks end within EXIT_SECONDS. The interpreter would wait for them without a bound:
    for a synchronous tool's thread, and for a task that ignores its cancel. The log is closed by now."""
    workers.shutdown(wait=False, cancel_futures=True)
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    deadline = monotonic() + EXIT_SECONDS
    while busy := [task for task in tasks if not task.done()] or _threads():
        if monotonic() > deadline:
            return False
        await asyncio.sleep(EXIT_SECONDS / 100)
    return not busy


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(WORKER_PREFIX)]


class GracefulShutdown:
    """The first call drains and then stops; the second stops now."""

    def __init__(self, app: Service, server: uvicorn.Server) -> None:
        self._app, self._server = app, server
        self._draining: asyncio.Task[None] | None = None

    @property
    def app(self) -> Service:
        return self._app

    def on_signals(self) -> None:
        """Let SIGINT, SIGTERM and SIGHUP call it. For the main thread only.

        A terminal that is closed sends SIGHUP. Under nohup it is inherited as ignored, and stays so.
        """
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                asyncio.get_running_loop().add_signal_handler(number, self)

    def __call__(self) -> None:
        if self._draining is None:
            log.info("stopping: no new runs; a second signal stops at once")
            self._draining = asyncio.ensure_future(self._drain())
        else:
            self._draining.cancel()
            self._server.force_exit = self._server.should_exit = True

    async def finished(self) -> None:
        if self._draining is not None:
            await asyncio.wait({self._draining})

    async def _drain(self) -> None:
        try:
            await self._app.drain()
        finally:
            self._server.should_exit = True
