"""One viewer on a connection that is ours: level with its run the bus writes to it, behind it a task pulls.

joined --(the connection takes no more, or the bus lets go)--> pulling --(level again)--> joined
pulling, joined --(the log is complete, the server goes away)--> finished
"""

import asyncio
from abc import ABC, abstractmethod

from askstream.server.bus import Form, Viewer, Write
from askstream.server.connections.direct import Connection


class Relay(ABC):
    """`begin` once; `step_back` whenever the connection is paused; `stop` at the end, whatever the state."""

    __slots__ = ("_form", "_send_seconds", "_task", "connection", "viewer")

    connection: Connection

    def __init__(self, viewer: Viewer, form: Form, *, send_seconds: float) -> None:
        self.viewer, self._form, self._send_seconds = viewer, form, send_seconds
        self._task: asyncio.Task[None] | None = None

    @property
    def write(self) -> Write:
        return self.connection.write

    def begin(self) -> None:
        if self.connection.is_paused or not self.viewer.join(self, self._form):
            self._pull()

    def step_back(self) -> None:
        """The connection takes no more. Nothing is kept for this viewer but its cursor."""
        if not self.viewer.is_closed:
            self.viewer.leave()
            self._pull()

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self.viewer.close()

    def ended(self) -> None:
        self.viewer.close()
        self._finished(drained=False)

    def dismissed(self) -> None:
        self._pull()

    @abstractmethod
    def _spawn(self) -> asyncio.Task[None] | None:
        """Runs `catch_up` as a task; None where the connection is being closed."""

    @abstractmethod
    def _finished(self, *, drained: bool) -> None:
        """The log is complete, or the server goes away; the client has been sent all there is."""

    def _pull(self) -> None:
        if self._task is None:
            self._task = self._spawn()

    async def catch_up(self) -> None:
        """Pulls until the viewer is level. Raises TimeoutError when the client takes nothing, and AskstreamError."""
        try:
            await self.connection.writable(self._send_seconds)
            while not self.viewer.join(self, self._form) and await self._move():
                await self.connection.writable(self._send_seconds)
        finally:
            self._task = None

    async def _move(self) -> bool:
        """Pulls once and writes what is new; whether more follows. Who waits for its client holds none of it."""
        batch = await self.viewer.step()
        if batch.says_something:
            await self.connection.put(self._form.encode(self.viewer.run_id, batch), self._send_seconds)
        if batch.ended or batch.drained:
            self.viewer.close()
            self._finished(drained=batch.drained)
            return False
        return True
