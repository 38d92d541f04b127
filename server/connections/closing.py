"""The last response of a connection: that of a request with `Connection: close`, or in HTTP/1.0.

uvicorn would announce the close on streams as well, and send chunks to clients of HTTP/1.0, which don't know them.
"""

from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_BODYLESS = (204, 304)


class LastResponse:
    """An application that serves one request of uvicorn's. A response without a length has no `Connection: close`: with
    it, some clients take a stream that was cut for a complete one. In HTTP/1.0 its body ends with the connection."""

    def __init__(self, app: ASGIApp, cycle: Any) -> None:
        self._app, self._cycle = app, cycle
        self._is_unchunked = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, self._send)

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _has_no_length(message):
            await self._begin_stream(message)
            return
        if self._is_unchunked:
            self._cycle.expected_content_length = len(message.get("body", b""))  # or uvicorn refuses the next bytes
        await self._cycle.send(message)

    async def _begin_stream(self, message: Message) -> None:
        self._is_unchunked = self._cycle.scope["http_version"] != "1.1"
        if self._is_unchunked:
            self._cycle.chunked_encoding = False
        self._cycle.keep_alive = True
        await self._cycle.send(message)
        self._cycle.keep_alive = False


def _has_no_length(message: Message) -> bool:
    names = {name.lower() for name, _ in message["headers"]}
    return message["status"] not in _BODYLESS and b"content-length" not in names
