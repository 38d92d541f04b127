"""Who has much to catch up on takes turns with those who have, too, and with all else that the event loop does.

Reading from memory and writing to a client that takes everything never waits: a log of 10,000 events would go out in
one piece, and everybody live would wait for the end of it.
"""

import asyncio
from collections import deque


class Turns:
    """One in each turn of the event loop at most, in the order in which they ask."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def next(self) -> None:
        """Waits for the caller's turn, which ends when it asks for another. Safe to cancel."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._give)
        turn = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _give(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                break
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._give)
