"""Contains code that isn't ours: teams, tools, factories, model clients, plug-ins.

asyncio lets SystemExit and KeyboardInterrupt of any task and callback leave the event loop. So one tool
that calls `exit()`, as argparse and click do, would end the server and all its runs. The wrappers here turn such an
error into a ForeignExit, an ordinary exception that fails a call or a run. CancelledError stays what it is.
"""

from asyncio import CancelledError
from collections.abc import Awaitable, Coroutine, Generator
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")


class ForeignExit(Exception):
    """Foreign code raised SystemExit, KeyboardInterrupt, GeneratorExit or its own BaseException: the `__cause__`."""

    def __init__(self, problem: BaseException) -> None:
        super().__init__(f"{type(problem).__name__}: {problem}".removesuffix(": "))
        self.__cause__ = problem


_PASSED_ON = (Exception, CancelledError, GeneratorExit)


class Contained:
    """`with Contained():` around a call of foreign code, in a task or in a thread.

    GeneratorExit passes: it is also how Python closes the coroutine that holds the block. A task's edge contains it.
    """

    __slots__ = ()

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if problem is not None and not isinstance(problem, _PASSED_ON):
            raise ForeignExit(problem)


async def contained(work: Awaitable[T]) -> T:
    """Await foreign code, for a task that is made of it."""
    with Contained():
        return await work


class ContainedCoroutine(Coroutine[Any, Any, T]):
    """A coroutine around foreign code, for a task. `exited`: it has ended in a ForeignExit that was raised here.

    Not an `async def` around it: if a task is cancelled before its first step, the coroutine within must be closed
    too. Other attributes are those of the coroutine within, so that debuggers and anyio see what they expect.
    """

    __slots__ = ("_send", "_throw", "coroutine", "exited")

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self.coroutine, self.exited = coroutine, False
        self._send, self._throw = coroutine.send, coroutine.throw

    def send(self, value: Any, /) -> Any:
        try:
            return self._send(value)
        except (Exception, CancelledError):
            raise
        except BaseException as problem:
            self.exited = True
            raise ForeignExit(problem) from problem

    def throw(self, *problem: Any) -> Any:
        try:
            return self._throw(*problem)
        except (Exception, CancelledError):
            raise
        except BaseException as raised:
            self.exited = True
            raise ForeignExit(raised) from raised

    def close(self) -> None:
        self.coroutine.close()

    def __await__(self) -> Generator[Any, Any, T]:
        """Await the coroutine within. This contains nothing: a coroutine that is awaited has no task's edge."""
        return self.coroutine.__await__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.coroutine, name)
