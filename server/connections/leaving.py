"""Finds out that a client has left while we still work for it. ASGI tells it only to an application that listens."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive, Scope

from askstream.server.connections.extension import offered

T = TypeVar("T")


class ClientLeft(Exception):
    """The client closed the connection before the work for it was done; the work has been cancelled."""


async def unless_left(scope: Scope, receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns. Raises ClientLeft where the client leaves first. The request's body must have been read.

    A client that closes its sending side counts as gone: it has nothing to read yet that would show it is there.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(disconnected(receive))
    if (on_half_close := offered(scope).get("on_half_close")) is not None:
        on_half_close(leaving.cancel)
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientLeft
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.wait({working, leaving})


async def disconnected(receive: Receive) -> None:
    """Return when the client has gone. The request's body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass
