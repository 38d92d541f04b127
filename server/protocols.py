"""uvicorn's protocols, which also offer their connection to the application, as an ASGI extension.

ASGI has a task wait for each message, and no word for "cut this connection now". For thousands of viewers of one run
those tasks are what costs most, in time and in memory. So under this server an application may `take` a connection,
write to it itself, and return. Under another server the extension is absent; ASGI's own way always works.

Whoever changes bodies on their way (compression, say) must take the extension out of the scope.
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from server.connection import Hearer, Owner, Rest, Socket

EXTENSION = "askstream.connection"


class Http(HttpToolsProtocol):
    """HTTP/1.1 on httptools."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        _offer(cast(Any, self.scope), self.transport, self.take)

    def take(self, owner: Owner) -> Rest | None:
        """The rest of the present response, in chunks. None where it hasn't begun, has no chunks or won't be the last
        on its connection, and where the client has more to say."""
        cycle = self.cycle
        if not cycle.response_started or cycle.response_complete or cycle.disconnected or not cycle.chunked_encoding:
            return None
        if cycle.keep_alive or cycle.more_body or self.pipeline:
            return None
        self.connections.discard(self)
        rest = Rest(self.transport, owner, cast(Any, self.connections), is_paused=self.flow.write_paused)
        self.flow.resume_reading()
        cycle.disconnected = True  # lets the application return without having completed its response
        _forget(self, "parser", "scope", "cycle")
        return rest


class WebSocket(WebSocketsSansIOProtocol):
    """WebSocket on websockets' sans-IO core."""

    async def run_asgi(self) -> None:
        _offer(cast(Any, self.scope), self.transport, self.take)
        await super().run_asgi()

    def take(self, hearer: Hearer) -> Socket | None:
        """The whole conversation. None before it was accepted, after its end, and where the client was quicker."""
        if not self.handshake_complete or self.disconnected or self.close_sent or not self.queue.empty():
            return None
        self.stop_keepalive()
        self.connections.discard(self)
        is_paused = not self.writable.is_set()
        socket = Socket(self.transport, hearer, cast(Any, self.connections), self.conn, is_paused=is_paused)
        self.close_timer = self.loop.call_later(0, bool)  # while there is one, uvicorn leaves the transport open
        _forget(self, "conn", "scope", "request", "response")
        return socket


def _offer(scope: dict[str, Any], transport: asyncio.Transport, take: Callable[[Any], object]) -> None:
    scope["extensions"] = {**scope.get("extensions", {}), EXTENSION: {"abort": transport.abort, "take": take}}


def _forget(protocol: object, *parts: str) -> None:
    """Without circles between the parts of a request that nobody needs any more, they are gone at once."""
    for part in parts:
        setattr(protocol, part, None)
