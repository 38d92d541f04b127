"""Ends a request's work when its client disconnects. ASGI reports that only to an application that calls `receive`."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from askstream.server.connections.plain import until_disconnected

T = TypeVar("T")


class ClientDisconnected(Exception):
    """The client closed the connection before the work for it was done; the work has been cancelled."""


async def unless_disconnected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`. Raises ClientDisconnected if the client leaves first.

    The request's body must have been read. A client that closes its sending side is still there: our server probes it.
    """
    working = asyncio.ensure_future(work)
    disconnecting = asyncio.ensure_future(until_disconnected(receive))
    try:
        await asyncio.wait({working, disconnecting}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnected
        return working.result()
    finally:
        working.cancel()
        disconnecting.cancel()
        await asyncio.wait({working, disconnecting})
