"""A scope holds every task that is born under it, and lets go of none before it has ended."""

import asyncio
import gc
import warnings
from typing import Any

import anyio
import pytest

from askstream.agents.scope import TaskScope, install_task_factory
from askstream.server.events.errors import RunFailed
from tests.timing import PATIENCE


async def sleep_forever() -> None:
    await asyncio.Event().wait()


async def test_tasks_of_tasks_belong_to_the_scope() -> None:
    """However deep: all of them end with it, though their parents forgot about them."""
    born: list[asyncio.Task[None]] = []
    all_born = asyncio.Event()

    async def child(depth: int) -> None:
        if depth:
            born.append(asyncio.ensure_future(child(depth - 1)))
        else:
            all_born.set()
        await sleep_forever()

    async def work() -> str:
        born.append(asyncio.ensure_future(child(3)))
        await all_born.wait()
        return "done"

    scope = TaskScope()
    assert await scope.run(work()) == "done"
    assert [task.cancelled() for task in born] == [True] * 4
    assert scope.tasks == 0


async def test_tasks_of_others_are_left_alone() -> None:
    """What was born outside, or before, goes on."""
    outside = asyncio.ensure_future(sleep_forever())
    await TaskScope().run(asyncio.sleep(0))
    later = asyncio.ensure_future(sleep_forever())
    await asyncio.sleep(0)
    assert not outside.done()
    assert not later.done()
    outside.cancel()
    later.cancel()


async def test_two_scopes_do_not_mix() -> None:
    """Each has its own tasks, at the same time in the same loop."""
    first, second, gate = TaskScope(), TaskScope(), asyncio.Event()

    async def work(children: int) -> None:
        for _ in range(children):
            asyncio.ensure_future(sleep_forever())  # noqa: RUF006 - that nobody keeps it is the point
        await gate.wait()

    runs = [asyncio.ensure_future(first.run(work(2))), asyncio.ensure_future(second.run(work(5)))]
    async with asyncio.timeout(PATIENCE):
        while (first.tasks, second.tasks) != (3, 6):  # noqa: ASYNC110 - a task that begins has no event of its own
            await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*runs)
    assert (first.tasks, second.tasks) == (0, 0)


async def test_an_error_comes_out_as_it_is() -> None:
    """And ends the rest."""

    async def fails() -> None:
        asyncio.ensure_future(sleep_forever())  # noqa: RUF006
        raise LookupError("mine")

    scope = TaskScope()
    with pytest.raises(LookupError, match="mine"):
        await scope.run(fails())
    assert scope.tasks == 0


async def test_work_that_cancels_itself_is_not_taken_for_a_cancelled_run() -> None:
    """Nobody asked for it, so the run has failed."""

    async def cancels() -> None:
        raise asyncio.CancelledError

    with pytest.raises(RunFailed):
        await TaskScope().run(cancels())


async def test_the_death_of_a_vital_task_ends_the_scope() -> None:
    """Whoever waits for it would wait for ever."""

    async def vital() -> None:
        raise ValueError("nobody hears this")

    async def work() -> None:
        asyncio.ensure_future(vital())  # noqa: RUF006
        await sleep_forever()

    with pytest.raises(RunFailed):
        await asyncio.wait_for(TaskScope(frozenset({"vital"})).run(work()), 2)


async def test_a_factory_that_was_there_goes_on_working() -> None:
    """Filing is laid around it, once."""
    made: list[str] = []
    loop = asyncio.get_running_loop()

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(getattr(coro, "__name__", "?"))
        return asyncio.Task(coro, loop=loop, **options)

    before = loop.get_task_factory()
    loop.set_task_factory(factory)
    try:
        install_task_factory(loop)
        ours = loop.get_task_factory()
        await TaskScope().run(sleep_a_little())
        assert loop.get_task_factory() is ours
    finally:
        loop.set_task_factory(before)
    assert made.count("sleep_a_little") == 1


async def sleep_a_little() -> None:
    await asyncio.sleep(0)


async def test_a_task_group_of_anyios_ends_without_a_complaint() -> None:
    """Its tasks wrap coroutines: one that is cancelled before it begins would leave its own never awaited."""

    async def work() -> None:
        begun.set()
        try:
            await sleep_forever()
        finally:
            async with anyio.create_task_group() as group:
                group.start_soon(sleep_forever)

    begun = asyncio.Event()
    running = asyncio.ensure_future(TaskScope().run(work()))
    await begun.wait()
    running.cancel()
    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        await asyncio.wait({running})
        gc.collect()
    assert [str(complaint.message) for complaint in complaints] == []


async def test_an_async_generator_left_open_may_close_itself() -> None:
    """Its clean-up is a task too, born when it is collected; cutting that off would leak what it holds."""
    closed = asyncio.Event()

    async def numbers() -> Any:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            closed.set()

    async def work() -> None:
        kept.append(numbers())
        await anext(kept[0])
        asyncio.get_running_loop().call_later(0.01, kept.clear)  # inside: the run's context, after its end

    kept: list[Any] = []
    await TaskScope().run(work())
    await asyncio.wait_for(closed.wait(), 2)
