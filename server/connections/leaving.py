"""Notices that a client leaves before its answer is ready. ASGI reports that only to an application that receives."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive, Scope

from askstream.server.connections.opening import offered
from askstream.server.connections.plain import disconnected

T = TypeVar("T")


class ClientLeft(Exception):
    """The client closed the connection before the work for it was done; the work has been cancelled."""


async def unless_left(scope: Scope, receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`. Raises ClientLeft if the client leaves first.

    The request's body must have been read. A client that closes its sending side counts as gone: nothing has been sent
    yet that would show it is still there.
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
