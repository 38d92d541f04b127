"""Who has much to catch up on takes turns: in one turn of the event loop at most one of them works."""

import asyncio

from askstream.server.bus.turns import Turns


async def test_one_a_turn_of_the_loop_in_the_order_in_which_they_ask() -> None:
    """However many ask at once, and however soon they ask again."""
    turns, worked = Turns(), list[tuple[str, int]]()
    turn_of_loop = 0

    async def work(name: str) -> None:
        for _ in range(3):
            await turns.next()
            worked.append((name, turn_of_loop))

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        workers = [group.create_task(work(name)) for name in "abc"]
        while not all(worker.done() for worker in workers):
            await asyncio.sleep(0)
            turn_of_loop += 1
    assert [name for name, _ in worked] == list("abc" * 3)
    assert len({at for _, at in worked}) == 9


async def test_who_has_given_up_takes_nobodys_turn() -> None:
    """Those behind it are served, and those who come after them."""
    turns = Turns()
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        first, second, third = (group.create_task(turns.next()) for _ in range(3))
        await asyncio.sleep(0)
        first.cancel()
        second.cancel()
        await third
        await turns.next()
    assert first.cancelled()
    assert second.cancelled()
