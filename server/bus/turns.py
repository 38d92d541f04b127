"""Who has much to catch up on takes turns with those who have, too, and with all else that the event loop does.

Reading from memory and writing to a client that takes everything never waits: a log of 10,000 events would go out in
one piece, and everybody live would wait for the end of it.
"""

import asyncio


class Turns:
    """At most one works in each turn of the event loop, in the order in which they ask."""

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        self._taken = asyncio.Lock()

    async def next(self) -> None:
        """Waits for a turn, in which the caller may work until it waits for anything. Safe to cancel."""
        async with self._taken:
            await asyncio.sleep(0)
