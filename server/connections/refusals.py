"""The answer to a request that is refused below ASGI: `problem+json`, as server/problems.py makes it above."""

from http import HTTPStatus

import orjson
from starlette.types import Scope, Send

from askstream.server.events.errors import Refused

# Close code of a refused WebSocket, for servers that can't send an HTTP response. Most send 403 for it.
TRY_LATER = 1013


def response(error: Refused) -> bytes:
    """Return a whole response; the connection must be closed after it."""
    body = orjson.dumps(error.as_problem())
    retry = f"retry-after: {error.retry_after}\r\n" if error.retry_after is not None else ""
    return (
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\n"
        f"content-type: application/problem+json\r\ncontent-length: {len(body)}\r\n{retry}connection: close\r\n\r\n"
    ).encode() + body


async def refuse_websocket(error: Refused, scope: Scope, send: Send) -> None:
    """Refuse a handshake before the upgrade: with a response where the server can send one, else with a close."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": TRY_LATER, "reason": error.title})
        return
    headers = [(b"content-type", b"application/problem+json")]
    if error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after))
    await send({"type": "websocket.http.response.start", "status": error.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": orjson.dumps(error.as_problem())})
