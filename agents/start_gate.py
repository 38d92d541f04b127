"""Lets runs begin one after the other, so that a rush of questions doesn't hold up the runs that are speaking.

AutoGen takes milliseconds to set a team up, in slices between which the event loop turns. Three hundred set-ups at
once make a turn of as many slices; one at a time make a turn of one slice, and all of them take no longer.
"""

import asyncio

# Turns of the event loop that each run has to itself. AutoGen takes seven until the first agent's turn begins. Counted,
# not awaited: a team that waits for something else, its factory's database say, is no reason to keep others waiting.
TURNS = 8


class Turnstile:
    """For one event loop. Who is cancelled while waiting is skipped."""

    def __init__(self) -> None:
        self._taken = asyncio.Lock()

    async def enter(self) -> None:
        """Returns when it is the caller's turn, first come, first served. There is nothing to give back."""
        await self._taken.acquire()
        self._turn(TURNS)

    def _turn(self, left: int) -> None:
        if left:
            asyncio.get_running_loop().call_soon(self._turn, left - 1)
        else:
            self._taken.release()
