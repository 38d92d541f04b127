"""The events that every server under test publishes when the generator allows them."""

import asyncio
import re
import time
from collections.abc import AsyncGenerator
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

AGENT = "PlanningAgent"
# With it an event is about 300 bytes long, envelope included.
_PADDING = "handing the partial answer over to the next agent, with its sources"
_RUN_ID = "0" * 32
_LIMIT = re.compile(rb"upto (\d{7})\.(\d\d)\n")
_LIMIT_BYTES = 16
# Independent runs don't publish at the same moment: their events are spread over so many parts of a tick.
PARTS = 20


def message(number: int) -> str:
    """Return the text of one event, with the mark that viewers.c looks for: the time of publishing, and the number."""
    return f"^{time.monotonic_ns():019d}.{number:07d} {_PADDING}"


def envelope(number: int) -> dict[str, Any]:
    """Return the event in our server's form, for the peers: all servers send the same bytes."""
    return {
        "event": {
            "event_type": "agent_thinking",
            "timestamp": "2026-01-01T00:00:00.000Z",
            "agent_name": AGENT,
            "message": message(number),
            "data": {"progress": 25},
            "id": number + 1,
            "run_id": _RUN_ID,
        }
    }


class Allowance:
    """The number of events that each run may publish. The generator raises it over its control connection.

    A run belongs to one of PARTS parts. "upto 0000007.03" allows 7 events to all runs, and 8 to parts 0, 1 and 2.
    """

    def __init__(self) -> None:
        self._limits = [0] * PARTS
        self._raised = [asyncio.Event() for _ in range(PARTS)]
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Read bytes of the control connection, cut anywhere. Everything but limits is ignored."""
        text = self._rest + data
        self._rest = text[-_LIMIT_BYTES + 1 :]
        for limit, first_parts in _LIMIT.findall(text):
            for part, raised in enumerate(self._raised):
                allowed = int(limit) + (part < int(first_parts))
                if allowed > self._limits[part]:
                    self._limits[part] = allowed
                    raised.set()

    async def control(self, request: Request) -> Response:
        """Serve the control connection: a request whose body goes on for as long as the generator measures."""
        try:
            async for part in request.stream():
                self.feed(part)
        except ClientDisconnect:
            pass
        return Response(status_code=204)

    async def numbers(self, part: int = 0) -> AsyncGenerator[int]:
        """Yield the allowed numbers from 0 on, each in its own iteration of the event loop, like agents' events."""
        number = 0
        while True:
            while number >= self._limits[part]:
                self._raised[part].clear()
                await self._raised[part].wait()
            yield number
            number += 1
            await asyncio.sleep(0)
