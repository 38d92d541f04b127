"""Our HTTP server against clients that send without end, or not enough: what its parser gets, and what they get."""

import asyncio
import json
from contextlib import suppress
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

import askstream.server.connections.uvicorn as ours
from askstream.server.connections import InboundLimits, inbound, serve_stream
from askstream.server.connections.uvicorn import REFUSED_CONNECTIONS
from tests.server.connections.test_uvicorn import GET, UPGRADE, Handler, Sockets, serving
from tests.timing import MS, PATIENCE

POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
HEAD = InboundLimits().head_bytes
BODY = InboundLimits().body_bytes
WAYS = pytest.mark.parametrize("direct", [True, False], ids=["direct", "plain"])


async def ignores_bodies(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers at once, and reads no body."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def reads_bodies(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the number of bytes; a disconnect ends it."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message["body"]), message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d bytes" % size})


async def never_ends(scope: Scope, receive: Receive, send: Send) -> None:
    """Streams a response to a client that is still sending, and reads on."""
    await serve_stream(scope, receive, send, Handler(), headers=[], probe=b"", send_seconds=15)


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (inbound, ours):
        monkeypatch.setattr(module, "CUT_SECONDS", 50 * MS)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the pieces that uvicorn's parser got."""
    sizes: list[int] = []
    parse = HttpToolsProtocol.data_received

    def count(self: HttpToolsProtocol, data: bytes) -> None:
        sizes.append(len(data))
        parse(self, data)

    monkeypatch.setattr(HttpToolsProtocol, "data_received", count)
    return sizes


