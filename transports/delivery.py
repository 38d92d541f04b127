"""One viewer on one connection. The run's broadcast writes to a viewer that is caught up; a task pulls for one behind.

catching up --(caught up)--------------------------------------> live
live --(the connection is paused, or the broadcast lets go)----> catching up
live, catching up --(the log is complete, the server drains)---> done
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeAlias

from askstream.server.bus import Viewer
from askstream.server.connections import Connection
from askstream.transports.formats import FramedFormat

Spawn: TypeAlias = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None] | None"]
"""Runs a task and deals with what it raises; None where the connection is being closed."""


@dataclass(slots=True, eq=False)
class Delivery:
    """`begin` once; `pause` whenever the connection is paused; `stop` at the end, whatever the state.

    `done` is called once everything has been written: with True where this server is going away, False where the log
    is complete.
    """

    viewer: Viewer
    connection: Connection
    encoding: FramedFormat
    spawn: Spawn
    done: Callable[[bool], None]
    _task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        connection = self.connection
        if connection.is_paused or not self.viewer.subscribe(self, connection.write, self.encoding):
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
            self._task = self.spawn(self._catch_up())

    async def _catch_up(self) -> None:
        """Raises AskstreamError where the log can't be read."""
        connection, viewer = self.connection, self.viewer
        try:
            more = True
            while more:
                await connection.writable()
                # `subscribe` may write so much that the connection is paused; `pause` has unsubscribed the viewer then.
                is_live = viewer.subscribe(self, connection.write, self.encoding)
                more = connection.is_paused if is_live else await self._move()
        finally:
            self._task = None

    async def _move(self) -> bool:
        """Pull once and write what is new; whether more follows. While the client is slow nothing is held for it."""
        batch = await self.viewer.step()
        if batch.has_news:
            await self.connection.send(self.encoding.encode(self.viewer.run_id, batch))
        if batch.ended or batch.drained:
            self._finish(drained=batch.drained)
            return False
        return True

    def _finish(self, *, drained: bool) -> None:
        self.viewer.close()
        self.done(drained)
