"""uvicorn's protocols, extended: a transport may take a connection over.

An HTTP connection is taken over when the head of a response in chunks has been sent, and comes back as a new
`HttpProtocol` when the response is complete, for the client's next request. A WebSocket is accepted here, by the
websockets library on the headers that uvicorn has parsed, and needs no request at all. Plain ASGI works without either.

Uses private names of uvicorn; pyproject.toml bounds its version.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

from httptools import HttpParserError, HttpParserUpgrade
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.datastructures import Headers
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from askstream.server.connections.base import StreamHandler
from askstream.server.connections.closing import LastResponse
from askstream.server.connections.direct import DirectSocket, DirectStream, unread
from askstream.server.connections.selection import EXTENSION, SocketRoute

# Most header lines and bytes of a handshake. uvicorn parses without a limit. A larger handshake goes to uvicorn's
# WebSocket protocol, whose parser has its own limits and refuses with 431.
HEADER_LINES, HEADER_BYTES = 100, 8 * 1024
# Seconds from a half-close to each probe, unless what answers the request probes by itself. Most have been answered by
# the first, and a client that is gone is noticed within two.
_PROBE_SECONDS = (0.5, 1.5)
# The parts of a request refer to each other. Without these references they are freed at once, not by the garbage
# collector.
_FREED: dict[str, Any] = dict.fromkeys(("parser", "scope", "cycle", "_on_half_close"))


class HttpProtocol(HttpToolsProtocol):
    """HTTP/1.1 on httptools. `socket_routes` are the routes of WebSockets by path, ignored without `direct`."""

    parser: Any  # httptools'; None only once the connection has ended

    def __init__(
        self, *args: Any, socket_routes: Mapping[bytes, SocketRoute] | None = None, direct: bool = True, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self._socket_routes: Mapping[bytes, SocketRoute] = socket_routes if direct and socket_routes else {}
        self._direct = direct
        self._is_half_closed = self._upgrade_waits = False
        self._on_half_close: Callable[[], object] | None = None

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        except HttpParserUpgrade as upgrade:
            self._upgrade(data[upgrade.args[0] :])

    def _should_upgrade(self) -> bool:
        """Let the parser's callbacks ignore the request: it is upgraded, or parsed again without its upgrade."""
        return self.parser.get_method() != b"CONNECT"

    def _upgrade(self, rest: bytes) -> None:
        """Called behind the head of a request for an upgrade. The parser skips its body, which may begin `rest`."""
        method = self.parser.get_method()
        if method == b"GET" and super()._should_upgrade():
            self.handle_websocket_upgrade()
        elif method != b"CONNECT":  # answered as any other method, and without a body
            kept = [(name, value) for name, value in self.headers if name != b"upgrade"]
            version = self.parser.get_http_version().encode()
            head = [b"%b %b HTTP/%b" % (method, self.url, version), *[b"%b: %b" % header for header in kept]]
            self.data_received(b"\r\n".join([*head, b"", rest]))

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        abort, count = self.transport.abort, partial(unread, self.transport)
        offered: dict[str, Any] = {"abort": abort, "unread": count, "on_half_close": self.on_half_close}
        if self._direct:
            offered["take_over"] = self.take_over
        cycle.scope["extensions"] = {EXTENSION: offered}
        super()._start_asgi_task(cycle, app if cycle.keep_alive else cast(Any, LastResponse(app, cycle)))

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
        else:
            for seconds in _PROBE_SECONDS:
                asyncio.get_running_loop().call_later(seconds, self._probe)
        return True

    def _probe(self) -> None:
        """Send bytes without effect, to find out whether the client still reads: an answer of its system to the first
        ones would end the connection. HTTP/1.0 has none."""
        cycle = self.cycle
        if not cycle or cycle.response_complete or self._on_half_close is not None:
            return  # or a stream has begun, and probes
        if self.transport.is_closing() or self.flow.write_paused:
            return
        if cycle.chunked_encoding:
            self.transport.write(b"0")  # the next chunk's size may begin with it
        elif not cycle.response_started and cycle.scope["http_version"] == "1.1":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

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
        route = self._socket_routes.get(self.url.partition(b"?")[0])
        if route is not None and self._can_accept():
            self._accept(route)
        else:
            super().handle_websocket_upgrade()

    def _can_accept(self) -> bool:
        """Whether this is a `GET` in HTTP/1.1 of a usual size."""
        return (
            self.scope["method"] == "GET"
            and self.scope["http_version"] == "1.1"
            and len(self.headers) <= HEADER_LINES
            and sum([len(name) + len(value) for name, value in self.headers]) <= HEADER_BYTES
        )

    def _accept(self, route: SocketRoute) -> None:
        headers = Headers([(name.decode("latin-1"), value.decode("latin-1")) for name, value in self.headers])
        response = _Handshake(route.subprotocol).accept(Request(self.url.decode("latin-1"), headers))
        self.connections.discard(self)
        self.transport.write(response.serialize())
        if response.status_code != 101:
            self.transport.close()
            return
        core = ServerProtocol(state=State.OPEN, max_size=self.config.ws_max_size, logger=self.logger)
        handler = route.make_handler()
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


def _serve_next_request(
    make: Callable[[], HttpProtocol], transport: Any, ahead: bytes, *, is_paused: bool, is_half_closed: bool
) -> None:
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
    if is_half_closed and not protocol.eof_received():
        transport.close()
