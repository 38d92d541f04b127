"""A WebSocket's opening as nearly all clients write it, and the answer: RFC 6455, section 4.2.

Only what is sure to be right is recognised here. All else is left to a library that refuses it in the proper words.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from websockets.utils import accept_key

# All header lines together; the library allows that much, and more, for each of them.
HEADER_BYTES = 8 * 1024
HEADER_LINES = 128

_ASKING = frozenset({b"connection", b"upgrade", b"origin", b"content-length", b"transfer-encoding"})
_CONNECTION = (b"upgrade", b"keep-alive, upgrade")
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")
_SUBPROTOCOLS = re.compile(rb"[A-Za-z0-9._-]+(?:, ?[A-Za-z0-9._-]+)*")


@dataclass(frozen=True, slots=True)
class Handshake:
    """A client that may have its WebSocket. `subprotocols` are those that it offers, what it likes best first."""

    key: str
    subprotocols: Sequence[str] = ()

    def answer(self, subprotocol: str | None) -> bytes:
        chosen = f"Sec-WebSocket-Protocol: {subprotocol}\r\n" if subprotocol else ""
        return (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept_key(self.key)}\r\n{chosen}\r\n"
        ).encode()


def recognise(headers: Sequence[tuple[bytes, bytes]]) -> Handshake | None:
    """The handshake of a `GET` in HTTP/1.1 with these headers, names in lower case. None where anything is unusual."""
    if len(headers) > HEADER_LINES or sum(len(name) + len(value) for name, value in headers) > HEADER_BYTES:
        return None
    asking = [(name, value) for name, value in headers if name in _ASKING or name.startswith(b"sec-websocket-")]
    said = dict(asking)
    key, offered = said.get(b"sec-websocket-key", b""), said.get(b"sec-websocket-protocol")
    if (
        len(said) != len(asking)  # something is said twice
        or said.get(b"connection", b"").lower() not in _CONNECTION
        or said.get(b"upgrade", b"").lower() != b"websocket"
        or said.get(b"sec-websocket-version") != b"13"
        or not _KEY.fullmatch(key)
        or b"content-length" in said
        or b"transfer-encoding" in said
    ):
        return None
    if offered is None:
        return Handshake(key.decode())
    return Handshake(key.decode(), _names(offered)) if _SUBPROTOCOLS.fullmatch(offered) else None


def _names(offered: bytes) -> Sequence[str]:
    return [name.strip() for name in offered.decode().split(",")]