class Client:
    """Sends bytes, as fast as the server reads them; keeps what comes back."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.received = bytearray()

    async def __aenter__(self) -> "Client":
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._reading = asyncio.ensure_future(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()
        await asyncio.wait({self._reading})

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        with suppress(OSError):
            await self.writer.drain()

    async def flood(self, data: bytes) -> None:
        """Send without end, until the server cuts the connection."""
        while not self._reading.done():
            await self.send(data * (2**17 // len(data)))
            await asyncio.sleep(0)

    async def ended(self) -> bytes:
        await asyncio.wait({self._reading})
        return bytes(self.received)

    async def _read(self) -> None:
        with suppress(OSError):
            while data := await self.reader.read(2**16):
                self.received += data


def problem(answer: bytes) -> dict[str, Any]:
    """The last response, which must be whole problem+json and close the connection."""
    head, _, body = answer[answer.rindex(b"HTTP/1.1 ") :].partition(b"\r\n\r\n")
    assert b"\r\ncontent-type: application/problem+json\r\n" in head
    assert b"\r\nconnection: close" in head
    told = json.loads(body)
    assert head.startswith(b"HTTP/1.1 %d " % told["status"])
    assert told["title"]
    assert told["detail"].endswith(".")
    return told


@WAYS
@pytest.mark.parametrize(
    ("begin", "endless"),
    [
        (GET[:-2], b"a: b\r\n"),
        (GET[:-2] + b"A: ", b"x"),
        (b"GET /", b"x"),
        (UPGRADE[:-2], b"a: b\r\n"),
        (GET * 3 + GET[:-2], b"a: b\r\n"),
        (POST + b"Content-Length: 5\r\n\r\nhello" + GET[:-2] + b"A: ", b"x"),
    ],
    ids=["lines", "a header", "a URL", "a handshake", "behind requests", "behind a body"],
)
async def test_a_head_without_end_is_refused_and_cut(
    direct: bool, begin: bytes, endless: bytes, parsed: list[int]
) -> None:
    """Earlier requests are answered. The parser gets 64 KiB at most of the head that has no end."""
    async with serving(ignores_bodies, direct=direct) as port, Client(port) as client:
        await client.send(begin)
        await client.flood(endless)
        answer = await client.ended()
    assert problem(answer)["code"] == "head_too_large"
    assert answer.count(b"HTTP/1.1 200") == max(0, begin.count(b"HTTP/1.1") - 1)
    assert sum(parsed) <= len(begin) + HEAD


@WAYS
@pytest.mark.parametrize(
    ("begin", "endless"),
    [
        (CHUNKED, b"1\r\nx\r\n"),
        (CHUNKED, b"10000\r\n" + bytes(2**16) + b"\r\n"),
        (CHUNKED + b"0\r\n", b"a: b\r\n"),
        (CHUNKED + b"0\r\nA: ", b"x"),
        (POST + b"Content-Length: 99999999999\r\n\r\n", b"x"),
    ],
    ids=["chunks", "large chunks", "trailers", "a trailer", "a length"],
)
@pytest.mark.parametrize("application", [reads_bodies, ignores_bodies, never_ends])
async def test_a_body_without_end_is_refused_and_cut(
    direct: bool, begin: bytes, endless: bytes, application: Any, parsed: list[int]
) -> None:
    """An application that reads it learns of a disconnect. Nothing is written into a response, and none that was cut
    seems complete."""
    async with serving(application, direct=direct) as port, Client(port) as client:
        await client.send(begin)
        await client.flood(endless)
        answer = await client.ended()
    assert sum(parsed) <= len(begin) + 2 * BODY + 2**16
    if application is reads_bodies:
        assert problem(answer)["code"] == "body_too_large"
    elif application is ignores_bodies:
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b"ok")
    else:
        assert b"HTTP/1.1 4" not in answer
        assert not answer.endswith(b"0\r\n\r\n")


async def test_trailers_never_become_headers() -> None:
    """Behind a body in chunks nothing may change what the application has seen."""
    scopes: list[Scope] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await reads_bodies(scope, receive, send)

    async with serving(application) as port, Client(port) as client:
        await client.send(CHUNKED + b"1\r\nx\r\n0\r\nAuthorization: Bearer x\r\n\r\n" + GET)
        while client.received.count(b"HTTP/1.1 200") < 2:  # noqa: ASYNC110 - the client has no event for it
            await asyncio.sleep(0.001)
    assert [name for name, _ in scopes[0]["headers"]] == [b"host", b"transfer-encoding"]


@WAYS
async def test_one_request_is_parsed_ahead_of_no_other(direct: bool, parsed: list[int]) -> None:
    """A thousand requests in a packet are parsed one by one, each after the response before; all are answered."""
    waiting: list[int] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        waiting.append(len(parsed))
        await asyncio.sleep(0)
        await ignores_bodies(scope, receive, send)

    async with serving(application, direct=direct) as port, Client(port) as client:
        await client.send(GET * 1000)
        while client.received.count(b"HTTP/1.1 200") < 1000:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert waiting == list(range(1, 1001))
    assert parsed == [len(GET)] * 1000


@WAYS
async def test_pipelined_requests_behind_a_stream_fill_no_memory(direct: bool, parsed: list[int]) -> None:
    """While the stream goes on they stay in the client's own buffers."""
    handler = Handler()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await serve_stream(scope, receive, send, handler, headers=[], probe=b"", send_seconds=15)

    async with serving(application, direct=direct) as port, Client(port) as client:
        await client.send(GET)
        while not client.received:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        with suppress(TimeoutError):
            async with asyncio.timeout(500 * MS):
                await client.flood(GET)
        assert parsed == [len(GET)]
        handler.connections[0].abort()


@WAYS
@pytest.mark.parametrize(
    ("sent", "part"),
    [
        (b"G", "head"),
        (GET[:-2], "head"),
        (GET + GET[:-2], "head"),
        (POST + b"Content-Length: 5\r\n\r\nhe", "body"),
        (CHUNKED + b"5\r\nhe", "body"),
        (CHUNKED + b"0\r\nA: b\r\n", "body"),
    ],
)
async def test_half_a_request_is_refused_after_a_while(direct: bool, sent: bytes, part: str) -> None:
    """With 408, which says what didn't come."""
    limits = InboundLimits(head_seconds=0.05, body_seconds=0.05)
    async with serving(reads_bodies, direct=direct, limits=limits) as port, Client(port) as client:
        await client.send(sent)
        told = problem(await client.ended())
    assert (told["code"], told["status"]) == ("request_timeout", 408)
    assert f"The request's {part} " in told["detail"]


