"""uvicorn's protocols, which also offer their connection to the application, as an ASGI extension.

ASGI has a task wait for each message, and no word for "cut this connection now". For thousands of viewers of one run
those tasks are what costs most, in time and in memory. So under this server an application may `take` a connection:
write to it itself, at any time, and let its request go. Under another server the extension is absent; ASGI's own way
always works.

Whoever changes bodies on their way (compression, say) must take the extension out of the scope.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

EXTENSION = "askstream.connection"


class Owner(Protocol):
    """Who has taken a connection."""

    def paused(self) -> None:
        """Enough is waiting to be sent: write no more until `Connection.writable`."""
        ...

    def lost(self) -> None:
        """The connection is gone."""
        ...


class Connection(asyncio.Protocol):
    """A client's connection. `write` takes bytes at any time and sends them when it can; `is_paused` asks to wait."""

    __slots__ = ("_owner", "_transport", "_waiting", "is_paused", "write")

    def __init__(self, transport: asyncio.Transport, owner: Owner, *, is_paused: bool = False) -> None:
        self._transport, self.is_paused = transport, is_paused
        self._owner: Owner | None = owner
        self.write: Callable[[bytes], None] = transport.write
        self._waiting: asyncio.Future[None] | None = None

    async def writable(self) -> None:
        """Returns when the client has taken enough of what it was sent, or has gone. One may wait at a time."""
        if self.is_paused:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting

    def close(self) -> None:
        """Closes it once what was written has been sent."""
        self._transport.close()

    def abort(self) -> None:
        """Cuts it at once, with what is buffered for it."""
        self._transport.abort()

    def pause_writing(self) -> None:
        self.is_paused = True
        if self._owner is not None:
            self._owner.paused()

    def resume_writing(self) -> None:
        self.is_paused = False
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
        self._waiting = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.resume_writing()
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.lost()


class _Response(Connection):
    """One that carries the rest of an HTTP response, and nothing after it. What the client still says is dropped."""

    __slots__ = ("_open",)

    def __init__(
        self, transport: asyncio.Transport, owner: Owner, open_connections: set[Any], *, is_paused: bool
    ) -> None:
        super().__init__(transport, owner, is_paused=is_paused)
        self._open = open_connections
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.discard(self)
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Called by uvicorn when the server stops."""
        self.close()


class Http(HttpToolsProtocol):
    """HTTP/1.1 on httptools."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        offer(cast(Any, self.scope), self.transport, self.take)

    def take(self, owner: Owner) -> Connection | None:
        """What is written from now on belongs to the body of the present response, in chunks, until `close`.

        The application must return. None where that can't be: the response hasn't begun or has no chunks, or the
        client has more to say.
        """
        cycle = self.cycle
        if not cycle.response_started or cycle.response_complete or cycle.disconnected or not cycle.chunked_encoding:
            return None
        if cycle.more_body or self.pipeline or cycle.keep_alive:
            return None
        self.connections.discard(self)
        connection = _Response(self.transport, owner, cast(Any, self.connections), is_paused=self.flow.write_paused)
        self.transport.set_protocol(connection)
        self._let_go(cycle)
        return connection

    def _let_go(self, cycle: RequestResponseCycle) -> None:
        """Nobody needs the request any more. Without circles between its parts they are gone at once."""
        cycle.disconnected = True  # the application may return without having completed its response
        cast(Any, self).parser = cast(Any, self).scope = cast(Any, self).cycle = None


class WebSocket(WebSocketsSansIOProtocol):
    """WebSocket on websockets' sans-IO core. What is written to it must be whole frames."""

    connection: Connection | None = None

    async def run_asgi(self) -> None:
        offer(cast(Any, self.scope), self.transport, self.take)
        await super().run_asgi()

    def take(self, owner: Owner) -> Connection | None:
        """The application goes on to receive as ever. None before it has accepted, and after the end."""
        if not self.handshake_complete or self.disconnected or self.close_sent:
            return None
        self.connection = Connection(self.transport, owner, is_paused=not self.writable.is_set())
        return self.connection

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.connection is not None:
            self.connection.pause_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.connection is not None:
            self.connection.resume_writing()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.is_closing():  # a close frame has come, or been sent for a broken message: nothing follows
            self._take_back()

    def shutdown(self) -> None:
        self._take_back()
        super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._take_back()

    def _take_back(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.connection_lost(None)


def offer(scope: dict[str, Any], transport: asyncio.Transport, take: Callable[[Owner], Connection | None]) -> None:
    offered = {"abort": transport.abort, "take": take}
    scope["extensions"] = {**scope.get("extensions", {}), EXTENSION: offered}
