"""A client's connection: one protocol that transports write to, in two implementations.

The choice is made here, below the transports: direct if our server can hand the connection over, else plain.
"""

from askstream.server.connections.base import (
    RATE_CLOSE,
    Connection,
    ConnectionHandler,
    Framer,
    MessageHandler,
    SocketConnection,
    StreamConnection,
    StreamHandler,
)
from askstream.server.connections.inbound import InboundLimits
from askstream.server.connections.principals import PrincipalConnections
from askstream.server.connections.selection import SocketRoute, serve_stream

__all__ = [
    "RATE_CLOSE",
    "Connection",
    "ConnectionHandler",
    "Framer",
    "InboundLimits",
    "MessageHandler",
    "PrincipalConnections",
    "SocketConnection",
    "SocketRoute",
    "StreamConnection",
    "StreamHandler",
    "serve_stream",
]
