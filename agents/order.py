"""Keeps the turns and texts that agents send directly behind the messages that take AutoGen's way.

A message goes through AutoGen's runtime and queues before the runner gets it. The beginning of a turn and a model's
text don't. So both wait here until the runner has handled all messages that agents yielded before.
"""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

# Loop iterations in which a message of an inner team's manager reaches the agent that runs the team.
IN_TRANSIT = 3
# A custom agent may keep an inner agent's messages to itself. A message that an idle runner didn't get in this time
# won't come; it takes less than a millisecond otherwise.
LOST_SECONDS = 0.1


class MessageOrder:
    """The messages of one run that are on their way to the runner."""

    def __init__(self) -> None:
        self._under_way: dict[str, str] = {}  # source by id
        self._seen: set[str] = set()
        self._silent: set[str] = set()  # sources whose messages never come
        self._busy = False
        self._sent = self._handled = 0
        self._progress = asyncio.Event()

    def sent(self) -> None:
        """The team has put a message into the queue that the runner's stream reads from."""
        self._sent += 1

    def skips(self, message_id: str) -> None:
        """A message won't come to the runner, or has come already."""
        self._seen.add(message_id)

    def yielded(self, message_id: str, source: str) -> None:
        """An agent has yielded a message."""
        if source not in self._silent:
            self._under_way[message_id] = source

    def heard(self, message_id: str, source: str) -> None:
        """An agent inside another got a message that may still be on its way to the runner, such as a tool's task."""
        if message_id not in self._seen:
            self.yielded(message_id, source)

    @contextmanager
    def handling(self, message_id: str) -> Generator[None]:
        """The runner handles a message."""
        self._busy = True
        try:
            yield
        finally:
            self._busy = False
            self._handled += 1
            self._under_way.pop(message_id, None)
            self._seen.add(message_id)
            self._progress.set()

    async def settled(self) -> None:
        """As `caught_up`, and the messages of the team's manager are handled as well."""
        for _ in range(IN_TRANSIT):
            await asyncio.sleep(0)
        await self.caught_up()

    async def caught_up(self) -> None:
        """Return when the runner has handled all messages that were yielded before this call."""
        sent, due = self._sent, set(self._under_way)
        while self._handled < sent or not due.isdisjoint(self._under_way):
            self._progress.clear()
            try:
                async with asyncio.timeout(LOST_SECONDS):
                    await self._progress.wait()
            except TimeoutError:
                if not self._busy:
                    self._give_up(sent, due)
                    return

    def _give_up(self, sent: int, due: set[str]) -> None:
        self._handled = max(self._handled, sent)
        lost = due.intersection(self._under_way)
        self._silent.update(self._under_way.pop(message_id) for message_id in lost)
