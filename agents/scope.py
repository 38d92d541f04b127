"""Everything that a run starts belongs to it, so that cancelling it ends it, whatever is going on inside.

Cancelling AutoGen's own way doesn't: a token cancelled during a tool call leaves the team waiting for ever, and
closing `run_stream` waits until the rest of the run has been paid for. So a run's work happens under a context
variable, and the loop's task factory files each task that is born under it with the run's scope. To end a run is
then to cancel its tasks, nested teams and tools included, without knowing anything about who made them.
"""

import asyncio
import logging
from collections.abc import Coroutine
from contextvars import Context, ContextVar, copy_context
from inspect import CORO_CREATED, getcoroutinestate
from types import CoroutineType
from typing import Any, TypeVar

from askstream.server.events.errors import RunFailed

log = logging.getLogger(__name__)

T = TypeVar("T")
_current: ContextVar["TaskScope | None"] = ContextVar("scope", default=None)

# A task may ignore being cancelled, and may need a moment to clean up: it is asked again every RECANCEL_SECONDS until
# CANCEL_SECONDS are over. A run must have ended 5 s after its cancel, so there is a margin.
RECANCEL_SECONDS = 0.25
CANCEL_SECONDS = 3.0
_ANYIO = "TaskHandle._run_coro"


class TaskScope:
    """The tasks of one run. `vital` names coroutines whose death nobody inside notices: it ends the run."""

    def __init__(self, vital: frozenset[str] = frozenset()) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._vital = vital
        self._ended = False
        self._vital_task_died = asyncio.get_running_loop().create_future()

    @property
    def tasks(self) -> int:
        """How many tasks of the run are alive."""
        return len(self._tasks)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Does `work` and ends everything that it has started, also when this call is cancelled.

        When it returns or raises, no task of the run is left, except one that went on ignoring its cancel for
        CANCEL_SECONDS; that one can start nothing any more.
        """
        loop = asyncio.get_running_loop()
        install_task_factory(loop)
        context = copy_context()
        context.run(_current.set, self)
        driver = loop.create_task(work, context=context)
        try:
            await asyncio.wait((driver, self._vital_task_died), return_when=asyncio.FIRST_COMPLETED)
            if driver.done() and not driver.cancelled():
                return driver.result()
            raise RunFailed("team_failed", "A part of the team stopped in the middle of its work; ask again.")
        finally:
            await self._end()

    def add(self, task: asyncio.Task[Any]) -> None:
        """Takes `task` in. Once the scope has ended a new task is cancelled before its first step."""
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)
        # An async generator's `aclose`, which the loop turns into a task when one is collected, may always run.
        if self._ended and isinstance(task.get_coro(), CoroutineType):
            _stop(task)

    def _on_task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if _died(task) and not self._ended and _name(task) in self._vital and not self._vital_task_died.done():
            self._vital_task_died.set_result(None)

    async def _end(self) -> None:
        self._ended = True
        if not self._tasks:
            return
        ending = asyncio.get_running_loop().create_task(self._cancel_all())
        again: asyncio.CancelledError | None = None
        while not ending.done():
            try:
                await asyncio.shield(ending)
            except asyncio.CancelledError as second:  # asked to hurry: the tasks are being ended as fast as can be
                again = second
        if again is not None:
            raise again

    async def _cancel_all(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CANCEL_SECONDS
        while self._tasks and loop.time() < deadline:
            for task in self._tasks:
                _stop(task)
            await asyncio.wait(self._tasks, timeout=RECANCEL_SECONDS)
        if self._tasks:
            names = sorted(_name(task) for task in self._tasks)
            log.warning("%d tasks of a run ignore that they were cancelled: %s", len(names), ", ".join(names))


def install_task_factory(loop: asyncio.AbstractEventLoop) -> None:
    """Makes `loop` file each new task with the scope that it is born under. A factory that is there goes on working."""
    present = loop.get_task_factory()
    if not isinstance(present, _ScopeTaskFactory):
        loop.set_task_factory(_ScopeTaskFactory(present))


class _ScopeTaskFactory:
    def __init__(self, inner: Any) -> None:
        self._make = inner or _plain_task

    def __call__(
        self, loop: asyncio.AbstractEventLoop, coro: Any, *, context: Context | None = None, **options: Any
    ) -> Any:
        if context is not None:
            options["context"] = context
        task = self._make(loop, coro, **options)
        scope = _current.get() if context is None else context.get(_current)
        if scope is not None:
            scope.add(task)
        return task


def _plain_task(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
    return asyncio.Task(coro, loop=loop, **options)


def _stop(task: asyncio.Task[Any]) -> None:
    """Cancels `task`, which takes no further step. One of anyio's that has not begun may take its first one, which
    awaits the coroutine that it wraps: Python would complain about one that was never awaited."""
    coro = task.get_coro()
    if isinstance(coro, CoroutineType) and coro.__qualname__ == _ANYIO and getcoroutinestate(coro) == CORO_CREATED:
        task.get_loop().call_soon(task.cancel)
    else:
        task.cancel()


def _died(task: asyncio.Task[Any]) -> bool:
    """Whether it was cancelled or failed. Asking for the exception keeps asyncio from logging it with a traceback."""
    return task.cancelled() or task.exception() is not None


def _name(task: asyncio.Task[Any]) -> str:
    return getattr(task.get_coro(), "__qualname__", task.get_name()).rpartition(".")[2]