@WAYS
@pytest.mark.parametrize("sent", [b"", GET, POST + b"Content-Length: 5\r\n\r\nhello"])
async def test_a_connection_that_asks_nothing_more_is_closed(direct: bool, sent: bytes) -> None:
    """Without a word: a new one, and one whose requests were answered."""
    limits = InboundLimits(head_seconds=0.05)
    options: dict[str, Any] = {"timeout_keep_alive": 0.05}
    async with serving(ignores_bodies, direct=direct, limits=limits, **options) as port, Client(port) as client:
        await client.send(sent)
        answer = await client.ended()
    assert answer.count(b"HTTP/1.1") == bool(sent)


@WAYS
async def test_a_body_that_comes_after_its_response_lets_the_connection_be_idle(direct: bool) -> None:
    """It is closed as any idle connection, and not kept for ever."""
    options: dict[str, Any] = {"timeout_keep_alive": 0.05}
    async with serving(ignores_bodies, direct=direct, **options) as port, Client(port) as client:
        await client.send(POST + b"Content-Length: 5\r\n\r\nhe")
        while not client.received.endswith(b"ok"):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await client.send(b"llo")
        await client.ended()


async def test_a_slow_request_that_moves_on_is_answered() -> None:
    """The deadline of a part ends with it."""
    limits = InboundLimits(head_seconds=0.2, body_seconds=0.2)
    async with serving(reads_bodies, limits=limits) as port, Client(port) as client:
        request = POST + b"Content-Length: 5\r\n\r\nhello"
        for piece in (request[:20], request[20:-5], request[-5:]):
            await client.send(piece)
            await asyncio.sleep(0.1)
        while not client.received.endswith(b"5 bytes\r\n0\r\n\r\n"):  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_bytes_that_are_no_request_get_a_code() -> None:
    async with serving(ignores_bodies) as port, Client(port) as client:
        await client.send(b"\x16\x03\x01 a handshake of TLS\r\n\r\n")
        told = problem(await client.ended())
    assert (told["code"], told["status"]) == ("malformed_request", 400)


@WAYS
async def test_connections_beyond_the_limit_are_refused_with_an_answer(direct: bool) -> None:
    """A place that gets free is given away again; streams, sockets and idle connections count alike."""
    sockets = Sockets()
    limits = InboundLimits(connections=3)
    async with serving(never_ends, sockets.route, direct=direct, limits=limits) as port:
        async with Client(port) as stream, Client(port) as socket, Client(port):
            await stream.send(GET)
            await socket.send(UPGRADE if direct else GET)
            while not (stream.received and socket.received):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            async with Client(port) as refused:
                answer = await refused.ended()
            assert problem(answer)["code"] == "too_many_connections"
            assert b"\r\nretry-after: 5\r\n" in answer
        async with Client(port) as again:
            await again.send(GET)
            while not again.received.startswith(b"HTTP/1.1 200"):  # noqa: ASYNC110
                await asyncio.sleep(0.001)


async def test_refusals_hold_a_bounded_number_of_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection beyond it is cut without an answer."""
    monkeypatch.setattr(ours, "CUT_SECONDS", PATIENCE)
    async with serving(ignores_bodies, limits=InboundLimits(connections=1)) as port:
        clients = [await Client(port).__aenter__() for _ in range(REFUSED_CONNECTIONS + 4)]
        assert await clients[-1].ended() == b""
        while not clients[1].received:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        for client in clients:
            await client.__aexit__()
