"""What our server lets an application do with a connection, as an ASGI extension in the scope.

    take(handler, probe, send_seconds)   the connection itself, to be written to directly; None where that can't be
    abort()                              cuts the connection
    unread()                             how many bytes the client has yet to read
    on_half_close(callback)              called once the client has closed its sending side; it may still be reading

Other servers offer nothing of this. A middleware that changes bodies on their way, one that compresses say, must take
the extension out of the scope.
"""

from typing import Any

from starlette.types import Scope

EXTENSION = "askstream.connection"


def offered(scope: Scope) -> dict[str, Any]:
    return scope.get("extensions", {}).get(EXTENSION, {})
