"""Calls to foreign code in threads of their own."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from typing import NoReturn, TypeVar

T = TypeVar("T")


async def in_thread(call: Callable[[], T]) -> T:
    """Call it in a new thread, and return or raise its outcome here, SystemExit included.

    A cancelled caller doesn't wait. A call that never returns then keeps only its own thread, and no process from
    ending: it is a daemon, and none of the server's workers.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Callable[[], T]] = loop.create_future()

    def work() -> None:
        result = _outcome(call)
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(_settle, outcome, result)

    threading.Thread(target=copy_context().run, args=(work,), name="team", daemon=True).start()
    return (await outcome)()


def _outcome(call: Callable[[], T]) -> Callable[[], T]:
    try:
        result = call()
    except BaseException as problem:  # noqa: BLE001 - it is raised where the call was awaited
        return raising(problem)
    return lambda: result


def raising(problem: BaseException) -> Callable[[], NoReturn]:
    """A function that raises `problem`. Unlike `set_exception` it passes on StopIteration and SystemExit, too."""

    def again() -> NoReturn:
        raise problem

    return again


def _settle(outcome: "asyncio.Future[Callable[[], T]]", result: Callable[[], T]) -> None:
    if not outcome.done():
        outcome.set_result(result)
