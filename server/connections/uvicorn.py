"""uvicorn's protocols, extended: a transport may take a connection over.

An HTTP connection is taken over when the head of a response in chunks has been sent, and comes back as a new
`HttpProtocol` when the response is complete, for the client's next request. A WebSocket is accepted here, by the
websockets library on the headers that uvicorn has parsed, and needs no request at all. Plain ASGI works without either.

Uses private names of uvicorn; pyproject.toml bounds its version.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.datastructures import Headers
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from askstream.server.auth import ANONYMOUS, Access
from askstream.server.connections.base import StreamHandler
from askstream.server.connections.direct import DirectSocket, DirectStream, unread
from askstream.server.connections.selection import EXTENSION, SocketRoute

# Most header lines and bytes of a handshake. uvicorn parses without a limit. A larger handshake goes to uvicorn's
# WebSocket protocol, whose parser has its own limits and refuses with 431.
HEADER_LINES, HEADER_BYTES = 100, 8 * 1024
# The parts of a request refer to each other. Without these references they are freed at once, not by the garbage
# collector.
_FREED: dict[str, Any] = dict.fromkeys(("parser", "scope", "cycle", "_on_half_close"))


class HttpProtocol(HttpToolsProtocol):
    """HTTP/1.1 on httptools. `socket_routes` are the routes of WebSockets by path, ignored without `direct`. `admitted`
    returns who asks, by the scope of a handshake; None if only the application can answer."""

    def __init__(
        self,
        *args: Any,
        socket_routes: Mapping[bytes, SocketRoute] | None = None,
        admitted: Callable[[Any], Access | None] = lambda _: ANONYMOUS,
        direct: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self._socket_routes: Mapping[bytes, SocketRoute] = socket_routes if direct and socket_routes else {}
        self._admitted = admitted
        self._direct = direct
        self._is_half_closed = self._upgrade_waits = False
        self._on_half_close: Callable[[], object] | None = None

    def on_message_begin(self) -> None:
        super().on_message_begin()
        abort, count = self.transport.abort, partial(unread, self.transport)
        offered: dict[str, Any] = {"abort": abort, "unread": count, "on_half_close": self.on_half_close}
        if self._direct:
            offered["take_over"] = self.take_over
        cast(Any, self.scope)["extensions"] = {EXTENSION: offered}

    def on_half_close(self, callback: Callable[[], object]) -> None:
        self._on_half_close = callback
        if self._is_half_closed:
            callback()

    def eof_received(self) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride]  # asyncio reads what it returns
        """The client has closed its sending side. A complete request is still answered."""
        if not self.cycle or self.cycle.response_complete or self.cycle.more_body:
            return False  # closes the connection
        self._is_half_closed = True
        if self._on_half_close is not None:
            self._on_half_close()
        return True

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._on_half_close = None  # of this request; the next one hasn't begun
        if not self.cycle or not self.cycle.response_complete or self.transport.is_closing():
            return
        if self._is_half_closed:
            self.transport.close()
        elif self._upgrade_waits:
            self._unset_keepalive_if_required()
            self.handle_websocket_upgrade()

    def take_over(self, handler: StreamHandler, probe: bytes, send_seconds: float) -> DirectStream | None:
        """Return the rest of the present response. None if its head hasn't been sent or has a length, if the request's
        body is still coming, or if the client has begun to send its next request."""
        cycle = self.cycle
        if not cycle.response_started or cycle.response_complete or cycle.disconnected or not cycle.chunked_encoding:
            return None
        has_more = self.pipeline or self.scope is not cycle.scope  # in the parser: a later request, or its first bytes
        if cycle.more_body or has_more or self.transport.is_closing():
            return None
        again = partial(self.config.http_protocol_class, self.config, self.server_state, self.app_state)
        self.connections.discard(self)
        self.flow.resume_reading()
        stream = DirectStream(
            self.transport,
            cast(Any, self.connections),
            handler,
            release=partial(_serve_next_request, cast(Any, again)) if cycle.keep_alive else None,
            probe=probe,
            send_seconds=send_seconds,
            is_paused=self.flow.write_paused,
        )
        if self._is_half_closed:
            stream.eof_received()
        cycle.disconnected = True  # lets the application return before its response is complete
        self.__dict__.update(_FREED)
        return stream

    def handle_websocket_upgrade(self) -> None:
        if self.cycle and not self.cycle.response_complete:
            self._upgrade_waits = True  # for the responses to earlier requests
            return
        path, _, query = self.url.partition(b"?")
        route = self._socket_routes.get(path)
        access = None
        if route is not None and self._can_accept():
            access = self._admitted({**self.scope, "path": path.decode("latin-1"), "query_string": query})
        if route is None or access is None:
            super().handle_websocket_upgrade()
        else:
            self._accept(route, access)

    def _can_accept(self) -> bool:
        """Whether this is a `GET` in HTTP/1.1 of a usual size."""
        return (
            self.scope["method"] == "GET"
            and self.scope["http_version"] == "1.1"
            and len(self.headers) <= HEADER_LINES
            and sum([len(name) + len(value) for name, value in self.headers]) <= HEADER_BYTES
        )

    def _accept(self, route: SocketRoute, access: Access) -> None:
        headers = Headers([(name.decode("latin-1"), value.decode("latin-1")) for name, value in self.headers])
        response = _Handshake(route.subprotocol).accept(Request(self.url.decode("latin-1"), headers))
        self.connections.discard(self)
        self.transport.write(response.serialize())
        if response.status_code != 101:
            self.transport.close()
            return
        core = ServerProtocol(state=State.OPEN, max_size=self.config.ws_max_size, logger=self.logger)
        handler = route.make_handler(access)
        connection = DirectSocket(
            self.transport,
            cast(Any, self.connections),
            handler,
            core,
            send_seconds=route.send_seconds,
            is_paused=self.flow.write_paused,
        )
        self.__dict__.update(_FREED)
        handler.opened(connection)


class _Handshake(ServerProtocol):
    """Accepts clients that don't offer our subprotocol, too."""

    def __init__(self, subprotocol: str) -> None:
        super().__init__()
        self._subprotocol = Subprotocol(subprotocol)

    def select_subprotocol(self, subprotocols: Sequence[Subprotocol]) -> Subprotocol | None:
        return self._subprotocol if self._subprotocol in subprotocols else None


class WebSocket(WebSocketsSansIOProtocol):
    """WebSocket on websockets' sans-IO core, for plain ASGI."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.transport.write(b"".join(self.conn.data_to_send()))  # uvicorn would leave the client waiting
            self.transport.close()

    def handle_ping(self) -> None:
        """Send no pongs to a client that reads nothing: they would fill memory."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    async def run_asgi(self) -> None:
        scope = cast(Any, self.scope)
        offered = {"abort": self.transport.abort, "unread": partial(unread, cast(Any, self.transport))}
        scope["extensions"] = {**scope["extensions"], EXTENSION: offered}
        await super().run_asgi()


def _serve_next_request(make: Callable[[], HttpProtocol], transport: Any, ahead: bytes, is_paused: bool) -> None:
    """Give a transport whose response is complete to a new protocol, with the bytes that were read ahead."""
    protocol = make()
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    if is_paused:
        protocol.pause_writing()
    transport.resume_reading()
    protocol.on_response_complete()  # counts the request, and limits the wait for the next one
    if ahead:
        protocol.data_received(ahead)
