"""The application's start and end under other servers and in host applications.

ASGI's shutdown comes too late for a drain: uvicorn first waits for all streams, which don't end by themselves. So our
signal handler drains: viewers get the notice, runs get their time. Then it calls the server's own handler.
"""

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from types import FrameType
from typing import Any, TypeAlias

from starlette.types import Receive, Send

from askstream.server.events.errors import AskstreamError

log = logging.getLogger("__main__")

DrainFunction: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
SignalHandler: TypeAlias = Callable[[int, FrameType | None], Any]


async def serve_lifespan(startup: AbstractAsyncContextManager[None], receive: Receive, send: Send) -> None:
    """Speak ASGI's lifespan protocol: enter `startup` at the start, and leave it at the shutdown."""
    async with AsyncExitStack() as stack:
        await receive()
        problem = await _problem_of(stack.enter_async_context(startup))
        if problem is not None:
            await send({"type": "lifespan.startup.failed", "message": f"askstream can't start: {problem}"})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def _problem_of(startup: Coroutine[Any, Any, None]) -> AskstreamError | ValueError | None:
    """Return the error of settings that can't be followed: servers would print the traceback of a raised one."""
    try:
        await startup
    except (AskstreamError, ValueError) as problem:
        return problem
    return None


@contextmanager
def drain_on_signals(drain: DrainFunction) -> Generator[None]:
    """Within the block, let SIGINT and SIGTERM start `drain`, and call their handlers after it.

    A second signal ends the drain. Signals without a handler are left alone. Outside the main thread nothing is
    done: Python handles no signals there. The handlers are put back at the end, unless others have replaced ours.
    """
    wrapped = _wrap_handlers(drain) if threading.current_thread() is threading.main_thread() else {}
    for number, (_, ours) in wrapped.items():
        signal.signal(number, ours)
    try:
        yield
    finally:
        for number, (before, ours) in wrapped.items():
            if signal.getsignal(number) is ours:
                signal.signal(number, before)


def _wrap_handlers(drain: DrainFunction) -> dict[int, tuple[SignalHandler, SignalHandler]]:
    """Return the handler and ours, for each signal that has one."""
    draining = _Draining(drain, asyncio.get_running_loop())
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    return {
        number: (handler, draining.before(handler))
        for number, handler in handlers.items()
        if callable(handler) and handler is not signal.default_int_handler
    }


class _Draining:
    """A drain that signals start, and the handlers that wait for its end."""

    def __init__(self, drain: DrainFunction, loop: asyncio.AbstractEventLoop) -> None:
        self._drain, self._loop = drain, loop
        self._task: asyncio.Task[None] | None = None

    def before(self, handler: SignalHandler) -> SignalHandler:
        """Return a signal handler. Python calls it between any two instructions, so the event loop does the rest."""

        def handle(number: int, _frame: FrameType | None) -> None:
            self._loop.call_soon_threadsafe(self._begin, lambda: handler(number, None))

        return handle

    def _begin(self, then: Callable[[], Any]) -> None:
        """Start the drain at the first signal, and end it at a later one. Each handler is called after its end."""
        if self._task is None:
            log.info("stopping: no new runs; a second signal stops at once")
            self._task = self._loop.create_task(self._drain())
        else:
            self._task.cancel()
        self._task.add_done_callback(lambda _: then())
