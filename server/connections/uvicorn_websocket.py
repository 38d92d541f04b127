"""uvicorn's protocol of WebSockets for plain ASGI, extended: our limits on what a client sends hold here, too.

Uses private names of uvicorn; pyproject.toml bounds its version.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from askstream.server.connections.base import FRAGMENTS, RATE_CLOSE
from askstream.server.connections.direct import unread
from askstream.server.connections.inbound import FRAMES_PIECE, Inbound
from askstream.server.connections.selection import EXTENSION


class WebSocket(WebSocketsSansIOProtocol):
    """WebSocket on websockets' sans-IO core, for plain ASGI."""

    _fragments = 0
    _on_control: Callable[[], object] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._inbound = Inbound(self.transport, self._parse)

    def connection_lost(self, exc: Exception | None) -> None:
        self._inbound.lose()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._inbound.receive(data)

    def _parse(self, waiting: bytearray) -> int | None:
        """Parse some frames, none before the handshake has been accepted."""
        if self.handshake_initiated and not self.handshake_complete:
            return None
        piece = bytes(waiting[:FRAMES_PIECE])
        del waiting[:FRAMES_PIECE]
        self.conn.receive_data(piece)
        frames = len(self.conn.events)
        self.handle_events()  # before a failure, which uvicorn would handle first
        if self.conn.parser_exc is not None and not self.close_sent:
            self.handle_parser_exception()
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.transport.write(b"".join(self.conn.data_to_send()))  # uvicorn would leave the client waiting
            self.transport.close()
        if self.close_sent:
            self._inbound.limit()
        elif self.read_paused:  # until the application has received the message
            self._inbound.hold()
        return frames

    async def receive(self) -> Any:
        message = await super().receive()
        if not self.read_paused:
            self._inbound.resume()
        return message

    async def send(self, message: Any) -> None:
        await super().send(message)
        if self.close_sent:
            self._inbound.limit()
        if message["type"] in ("websocket.accept", "websocket.close"):  # uvicorn reads on after a close, for the answer
            self._inbound.resume()
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True  # else uvicorn logs an error: it takes a refusal for no answer

    def handle_ping(self) -> None:
        """Send no pongs to a client that reads nothing: they would fill memory."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()
        self._control()

    def handle_pong(self, event: Frame) -> None:
        super().handle_pong(event)
        self._control()

    def handle_cont(self, event: Frame) -> None:
        super().handle_cont(event)
        self._fragments = 0 if event.fin else self._fragments + 1
        if self._fragments > FRAGMENTS and not self.close_sent:
            self.conn.send_close(RATE_CLOSE, "too many fragments")
            self.handle_parser_exception()

    def _control(self) -> None:
        if self._on_control is not None:
            self._on_control()

    def on_control(self, callback: Callable[[], object]) -> None:
        self._on_control = callback

    async def run_asgi(self) -> None:
        scope = cast(Any, self.scope)
        abort, count = self.transport.abort, partial(unread, cast(Any, self.transport))
        offered = {"abort": abort, "unread": count, "on_control": self.on_control}
        scope["extensions"] = {**scope["extensions"], EXTENSION: offered}
        await super().run_asgi()
