"""One viewer on one connection: caught up, the run's broadcast writes to it; behind, a task pulls for it.

catching up --(caught up)--------------------------------------> live
live --(the connection is paused, or the broadcast lets go)----> catching up
live, catching up --(the log is complete, the server drains)---> done
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from askstream.server.bus import Viewer
from askstream.server.connections import Connection
from askstream.transports.formats import Encoding, WireFormat

Spawn: TypeAlias = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None] | None"]
"""Runs a task and deals with what it raises; None where the connection is being closed."""


class Delivery:
    """`begin` once; `pause` whenever the connection is paused; `stop` at the end, whatever the state.

    `done` is called once everything has been written: with True where this server is going away, False where the log
    is complete.
    """

    __slots__ = ("_connection", "_done", "_encoding", "_spawn", "_task", "viewer")

    def __init__(
        self,
        viewer: Viewer,
        connection: Connection,
        wire_format: WireFormat,
        *,
        heartbeat_seconds: float,
        spawn: Spawn,
        done: Callable[[bool], None],
    ) -> None:
        self.viewer, self._connection, self._spawn, self._done = viewer, connection, spawn, done
        self._encoding = Encoding(wire_format, connection.frame, heartbeat_seconds)
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        connection = self._connection
        if connection.is_paused or not self.viewer.subscribe(self, connection.write, self._encoding):
            self._pull()

    def pause(self) -> None:
        """The client has enough to read. Nothing is kept for this viewer but its cursor."""
        if not self.viewer.is_closed:
            self.viewer.unsubscribe()
            self._pull()

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self.viewer.close()

    def on_ended(self) -> None:
        self._finish(drained=False)

    def on_detached(self) -> None:
        self._pull()

    def _pull(self) -> None:
        if self._task is None:
            self._task = self._spawn(self._catch_up())

    async def _catch_up(self) -> None:
        """Raises AskstreamError where the log can't be read."""
        connection, viewer = self._connection, self.viewer
        try:
            if connection.is_paused:
                await connection.writable()
            while not viewer.subscribe(self, connection.write, self._encoding) and await self._move():
                await connection.writable()
        finally:
            self._task = None

    async def _move(self) -> bool:
        """Pull once and write what is new; whether more follows. While the client is slow nothing is held for it."""
        batch = await self.viewer.step()
        if batch.has_news:
            await self._connection.send(self._encoding.encode(self.viewer.run_id, batch))
        if batch.ended or batch.drained:
            self._finish(drained=batch.drained)
            return False
        return True

    def _finish(self, *, drained: bool) -> None:
        self.viewer.close()
        self._done(drained)
