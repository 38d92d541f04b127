"""Ends streams whose token was revoked, or has expired, while they were open."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from askstream.server.auth.access import Access

# PROTOCOL.md promises 15 s.
CHECK_SECONDS = 5.0


class Revocable(Protocol):
    """A stream or a socket."""

    def revoked(self) -> None:
        """End it: its client may read no more."""
        ...


class LiveStreams:
    """The open streams whose access can end. `is_valid` decides whether it has."""

    def __init__(self, is_valid: Callable[[Access], bool], *, seconds: float = CHECK_SECONDS) -> None:
        self._is_valid, self._seconds = is_valid, seconds
        self._streams: dict[Revocable, Access] = {}

    def add(self, stream: Revocable, access: Access) -> None:
        if access.key or access.expires_at is not None:
            self._streams[stream] = access

    def discard(self, stream: Revocable) -> None:
        """Forget a stream that has ended. Idempotent."""
        self._streams.pop(stream, None)

    def check(self) -> None:
        """End the streams whose access has ended. Thousands of streams share few accesses: each is looked at once."""
        ended = {access for access in set(self._streams.values()) if not self._is_valid(access)}
        for stream in [stream for stream, access in self._streams.items() if access in ended]:
            self.discard(stream)
            stream.revoked()

    async def check_periodically(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            self.check()
