"""The choice between direct and plain, made once for each connection: direct if the server offers it, else plain.

Our server offers its connections to applications as an ASGI extension in the scope:

    take_over(handler, probe, send_seconds)   the connection itself, to be written to directly; None if impossible
    abort()                                   cuts the connection
    unread()                                  how many bytes the client has yet to read
    on_half_close(callback)                   called once the client has closed its sending side; it may still read
    on_control(callback)                      called for each ping and pong of a WebSocket

Other servers don't offer it. A middleware that changes bodies, one that compresses for example, must remove the
extension from the scope.
"""

from collections.abc import Callable, Sequence
from typing import Any

from starlette.routing import WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from askstream.server.auth import Access, access_of
from askstream.server.connections.base import MESSAGE_BYTES, MessageHandler, StreamHandler
from askstream.server.connections.plain import PlainSocket, PlainStream
from askstream.server.connections.refusals import refuse_websocket
from askstream.server.events.errors import Refused

EXTENSION = "askstream.connection"


def offered(scope: Scope) -> dict[str, Any]:
    """Return the extension, empty under another server."""
    return scope.get("extensions", {}).get(EXTENSION, {})


async def serve_stream(
    scope: Scope,
    receive: Receive,
    send: Send,
    handler: StreamHandler,
    *,
    headers: Sequence[tuple[bytes, bytes]],
    probe: bytes,
    send_seconds: float,
) -> None:
    """Answer a request with a stream, status 200. A direct connection stays open when this has returned.

    `probe` is a message of the stream's format without effect, empty if there is none.
    """
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    extension: dict[str, Any] = scope.get("extensions", {}).get(EXTENSION, {})  # as `offered`, without its call
    direct = extension["take_over"](handler, probe, send_seconds) if "take_over" in extension else None
    if direct is not None:
        handler.opened(direct)
        return
    plain = PlainStream(
        handler, abort=extension.get("abort"), unread=extension.get("unread"), probe=probe, send_seconds=send_seconds
    )
    handler.opened(plain)
    if "on_half_close" in extension:
        extension["on_half_close"](plain.begin_probing)
    await plain.serve(receive, send)


class SocketRoute(WebSocketRoute):
    """The address of WebSockets, each with a handler of its own. Our server accepts them itself; others call the
    endpoint. `make_handler` may raise Refused: the client gets that instead of the upgrade."""

    def __init__(
        self,
        path: str,
        make_handler: Callable[[Access], MessageHandler],
        *,
        subprotocol: str,
        send_seconds: float,
        message_bytes: int = MESSAGE_BYTES,
    ) -> None:
        super().__init__(path, make_handler)
        self.make_handler, self.subprotocol, self.send_seconds = make_handler, subprotocol, send_seconds
        self.message_bytes = message_bytes

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves below Starlette's WebSocket and session: both check each message, at a twentieth of its cost."""
        names = scope.get("subprotocols", [])
        try:
            handler = self.make_handler(access_of(scope))
        except Refused as refusal:
            await refuse_websocket(refusal, scope, send)
            return
        try:
            await WebSocket(scope, receive, send).accept(self.subprotocol if self.subprotocol in names else None)
        except BaseException:
            handler.lost()
            raise
        extension = offered(scope)
        plain = PlainSocket(
            handler,
            abort=extension.get("abort"),
            unread=extension.get("unread"),
            send_seconds=self.send_seconds,
            message_bytes=self.message_bytes,
        )
        handler.opened(plain)
        if "on_control" in extension:
            extension["on_control"](plain.control)
        await plain.serve(receive, send)
