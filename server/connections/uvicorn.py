"""uvicorn's HTTP protocol, extended: a transport may take a connection over, and what clients send is limited.

An HTTP connection is taken over when the head of a response in chunks has been sent, and comes back as a new
`HttpProtocol` when the response is complete, for the client's next request. A WebSocket is accepted here, by the
websockets library on the headers that uvicorn has parsed, and needs no request at all. Plain ASGI works without either.

Uses private names of uvicorn; pyproject.toml bounds its version.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, cast

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from askstream.server.auth import ANONYMOUS, Access
from askstream.server.connections import refusals
from askstream.server.connections.base import CUT_SECONDS, MessageHandler, StreamHandler
from askstream.server.connections.direct import READ_AHEAD_BYTES, DirectSocket, DirectStream, unread
from askstream.server.connections.inbound import Inbound, InboundLimits, Requests
from askstream.server.connections.selection import EXTENSION, SocketRoute
from askstream.server.events.errors import MalformedRequest, Refused, RequestTimeout, TooManyConnections

# Most header lines and bytes of a handshake. uvicorn parses without a limit. A larger handshake goes to uvicorn's
# WebSocket protocol, whose parser has its own limits and refuses with 431.
HEADER_LINES, HEADER_BYTES = 100, 8 * 1024
# Seconds after which a refused client should try again: others may have left by then.
BUSY_RETRY = 5
# Connections beyond the limit that are refused with an answer. Further ones are cut: each holds a descriptor.
REFUSED_CONNECTIONS = 32
# The parts of a request refer to each other. Without these references they are freed at once, not by the garbage
# collector.
_FREED: dict[str, Any] = dict.fromkeys(("parser", "scope", "cycle", "_on_half_close", "_inbound", "flow"))


class _Flow(FlowControl):
    """Leaves the choice whether to read to Inbound, which has more reasons than uvicorn."""

    def __init__(self, transport: asyncio.Transport, inbound: Inbound) -> None:
        super().__init__(transport)
        self._inbound = inbound

    def pause_reading(self) -> None:
        self.read_paused = True
        self._inbound.hold()

    def resume_reading(self) -> None:
        if self.read_paused:
            self.read_paused = False
            self._inbound.resume()


class HttpProtocol(HttpToolsProtocol):
    """HTTP/1.1 on httptools. `socket_routes` are the routes of WebSockets by path, ignored without `direct`.

    `admitted` returns who asks, by the scope of a handshake; None if only the application can answer. `is_new` is
    False for a connection that had requests before; it was counted when it came.
    """

    _inbound: Inbound

    def __init__(
        self,
        *args: Any,
        socket_routes: Mapping[bytes, SocketRoute] | None = None,
        admitted: Callable[[Any], Access | None] = lambda _: ANONYMOUS,
        direct: bool = True,
        limits: InboundLimits = InboundLimits(),  # noqa: B008 - it is frozen
        is_new: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self._socket_routes: Mapping[bytes, SocketRoute] = socket_routes if direct and socket_routes else {}
        self._admitted, self._direct, self._limits, self._is_new = admitted, direct, limits, is_new
        self._requests = Requests(limits)
        self._is_half_closed = self._is_refused = False
        self._on_half_close: Callable[[], object] | None = None
        self._awaited: Literal["head", "body"] | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._inbound = Inbound(transport, self._parse, ahead=READ_AHEAD_BYTES)
        self.flow = _Flow(transport, self._inbound)
        excess = len(self.connections) - self._limits.connections if self._is_new else 0
        if excess > REFUSED_CONNECTIONS:
            transport.abort()
        elif excess > 0:
            self._refuse(TooManyConnections("All places are taken; try again soon.", retry_after=BUSY_RETRY))
        elif self._is_new:
            self._await("head")

    def connection_lost(self, exc: Exception | None) -> None:
        self._await(None)
        self._inbound.lose()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._inbound.receive(data)

    def _parse(self, waiting: bytearray) -> int | None:
        """Parse the next piece of a request, none while an earlier one is being answered."""
        if self._is_refused or self.transport.is_closing():
            waiting.clear()
            return 1
        is_answering = self.cycle and not (self.cycle.more_body or self.cycle.response_complete)
        if is_answering or self.flow.read_paused:
            return None
        try:
            piece = self._requests.take(waiting)
        except Refused as refusal:
            self._refuse(refusal)
            return 1
        super().data_received(piece)
        if self.parser:  # else another protocol has the connection
            self._after_piece()
        return 1

    def _after_piece(self) -> None:
        if self._is_refused:
            return
        if not self._requests.in_head:
            self._await("body")
        elif self._requests.size:
            self._await("head")
        else:
            self._await(None)
            if self.cycle and self.cycle.response_complete:
                self._be_idle()

    def _be_idle(self) -> None:
        """The request's body has come after its response: wait for the next request, as after any response."""
        if self._is_half_closed or not self.cycle.keep_alive:
            self.transport.close()
        elif self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _await(self, part: Literal["head", "body"] | None) -> None:
        """Limit the time until this part of the request has come whole."""
        if part == self._awaited:
            return
        if self._deadline is not None:
            self._deadline.cancel()
        self._awaited, self._deadline = part, None
        if part is not None:
            seconds = self._limits.head_seconds if part == "head" else self._limits.body_seconds
            self._deadline = self.loop.call_later(seconds, self._too_late, part, seconds)

    def _too_late(self, part: str, seconds: float) -> None:
        if part == "head" and not self._requests.size:
            self.transport.close()  # it has asked nothing
        else:
            self._refuse(RequestTimeout(f"The request's {part} must arrive within {seconds:g} seconds."))

    def _refuse(self, refusal: Refused) -> None:
        """Answer, and close. Bytes that still come are thrown away, up to a limit."""
        self._is_refused = True
        self._await(None)
        self._unset_keepalive_if_required()
        self._inbound.limit()
        if self._requests.in_head or not self.cycle.response_started:
            self.transport.write(refusals.response(refusal))
            self.loop.call_later(CUT_SECONDS, self.transport.close)
        elif self.cycle.response_complete:
            self.transport.close()
        else:
            self.transport.abort()  # the response must not seem to be complete
        if self.cycle:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def send_400_response(self, msg: str) -> None:
        self._refuse(MalformedRequest("Send a request in HTTP/1.1, without TLS."))

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
        if self._is_refused or not self.cycle or self.cycle.response_complete or self.cycle.more_body:
            return False  # closes the connection
        self._is_half_closed = True
        if self._on_half_close is not None:
            self._on_half_close()
        return True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._requests.in_head:  # else it stands behind a body in chunks, and must not become one of the head's
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._requests.begin_body(_body_length(self.headers))

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._requests.complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._on_half_close = None  # of this request; the next one hasn't begun
        if self._inbound.waiting:
            self._inbound.resume()
        elif self._is_half_closed:
            self.transport.close()

    def take_over(self, handler: StreamHandler, probe: bytes, send_seconds: float) -> DirectStream | None:
        """Return the rest of the present response. None if its head hasn't been sent or has a length, or if the
        request's body is still coming."""
        cycle = self.cycle
        if not cycle.response_started or cycle.response_complete or cycle.disconnected or not cycle.chunked_encoding:
            return None
        if cycle.more_body or self.transport.is_closing():
            return None
        again = partial(self.config.http_protocol_class, self.config, self.server_state, self.app_state, is_new=False)
        self.connections.discard(self)
        stream = DirectStream(
            self.transport,
            cast(Any, self.connections),
            handler,
            release=partial(_serve_next_request, cast(Any, again)) if cycle.keep_alive else None,
            probe=probe,
            send_seconds=send_seconds,
            is_paused=self.flow.write_paused,
            ahead=self._inbound.detach(),
        )
        if self._is_half_closed:
            stream.eof_received()
        cycle.disconnected = True  # lets the application return before its response is complete
        self.__dict__.update(_FREED)
        return stream

    def handle_websocket_upgrade(self) -> None:
        self._await(None)
        path, _, query = self.url.partition(b"?")
        route = self._socket_routes.get(path)
        access = None
        if route is not None and self._can_accept():
            access = self._admitted({**self.scope, "path": path.decode("latin-1"), "query_string": query})
        if route is None or access is None:
            super().handle_websocket_upgrade()
            ahead, protocol = self._inbound.detach(), cast(Any, self.transport.get_protocol())
            self.__dict__.update(_FREED)
            protocol.data_received(ahead)
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
        ahead = self._inbound.detach()
        handler, answer = _handler(route, access, response)
        self.transport.write(answer)
        if handler is None:
            self.transport.close()
            return
        core = ServerProtocol(state=State.OPEN, max_size=route.message_bytes, logger=self.logger)
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
        connection.data_received(ahead)


def _handler(route: SocketRoute, access: Access, response: Response) -> tuple[MessageHandler | None, bytes]:
    """Return the handler of a WebSocket, None if it is refused, and the answer to its handshake."""
    if response.status_code != 101:
        return None, response.serialize()
    try:
        return route.make_handler(access), response.serialize()
    except Refused as refusal:
        return None, refusals.response(refusal)


class _Handshake(ServerProtocol):
    """Accepts clients that don't offer our subprotocol, too."""

    def __init__(self, subprotocol: str) -> None:
        super().__init__()
        self._subprotocol = Subprotocol(subprotocol)

    def select_subprotocol(self, subprotocols: Sequence[Subprotocol]) -> Subprotocol | None:
        return self._subprotocol if self._subprotocol in subprotocols else None


def _body_length(headers: list[tuple[bytes, bytes]]) -> int | None:
    """Return the length of a request's body, None if it comes in chunks. The parser has checked both headers."""
    length = 0
    for name, value in headers:
        if name == b"transfer-encoding":
            return None
        if name == b"content-length":
            length = int(value)
    return length


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
