"""One subscription of a socket: it moves a run's events as frames, straight to the connection or as ASGI's messages."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from askstream.server.bus import Batch, Viewer
from askstream.server.connections.direct import Connection, frame
from askstream.transports.base import lines
from askstream.transports.delivery import Relay


class Socket(Protocol):
    """What a subscription needs of its socket."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None: ...

    async def send(self, text: str) -> None: ...

    def over(self, run_id: str, *, drained: bool) -> None:
        """Nothing more comes of that run, or, `drained`, from this server; then it raises."""
        ...


class Watch(Protocol):
    viewer: Viewer

    def begin(self) -> None: ...

    def step_back(self) -> None: ...

    def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Frames:
    """A `Form`. The socket fills silences itself: it may watch several runs, and any of them breaks the silence."""

    heartbeat: bytes = b""
    heartbeat_seconds: float = 0

    def encode(self, run_id: str, batch: Batch, /) -> bytes:
        return b"".join(map(frame, lines(run_id, batch)))


class Direct(Relay):
    """On a connection that is ours."""

    __slots__ = ("_socket",)

    def __init__(self, viewer: Viewer, socket: Socket, connection: Connection, *, send_seconds: float) -> None:
        super().__init__(viewer, Frames(), send_seconds=send_seconds)
        self._socket, self.connection = socket, connection

    def _spawn(self) -> asyncio.Task[None] | None:
        return self._socket.spawn(self.catch_up())

    def _finished(self, *, drained: bool) -> None:
        self._socket.over(self.viewer.run_id, drained=drained)


class Plain:
    """By ASGI's messages, under any server."""

    def __init__(self, viewer: Viewer, socket: Socket) -> None:
        self.viewer, self._socket = viewer, socket
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self._task = self._socket.spawn(self._move())

    def step_back(self) -> None:
        """Nothing to do: sending waits."""

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self.viewer.close()

    async def _move(self) -> None:
        while True:
            batch = await self.viewer.next()
            for line in lines(self.viewer.run_id, batch):
                await self._socket.send(line.decode())
            if batch.ended or batch.drained:
                self.viewer.close()
                self._socket.over(self.viewer.run_id, drained=batch.drained)
                return
