"""The number of bytes that a client has yet to read."""

import asyncio
import socket

from askstream.server.connections.direct import unread


async def test_a_connection_that_was_cut_meanwhile_has_nothing_left_to_read() -> None:
    """A timer may look after the transport has closed its socket. A number of -1 is a ValueError of `ioctl`'s."""
    near, far = socket.socketpair()
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=near)
    transport.write(b"x" * 100)
    assert unread(transport) > 0
    transport.abort()
    near.close()
    assert unread(transport) == 0
    far.close()
