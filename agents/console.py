"""Serves `input` within runs: a person at a viewer is asked, and the server's console is never read.

A context variable has the run's way to ask. `input` is replaced once for the whole process, and so is the `submit` of
thread pools, which would lose the context. Outside of runs both do what they always did.
"""

import asyncio
import builtins
import concurrent.futures
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from threading import Thread
from typing import Any, TypeAlias

AskPerson: TypeAlias = Callable[[str], Awaitable[str]]
"""From a prompt to the person's input. It is awaited in the server's event loop."""
InputFunction: TypeAlias = Callable[..., Any]
"""A `UserProxyAgent`'s: from the prompt to the input; an async one gets a cancellation token as well."""

_ORIGINAL = builtins.input
_ORIGINAL_SUBMIT = ThreadPoolExecutor.submit


class InputInLoop(RuntimeError):
    """`input` was called in the event loop's own thread, where waiting for a person would stop every run."""

    def __init__(self, prompt: str) -> None:
        super().__init__(
            "input() was called in the event loop, where it would stop every run: "
            "use await asyncio.to_thread(input, prompt)"
        )
        self.prompt = prompt


@dataclass(frozen=True, slots=True)
class Asker:
    """A run's way to ask a person. `replies` are those that a repeated call of an async input function has already."""

    loop: asyncio.AbstractEventLoop
    ask: AskPerson
    replies: list[str] = field(default_factory=list[str])

    def reply(self, prompt: str) -> str:
        """Wait for the reply in the calling thread. In the event loop's thread, raise InputInLoop."""
        if _running_loop() is self.loop:
            if self.replies:
                return self.replies.pop(0)
            raise InputInLoop(prompt)
        try:
            return asyncio.run_coroutine_threadsafe(self._ask(prompt), self.loop).result()
        except concurrent.futures.CancelledError:  # an Exception; a tool may catch those and ask again for ever
            raise asyncio.CancelledError from None

    async def _ask(self, prompt: str) -> str:
        return await self.ask(prompt)


_asker: ContextVar[Asker | None] = ContextVar("asker", default=None)


def replace_input() -> None:
    """Replace `input` for the whole process. Idempotent; notebooks put their own back after each cell."""
    if not isinstance(builtins.input, _ServedInput):
        builtins.input = _ServedInput(builtins.input)
    ThreadPoolExecutor.submit = _submit


def serve_input(ask: AskPerson) -> None:
    """Let `input` call `ask` in this context, and in the tasks and threads that are started in it."""
    replace_input()
    _asker.set(Asker(asyncio.get_running_loop(), ask))


def reads_console(function: InputFunction) -> bool:
    """Whether it is `input` itself."""
    return function is _ORIGINAL or isinstance(function, _ServedInput)


def served(function: InputFunction, ask: AskPerson, *, is_async: bool) -> Callable[[str, Any], Awaitable[str]]:
    """An input function that calls `function` with `input` served by `ask`.

    A synchronous one runs in a thread of its own: the loop's threads are for tools, and people need minutes. An async
    one that calls `input` directly can't wait: it is called again once the person has replied, and gets all replies.
    """

    async def in_thread(prompt: str, _token: Any) -> str:
        serve_input(ask)
        return await _in_own_thread(function, prompt)

    async def in_loop(prompt: str, token: Any) -> str:
        replies: list[str] = []
        while True:
            _asker.set(Asker(asyncio.get_running_loop(), ask, list(replies)))
            try:
                return await function(prompt, token)
            except InputInLoop as question:
                replies.append(await ask(question.prompt))

    return _within(in_loop if is_async else in_thread)


async def _in_own_thread(function: InputFunction, prompt: str) -> Any:
    done: Future[Any] = Future()
    work = copy_context().run, _complete, done, function, prompt
    Thread(target=work[0], args=work[1:], name="person", daemon=True).start()
    return await asyncio.wrap_future(done)


def _complete(done: Future[Any], function: InputFunction, prompt: str) -> None:
    try:
        result = function(prompt)
    except BaseException as problem:  # noqa: BLE001 - the waiting task gets it
        _unless_cancelled(done, done.set_exception, problem)
    else:
        _unless_cancelled(done, done.set_result, result)


def _unless_cancelled(done: Future[Any], settle: Callable[[Any], None], value: Any) -> None:
    if done.set_running_or_notify_cancel():
        settle(value)


def _within(function: Callable[[str, Any], Awaitable[str]]) -> Callable[[str, Any], Awaitable[str]]:
    """Restore the caller's way to ask afterwards."""

    async def answer(prompt: str, token: Any) -> str:
        before = _asker.get()
        try:
            return await function(prompt, token)
        finally:
            _asker.set(before)

    return answer


def _submit(pool: ThreadPoolExecutor, function: Callable[..., Any], /, *args: Any, **options: Any) -> "Future[Any]":
    if _asker.get() is None:
        return _ORIGINAL_SUBMIT(pool, function, *args, **options)
    return _ORIGINAL_SUBMIT(pool, copy_context().run, function, *args, **options)


class _ServedInput:
    """Stands in `builtins` for `input`."""

    def __init__(self, original: Callable[[object], str]) -> None:
        self._original = original

    def __call__(self, prompt: object = "", /) -> str:
        asker = _asker.get()
        return self._original(prompt) if asker is None else asker.reply(str(prompt))


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
