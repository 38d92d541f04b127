"""A scope owns every task that a run starts, so that cancelling the run ends all of them.

AutoGen's own ways to cancel don't: a token cancelled during a tool call leaves the team waiting for ever, and
closing `run_stream` waits until the rest of the run has been paid for. So a context variable names the run's scope,
and the loop's task factory adds each task that is created under it. Ending a run cancels these tasks, including those
of nested teams and tools. The factory also contains what these tasks raise: see `server/foreign.py`.
"""

import asyncio
import logging
from collections.abc import Coroutine
from contextvars import Context, ContextVar, copy_context
from inspect import CORO_CREATED, getcoroutinestate
from types import CoroutineType
from typing import Any, TypeVar, cast

from askstream.server.events.errors import RunFailed
from askstream.server.foreign import ContainedCoroutine

log = logging.getLogger(__name__)

T = TypeVar("T")
_current: ContextVar["TaskScope | None"] = ContextVar("scope", default=None)

# A task may ignore its cancel, or clean up for a while: it is cancelled again every RECANCEL_SECONDS, for
# CANCEL_SECONDS in all. A run must have ended 5 s after its cancel, so there is a margin.
RECANCEL_SECONDS = 0.25
CANCEL_SECONDS = 3.0
_ANYIO = "TaskHandle._run_coro"


class TaskScope:
    """The tasks of one run. `vital` names coroutines on which others wait for ever if they die: that ends the run.

    `handlers` names coroutines that report their own exceptions, but neither SystemExit nor any other BaseException:
    that ends the run, too.
    """

    def __init__(self, vital: frozenset[str] = frozenset(), handlers: frozenset[str] = frozenset()) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._vital, self._handlers = vital, handlers
        self._ended = False
        self._vital_task_died = asyncio.get_running_loop().create_future()

    @property
    def tasks(self) -> int:
        """The number of tasks that have not ended."""
        return len(self._tasks)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work`, then end all tasks that it has started, also if this call is cancelled.

        After it returns or raises, no task of the run is left, except one that ignores its cancel for CANCEL_SECONDS;
        that one can't start tasks any more.
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
        """Own `task`. After the scope has ended, a new task is cancelled before its first step."""
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)
        # Never cancel an async generator's `aclose`, which the loop runs as a task when it collects one.
        if self._ended and isinstance(_coroutine(task), CoroutineType):
            _stop(task)

    def _on_task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if _died(task) and not self._ended and self._is_vital(task) and not self._vital_task_died.done():
            self._vital_task_died.set_result(None)

    def _is_vital(self, task: asyncio.Task[Any]) -> bool:
        name, contained = _name(task), task.get_coro()
        exited = isinstance(contained, ContainedCoroutine) and contained.exited
        return name in self._vital or (exited and name in self._handlers)

    async def _end(self) -> None:
        self._ended = True
        if not self._tasks:
            return
        ending = asyncio.get_running_loop().create_task(self._cancel_all())
        again: asyncio.CancelledError | None = None
        while not ending.done():
            try:
                await asyncio.shield(ending)
            except asyncio.CancelledError as second:  # a second cancel can't make it faster
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
            log.warning("%d tasks of a run ignore their cancellation: %s", len(names), ", ".join(names))


def install_task_factory(loop: asyncio.AbstractEventLoop) -> None:
    """Make `loop` add each new task to the scope that it is created under. An earlier task factory stays in use."""
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
        scope = _current.get() if context is None else context.get(_current)
        if scope is None:
            return self._make(loop, coro, **options)
        task = self._make(loop, ContainedCoroutine(coro), **options)
        scope.add(task)
        return task


def _plain_task(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
    return asyncio.Task(coro, loop=loop, **options)


def _stop(task: asyncio.Task[Any]) -> None:
    """Cancel `task`. One of anyio's that has not begun is cancelled after its first step, which awaits the coroutine
    that it wraps: otherwise Python warns that it was never awaited."""
    coro: Any = _coroutine(task)
    if (
        isinstance(coro, CoroutineType)
        and coro.__qualname__ == _ANYIO
        and getcoroutinestate(cast(Any, coro)) == CORO_CREATED
    ):
        task.get_loop().call_soon(task.cancel)
    else:
        task.cancel()


def _coroutine(task: asyncio.Task[Any]) -> Any:
    coro = task.get_coro()
    return coro.coroutine if isinstance(coro, ContainedCoroutine) else coro


def _died(task: asyncio.Task[Any]) -> bool:
    """Whether it was cancelled or failed. Reading the exception keeps asyncio from logging it with a traceback."""
    return task.cancelled() or task.exception() is not None


def _name(task: asyncio.Task[Any]) -> str:
    return getattr(_coroutine(task), "__qualname__", task.get_name()).rpartition(".")[2]
