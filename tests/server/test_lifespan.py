"""Signals under another server: the drain comes first, and every handler is put back."""

import asyncio
import signal
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from askstream.server.lifespan import drain_on_signals

NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Host:
    """A server that handles signals. `order` is what happened."""

    def __init__(self) -> None:
        self.order: list[Any] = []
        self.may_continue = asyncio.Event()
        self.ended = asyncio.Event()

    def handle(self, number: int, _frame: FrameType | None) -> None:
        self.order.append(number)
        self.ended.set()

    async def drain(self) -> None:
        self.order.append("drain")
        await self.may_continue.wait()
        self.order.append("drained")


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    with handlers(host.handle):
        yield host


@contextmanager
def handlers(handler: Any) -> Generator[None]:
    before = [(number, signal.signal(number, handler)) for number in NUMBERS]
    yield
    for number, was in before:
        signal.signal(number, was)


async def turn() -> None:
    """Wait until a signal's handler has been called, and the event loop has acted on it."""
    for _ in range(3):
        await asyncio.sleep(0)


@pytest.mark.parametrize("number", NUMBERS)
async def test_the_drain_goes_before_the_servers_own_handler(host: Host, number: int) -> None:
    with drain_on_signals(host.drain):
        signal.raise_signal(number)
        await turn()
        assert host.order == ["drain"]
        host.may_continue.set()
        await asyncio.wait_for(host.ended.wait(), 10)
        assert host.order == ["drain", "drained", number]
    assert [signal.getsignal(number) for number in NUMBERS] == [host.handle, host.handle]


async def test_a_second_signal_ends_the_drain_and_both_are_handled(host: Host) -> None:
    """uvicorn stops by force at the second Ctrl-C, so it has to receive two."""
    with drain_on_signals(host.drain):
        signal.raise_signal(signal.SIGTERM)
        await turn()
        signal.raise_signal(signal.SIGINT)
        await asyncio.wait_for(host.ended.wait(), 10)
        await turn()
    assert host.order == ["drain", signal.SIGTERM, signal.SIGINT]


@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler])
async def test_a_signal_that_nobody_handles_is_left_alone(host: Host, handler: Any) -> None:
    with handlers(handler), drain_on_signals(host.drain):
        assert [signal.getsignal(number) for number in NUMBERS] == [handler, handler]


async def test_a_handler_that_came_later_stays(host: Host) -> None:
    def later(_number: int, _frame: FrameType | None) -> None: ...

    with drain_on_signals(host.drain):
        signal.signal(signal.SIGTERM, later)
    assert signal.getsignal(signal.SIGTERM) is later
    assert signal.getsignal(signal.SIGINT) == host.handle


async def test_outside_the_main_thread_nothing_is_changed(host: Host) -> None:
    """Python would refuse to."""
    seen: list[Any] = []

    async def run() -> None:
        with drain_on_signals(host.drain):
            seen.extend(signal.getsignal(number) for number in NUMBERS)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    await asyncio.to_thread(thread.join)
    assert seen == [host.handle, host.handle]
