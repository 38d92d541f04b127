"""Fakes of a WebSocket's client: on a direct connection, and by the ASGI messages of any server."""

import asyncio
import json
from collections.abc import Sequence
from time import monotonic
from typing import Any

from starlette.types import Message
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from askstream.server.auth import ACCESS, ANONYMOUS
from askstream.server.connections import SocketRoute
from askstream.server.connections.direct import DirectSocket
from askstream.transports.base import TransportContext
from askstream.transports.websocket.endpoint import WebSockets
from tests.transports.connections import FakeTransport


def route_of(context: TransportContext) -> SocketRoute:
    (route,) = WebSockets(context).routes()
    assert isinstance(route, SocketRoute)
    return route


class Client:
    """One socket's client. It stops reading after `line.full_after` bytes."""

    def __init__(self, context: TransportContext) -> None:
        self._route = route_of(context)
        self.texts: list[dict[str, Any]] = []
        self.line: Any

    def open(self) -> None:
        raise NotImplementedError

    def send(self, **message: Any) -> None:
        self.send_together(message)

    def send_together(self, *messages: dict[str, Any]) -> None:
        """Send all in one packet, on a direct connection."""
        raise NotImplementedError

    async def leave(self) -> None:
        """Close the socket with a close frame, if there is one."""
        raise NotImplementedError

    def look(self) -> list[dict[str, Any]]:
        """Return all texts that have come so far."""
        raise NotImplementedError

    @property
    def close_code(self) -> int | None:
        raise NotImplementedError

    async def until(self, count: int) -> list[dict[str, Any]]:
        while len(self.look()) < count:  # noqa: ASYNC110 - the fake has no events of its own
            await asyncio.sleep(0.001)
        return self.texts

    async def received_close(self) -> int:
        while (code := self.close_code) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        return code

    async def cut(self) -> None:
        while not self.line.closed:  # noqa: ASYNC110 - the fake has no events of its own
            await asyncio.sleep(0.001)


class DirectClient(Client):
    def __init__(self, context: TransportContext) -> None:
        super().__init__(context)
        self._core = ClientProtocol(parse_uri("ws://x/"), state=State.OPEN)
        self.line = FakeTransport()
        self._read = 0

    def open(self) -> None:
        core = ServerProtocol(state=State.OPEN)
        seconds, is_paused = self._route.send_seconds, self.line.is_paused
        handler = self._route.make_handler(ANONYMOUS)
        handler.opened(DirectSocket(self.line, set(), handler, core, send_seconds=seconds, is_paused=is_paused))

    def send_together(self, *messages: dict[str, Any]) -> None:
        for message in messages:
            self._core.send_text(json.dumps(message).encode())
        self.line.receive_data(b"".join(self._core.data_to_send()))

    async def leave(self) -> None:
        while not self.line.reading:  # noqa: ASYNC110 - the fake has no events of its own
            await asyncio.sleep(0)
        self._core.send_close(1001)
        self.line.receive_data(b"".join(self._core.data_to_send()))

    def look(self) -> list[dict[str, Any]]:
        new = b"".join(self.line.written)[self._read :]
        self._read += len(new)
        self._core.receive_data(new)
        frames = [event for event in self._core.events_received() if isinstance(event, Frame)]
        self.texts += [json.loads(bytes(frame.data)) for frame in frames if frame.opcode is Opcode.TEXT]
        return self.texts

    @property
    def close_code(self) -> int | None:
        self.look()
        return self._core.close_rcvd.code if self._core.close_rcvd else None


class AsgiLine:
    """A server between an application and its client."""

    def __init__(self) -> None:
        self.written: list[Message] = []
        self.at: list[float] = []
        self.full_after: int | None = None
        self.closed = self.aborted = False
        self._incoming: asyncio.Queue[Message] = asyncio.Queue()
        self._incoming.put_nowait({"type": "websocket.connect"})
        self._room = asyncio.Event()

    def receive_data(self, message: Message) -> None:
        self._incoming.put_nowait(message)

    def drain(self) -> None:
        self.full_after = None
        self._room.set()

    def lose(self) -> None:
        self.closed = True
        self.receive_data({"type": "websocket.disconnect", "code": 1006})

    def abort(self) -> None:
        self.aborted = True
        self.lose()

    async def receive(self) -> Message:
        return await self._incoming.get()

    async def send(self, message: Message) -> None:
        if message["type"] == "websocket.accept":
            return
        while self.full_after is not None and not self.closed and message["type"] == "websocket.send":
            self._room.clear()
            await self._room.wait()
        if self.closed:
            raise OSError("the client is gone")
        self.written.append(message)
        self.at.append(monotonic())
        if message["type"] == "websocket.close":
            self.lose()


class PlainClient(Client):
    def __init__(self, context: TransportContext) -> None:
        super().__init__(context)
        self.line = AsgiLine()
        self.serving: asyncio.Task[None] | None = None

    def open(self) -> None:
        offered = {"askstream.connection": {"abort": self.line.abort}}
        scope: dict[str, Any] = {
            "type": "websocket",
            "path": "/ws",
            "headers": [],
            "subprotocols": [],
            "extensions": offered,
            ACCESS: ANONYMOUS,
        }
        self.serving = asyncio.ensure_future(self._serve(scope))

    async def _serve(self, scope: dict[str, Any]) -> None:
        try:
            await self._route.handle(scope, self.line.receive, self.line.send)
        finally:
            self.line.closed = True

    def send_together(self, *messages: dict[str, Any]) -> None:
        for message in messages:
            self.line.receive_data({"type": "websocket.receive", "text": json.dumps(message)})

    async def leave(self) -> None:
        self.line.lose()
        assert self.serving is not None
        await self.serving

    def look(self) -> list[dict[str, Any]]:
        self.texts = [json.loads(message["text"]) for message in self.line.written if "text" in message]
        return self.texts

    @property
    def close_code(self) -> int | None:
        self.look()
        codes: Sequence[int] = [m["code"] for m in self.line.written if m["type"] == "websocket.close"]
        assert len(codes) < 2
        return codes[0] if codes else None
