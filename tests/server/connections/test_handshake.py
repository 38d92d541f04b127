"""What is recognised as a WebSocket's opening, beside what the library makes of the same bytes."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from askstream.server.connections.handshake import HEADER_BYTES, HEADER_LINES, recognise

Headers = list[tuple[bytes, bytes]]

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
CURL: Headers = [
    (b"host", b"x"),
    (b"connection", b"Upgrade"),
    (b"upgrade", b"websocket"),
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-key", KEY),
]
BROWSER: Headers = [
    (b"host", b"127.0.0.1:8000"),
    (b"connection", b"keep-alive, Upgrade"),
    (b"upgrade", b"websocket"),
    (b"origin", b"https://example.com"),
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-key", KEY),
    (b"sec-websocket-protocol", b"askstream.v1, other"),
    (b"sec-websocket-extensions", b"permessage-deflate; client_max_window_bits"),
    (b"cookie", "caf\u00e9".encode("latin-1")),
]


def _judged(headers: Headers) -> Response | None:
    """What the library answers; None where it takes the request for none."""
    core = ServerProtocol()
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    core.receive_data(b"GET / HTTP/1.1\r\n" + lines + b"\r\n")
    request = next((event for event in core.events_received() if isinstance(event, Request)), None)
    return core.accept(request) if request is not None else None


@pytest.mark.parametrize("headers", [CURL, BROWSER], ids=["curl", "browser"])
def test_what_clients_send_is_recognised(headers: Headers) -> None:
    assert recognise(headers) is not None


@pytest.mark.parametrize("offered", [[], ["askstream.v1"], ["other", "askstream.v1"]])
def test_a_client_takes_the_answer(offered: Sequence[str]) -> None:
    """The library's, which checks each part of it."""
    client = ClientProtocol(parse_uri("ws://x/"), subprotocols=[Subprotocol(name) for name in offered] or None)
    request = client.connect()
    handshake = recognise([(name.lower().encode(), value.encode()) for name, value in request.headers.raw_items()])
    assert handshake is not None
    assert list(handshake.subprotocols) == offered
    client.send_request(request)
    client.receive_data(handshake.answer("askstream.v1" if "askstream.v1" in offered else None))
    assert client.handshake_exc is None
    assert client.subprotocol == (offered[-1] if offered else None)


def _without(name: bytes) -> Headers:
    return [(other, value) for other, value in CURL if other != name]


@pytest.mark.parametrize(
    "headers",
    [
        *[_without(name) for name, _ in CURL[1:]],
        *[[*CURL, (name, value)] for name, value in CURL[1:]],
        [*CURL, (b"origin", b"a"), (b"origin", b"b")],
        [*CURL, (b"content-length", b"5")],
        [*CURL, (b"transfer-encoding", b"chunked")],
        [*_without(b"sec-websocket-key"), (b"sec-websocket-key", KEY[:-4])],
        [*_without(b"sec-websocket-key"), (b"sec-websocket-key", b"*" + KEY[1:])],
        [*_without(b"sec-websocket-version"), (b"sec-websocket-version", b"8")],
        [*CURL, (b"sec-websocket-protocol", b"a;b")],
        [*CURL, (b"sec-websocket-protocol", b"")],
        [*CURL, (b"x", b"x" * HEADER_BYTES)],
        [*CURL, *[(b"x", b"")] * HEADER_LINES],
    ],
)
def test_what_is_missing_twice_or_unheard_of_is_left_to_the_library(headers: Headers) -> None:
    """Nothing is refused here, and nothing let in that might have to be."""
    assert recognise(headers) is None


VALUES = st.sampled_from([
    b"", b"Upgrade", b"upgrade", b"keep-alive, Upgrade", b"keep-alive", b"websocket", b"WebSocket", b"h2c", b"13", b"8",
    KEY, KEY[:-1], KEY[:-2], b"=" * 24, b"a", b"a, b", b"a,b", b"a,,b", b"a b", b"0", b"chunked", b"\xe9", b"x" * 8190,
])  # fmt: skip
NAMES = st.sampled_from([name for name, _ in BROWSER] + [b"content-length", b"transfer-encoding", b"x-forwarded-for"])


@given(st.sampled_from([CURL, BROWSER]), st.lists(st.tuples(NAMES, VALUES), max_size=3), st.lists(NAMES, max_size=2))
def test_whoever_is_recognised_would_be_let_in_by_the_library(base: Headers, more: Headers, less: list[bytes]) -> None:
    """With the same answer."""
    headers = [(name, value) for name, value in base if name not in less] + more
    handshake = recognise(headers)
    if handshake is None:
        return
    response = _judged(headers)
    assert response is not None
    assert response.status_code == 101
    assert f"Sec-WebSocket-Accept: {response.headers['Sec-WebSocket-Accept']}\r\n" in handshake.answer(None).decode()
