"""Resources that a factory opens for one run, such as MCP sessions. They are closed when the run has ended.

A task of their own opens and closes them: anyio's task groups must be left in the task that entered them, and a run
that is cancelled must not interrupt the clean-up.
"""

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from functools import partial
from typing import Any, TypeVar, cast

from askstream.agents import failures
from askstream.agents.threads import in_thread, raising

T = TypeVar("T")
log = logging.getLogger(__name__)

# A run's end waits WAIT_SECONDS for its resources, and then leaves them to their own task: the answer is known. That
# task is cancelled after CLOSE_SECONDS.
WAIT_SECONDS = 0.5
CLOSE_SECONDS = 10.0


class Resources:
    """The resources of one run. `opened` is the team between them, as the factory yields it."""

    def __init__(self, spec: str, manager: AbstractAsyncContextManager[Any]) -> None:
        self._spec = spec
        self._opened: asyncio.Future[Callable[[], Any]] = asyncio.get_running_loop().create_future()
        self._closing = asyncio.Event()
        self.holder = asyncio.get_running_loop().create_task(self._hold(manager))

    async def open(self) -> Any:
        """Return what the factory yields, or raise what it raises. Call `close` afterwards in any case."""
        await asyncio.wait({self._opened})
        return self._opened.result()()

    async def close(self) -> None:
        """Close them, and wait for it, but not for long. Failures are logged: they must not replace a run's result."""
        self._closing.set()
        if not self._opened.done():
            self.holder.cancel()
        deadline = asyncio.get_running_loop().call_later(CLOSE_SECONDS, self.holder.cancel)
        self.holder.add_done_callback(lambda _: deadline.cancel())
        await asyncio.wait({self.holder}, timeout=WAIT_SECONDS)

    async def _hold(self, manager: AbstractAsyncContextManager[Any]) -> None:
        try:
            async with manager as made:
                self._opened.set_result(lambda: made)
                await self._closing.wait()
        except BaseException as problem:  # a task that ended in SystemExit would end the server
            if not self._opened.done():
                self._opened.set_result(raising(problem))
            else:
                log.warning("the resources of %s: %s", self._spec, failures.origin(problem))
                log.debug("the resources of %s", self._spec, exc_info=problem)


def manager_of(made: object) -> AbstractAsyncContextManager[Any] | None:
    """The context manager in `made`, which a factory has returned: a generator is one, too. None if it is none."""
    if inspect.isasyncgen(made):
        return asynccontextmanager(_returning(cast("AsyncGenerator[Any]", made)))()
    if inspect.isgenerator(made):
        return _in_threads(contextmanager(_returning(cast("Generator[Any]", made)))())
    if hasattr(made, "__aenter__"):
        return cast(AbstractAsyncContextManager[Any], made)
    return _in_threads(cast(AbstractContextManager[Any], made)) if hasattr(made, "__enter__") else None


def _returning(made: T) -> Callable[[], T]:
    return lambda: made


@asynccontextmanager
async def _in_threads(manager: AbstractContextManager[Any]) -> AsyncGenerator[Any]:
    made = await in_thread(manager.__enter__)
    try:
        yield made
    finally:
        await in_thread(partial(manager.__exit__, None, None, None))
