"""A scope owns every task that is created under it, and doesn't end before all of them have."""

import asyncio
import gc
import warnings
from typing import Any

import anyio
import pytest

from askstream.agents.scope import TaskScope, install_task_factory
from askstream.server.events.errors import RunFailed
from tests.timing import GLANCE, PATIENCE


async def sleep_forever() -> None:
    await asyncio.Event().wait()


async def test_tasks_of_tasks_belong_to_the_scope() -> None:
    """At any depth: all of them end with it, though their parents keep no reference."""
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
    """Tasks created outside, or before, continue."""
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
            asyncio.ensure_future(sleep_forever())  # noqa: RUF006 - the test needs a task without a reference
        await gate.wait()

    runs = [asyncio.ensure_future(first.run(work(2))), asyncio.ensure_future(second.run(work(5)))]
    async with asyncio.timeout(PATIENCE):
        while (first.tasks, second.tasks) != (3, 6):  # noqa: ASYNC110 - a task that begins has no event of its own
            await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*runs)
    assert (first.tasks, second.tasks) == (0, 0)


async def test_an_error_is_raised_unchanged() -> None:
    """And the other tasks end."""

    async def fails() -> None:
        asyncio.ensure_future(sleep_forever())  # noqa: RUF006
        raise LookupError("mine")

    scope = TaskScope()
    with pytest.raises(LookupError, match="mine"):
        await scope.run(fails())
    assert scope.tasks == 0


async def test_work_that_cancels_itself_fails_the_run() -> None:
    """It doesn't count as a cancelled run."""

    async def cancels() -> None:
        raise asyncio.CancelledError

    with pytest.raises(RunFailed):
        await TaskScope().run(cancels())


async def test_the_death_of_a_vital_task_ends_the_scope() -> None:
    """The tasks that wait for it would wait for ever."""

    async def vital() -> None:
        raise ValueError("nobody hears this")

    async def work() -> None:
        asyncio.ensure_future(vital())  # noqa: RUF006
        await sleep_forever()

    with pytest.raises(RunFailed):
        await asyncio.wait_for(TaskScope(frozenset({"vital"})).run(work()), 2)


@pytest.mark.parametrize("kind", [SystemExit, ValueError])
async def test_a_handler_that_exits_ends_the_scope(kind: type[BaseException]) -> None:
    """It reports exceptions itself, and nothing else. Others would wait for its report for ever."""

    async def handler() -> None:
        raise kind

    async def work() -> None:
        asyncio.ensure_future(handler())  # noqa: RUF006
        await asyncio.sleep(10 * GLANCE)

    running = TaskScope(handlers=frozenset({"handler"})).run(work())
    if kind is ValueError:
        await running
    else:
        with pytest.raises(RunFailed):
            await running


async def test_an_earlier_task_factory_stays_in_use() -> None:
    """It is wrapped once."""
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


async def test_a_task_group_of_anyios_ends_without_a_warning() -> None:
    """Its tasks wrap coroutines: a task cancelled before it begins would leave its own never awaited."""

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
    """The loop runs its clean-up as a task when it is collected; cancelling that would leak its resources."""
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
        asyncio.get_running_loop().call_later(0.01, kept.clear)  # runs in the run's context, after its end

    kept: list[Any] = []
    await TaskScope().run(work())
    await asyncio.wait_for(closed.wait(), 2)
