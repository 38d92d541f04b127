"""A client's connection: one protocol that transports write to, and the two ways that move its bytes.

The way is chosen here, below the transports, once: direct where our server runs, plain under any other.
"""

from askstream.server.connections.base import (
    Connection,
    ConnectionHandler,
    Framer,
    MessageHandler,
    SocketConnection,
    StreamConnection,
    StreamHandler,
)
from askstream.server.connections.selection import SocketRoute, serve_stream

__all__ = [
    "Connection",
    "ConnectionHandler",
    "Framer",
    "MessageHandler",
    "SocketConnection",
    "SocketRoute",
    "StreamConnection",
    "StreamHandler",
    "serve_stream",
]
