"""uvicorn's protocols, which also offer their connection to the application, as an ASGI extension.

ASGI has no word for "cut this connection now". A client that has stopped reading can't be closed in good order: what
is buffered for it would stay until the system gives up. Under another server the extension is absent, and a transport
leaves such a connection to that server.
"""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

EXTENSION = "askstream.connection"


class Http(HttpToolsProtocol):
    """HTTP/1.1 on httptools."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        offer(cast(Any, self.scope), self.transport)


class WebSocket(WebSocketsSansIOProtocol):
    """WebSocket on websockets' sans-IO core."""

    async def run_asgi(self) -> None:
        offer(cast(Any, self.scope), self.transport)
        await super().run_asgi()


def offer(scope: dict[str, Any], transport: asyncio.Transport) -> None:
    scope["extensions"] = {**scope.get("extensions", {}), EXTENSION: {"abort": transport.abort}}
