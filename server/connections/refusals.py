"""The answer to a request that is refused below ASGI: `problem+json`, as server/problems.py makes it above."""

from http import HTTPStatus

import orjson

from askstream.server.events.errors import Refused


def response(error: Refused) -> bytes:
    """Return a whole response; the connection must be closed after it."""
    body = orjson.dumps(error.as_problem())
    retry = f"retry-after: {error.retry_after}\r\n" if error.retry_after is not None else ""
    return (
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\n"
        f"content-type: application/problem+json\r\ncontent-length: {len(body)}\r\n{retry}connection: close\r\n\r\n"
    ).encode() + body
