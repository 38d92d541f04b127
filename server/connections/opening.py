"""Where a connection's way is chosen, once: direct where the server offers it, else plain.

uvicorn's protocols offer `EXTENSION` in the scope (see uvicorn.py): `take` gives the connection itself, `abort` cuts
it. A middleware that changes bodies on their way, one that compresses say, must take the extension out of the scope.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from starlette.routing import WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from askstream.server.connections.base import ConnectionHandler, MessageHandler, SocketConnection, StreamConnection
from askstream.server.connections.plain import PlainSocket, PlainStream

EXTENSION = "askstream.connection"

OpenStream: TypeAlias = Callable[[StreamConnection], ConnectionHandler]
OpenSocket: TypeAlias = Callable[[SocketConnection], MessageHandler]
"""Makes the handler of a connection. It may write once its `opened` has been called."""


async def serve_stream(
    scope: Scope,
    receive: Receive,
    send: Send,
    open_handler: OpenStream,
    *,
    headers: Sequence[tuple[bytes, bytes]],
    probe: bytes,
    send_seconds: float,
) -> None:
    """Answer a request with a stream, status 200. A direct connection goes on when this has returned.

    `probe` is a message of the stream's format that says nothing, empty where there is none.
    """
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    offered = _offered(scope)
    direct = offered["take"](probe, send_seconds) if "take" in offered else None
    if direct is not None:
        direct.start(open_handler(direct))
        return
    plain = PlainStream(abort=offered.get("abort"), send_seconds=send_seconds)
    plain.start(open_handler(plain))
    await plain.serve(receive, send)


class SocketRoute(WebSocketRoute):
    """The address of WebSockets. Our server accepts them itself and calls `open_handler`; others use the endpoint."""

    def __init__(self, path: str, open_handler: OpenSocket, *, subprotocol: str, send_seconds: float) -> None:
        super().__init__(path, self._accept)
        self.open_handler, self.subprotocol, self.send_seconds = open_handler, subprotocol, send_seconds

    async def _accept(self, websocket: WebSocket) -> None:
        offered = websocket.scope.get("subprotocols", [])
        await websocket.accept(self.subprotocol if self.subprotocol in offered else None)
        plain = PlainSocket(abort=_offered(websocket.scope).get("abort"), send_seconds=self.send_seconds)
        plain.start(self.open_handler(plain))
        # ASGI's own callables: what Starlette checks on each message is in order by construction.
        await plain.serve(websocket._receive, websocket._send)  # noqa: SLF001


def _offered(scope: Scope) -> dict[str, Any]:
    return scope.get("extensions", {}).get(EXTENSION, {})
