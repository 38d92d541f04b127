"""One turn of the loop parses a bounded part of a client's bytes; no piece reaches beyond a request's end."""

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from askstream.server.connections import inbound
from askstream.server.connections.inbound import TURN_BYTES, TURN_FRAMES, Inbound, InboundLimits, Requests
from askstream.server.events.errors import BodyTooLarge, HeadTooLarge, Refused
from tests.transports.connections import FakeTransport

# As much as one read brings under uvloop and asyncio.
READ = 256 * 1024
MANY = 100


class Owner:
    """Parses pieces of `size` bytes as `frames` frames each, on a transport that a test plays."""

    def __init__(self, size: int, frames: int, *, ahead: int = 0) -> None:
        self.line: Any = FakeTransport()
        self.parsed: list[bytes] = []
        self.may_parse = True
        self.inbound = Inbound(self.line, self.parse, ahead=ahead)
        self._size, self._frames = size, frames
        self.line.set_protocol(self)

    def parse(self, waiting: bytearray) -> int | None:
        if not self.may_parse:
            return None
        self.parsed.append(bytes(waiting[: self._size]))
        del waiting[: self._size]
        return self._frames

    def connection_lost(self, exc: Exception | None) -> None:
        self.inbound.lose()

    @property
    def size(self) -> int:
        return sum(map(len, self.parsed))


@pytest.mark.parametrize(
    ("size", "frames", "most_pieces"), [(TURN_BYTES, 0, 1), (100, 0, TURN_BYTES // 100 + 1), (192, 32, 2), (6, 1, 33)]
)
async def test_a_turn_is_bounded_in_bytes_and_frames(size: int, frames: int, most_pieces: int) -> None:
    """The rest waits for later turns, and nothing is read meanwhile; in the end all of it has been parsed, in order."""
    owner, data = Owner(size, frames), bytes(range(256)) * (READ // 256)
    owner.inbound.receive(data)
    turns = [len(owner.parsed)]
    assert not owner.line.reading
    while not owner.line.reading:
        await asyncio.sleep(0)
        turns.append(len(owner.parsed) - sum(turns))
    assert max(turns) <= most_pieces
    assert max(turns) * frames <= TURN_FRAMES
    assert b"".join(owner.parsed) == data


async def test_a_turn_lets_others_run_before_the_next_one() -> None:
    """Each turn is a callback of its own."""
    owner, seen = Owner(TURN_BYTES, 1), list[int]()
    owner.inbound.receive(bytes(READ))
    for _ in range(READ // TURN_BYTES - 1):
        asyncio.get_running_loop().call_soon(lambda: seen.append(owner.size // TURN_BYTES))
        await asyncio.sleep(0)
    assert seen == [2, 3, 4]


async def test_while_nothing_may_be_parsed_bytes_wait_and_reading_pauses_beyond_the_allowance() -> None:
    """The next request of a client that reads a response, and no more."""
    owner = Owner(10, 1, ahead=100)
    owner.may_parse = False
    owner.inbound.receive(bytes(100))
    assert (owner.line.reading, owner.size) == (True, 0)
    owner.inbound.receive(bytes(1))
    assert (owner.line.reading, owner.size) == (False, 0)
    owner.may_parse = True
    owner.inbound.resume()
    assert owner.size == 0, "in a turn of its own"
    await asyncio.sleep(0)
    assert (owner.line.reading, owner.size) == (True, 101)


async def test_a_held_connection_begins_no_turn() -> None:
    """It isn't read either, until `resume`."""
    owner = Owner(TURN_BYTES, 1)
    owner.inbound.receive(bytes(READ))
    owner.inbound.hold()
    for _ in range(5):
        await asyncio.sleep(0)
    assert (owner.line.reading, owner.size) == (False, TURN_BYTES)
    owner.inbound.resume()
    await asyncio.sleep(0)
    assert owner.size == 2 * TURN_BYTES


@pytest.mark.parametrize(("size", "frames"), [(1000, 0), (10, 1), (192, 32)])
async def test_a_client_that_floods_is_cut_and_not_read_on(
    size: int, frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One turn's worth more, for the answer to a close; then it isn't read, and cut once it could read ours."""
    monkeypatch.setattr(inbound, "CUT_SECONDS", 0.02)
    owner = Owner(size, frames)
    owner.inbound.limit()
    owner.inbound.receive(bytes(READ))
    for _ in range(50):
        await asyncio.sleep(0)
    assert (owner.line.reading, owner.inbound.waiting) == (False, b"")
    assert owner.size <= TURN_BYTES + size
    assert len(owner.parsed) * frames <= TURN_FRAMES + frames
    while not owner.line.aborted:  # noqa: ASYNC110 - the fake has no events of its own
        await asyncio.sleep(0.005)


async def test_a_lost_connection_parses_nothing_more() -> None:
    owner = Owner(TURN_BYTES, 1)
    owner.inbound.receive(bytes(READ))
    owner.line.lose()
    await asyncio.sleep(0)
    assert (owner.size, owner.inbound.waiting) == (TURN_BYTES, b"")


class Parser:
    """httptools between the pieces and the calls that a protocol makes."""

    def __init__(self, requests: Requests) -> None:
        self._requests, self._parser = requests, httptools.HttpRequestParser(self)
        self._length: int | None = 0
        self.complete = self.bytes = 0

    def feed(self, piece: bytes) -> None:
        self.bytes += len(piece)
        self._parser.feed_data(piece)

    def on_message_begin(self) -> None:
        self._length = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if name == b"Content-Length":
            self._length = int(value)
        elif name == b"Transfer-Encoding":
            self._length = None

    def on_headers_complete(self) -> None:
        self._requests.begin_body(self._length)

    def on_message_complete(self) -> None:
        self._requests.complete()
        self.complete += 1


def _plain(_body: bytes) -> bytes:
    return b"GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n"


def _with_length(body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def _in_chunks(body: bytes) -> bytes:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:3], body[3:]) if part)
    return b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


def _with_trailers(body: bytes) -> bytes:
    return _in_chunks(body)[:-2] + b"A: b\r\nC: d\r\n\r\n"


KINDS: list[Callable[[bytes], bytes]] = [_plain, _with_length, _in_chunks, _with_trailers]
BODIES = st.text("ab\r\n0", max_size=30).map(str.encode)


@given(st.lists(st.tuples(st.sampled_from(KINDS), BODIES), min_size=1, max_size=6), st.integers(1, 90))
def test_no_piece_reaches_beyond_the_end_of_a_request(kinds: list[tuple[Any, bytes]], cut: int) -> None:
    """The network cuts requests anywhere, and bodies hold anything. The parser gets all bytes, in order; when it has
    completed a request it has nothing of the next one."""
    sent = [kind(body) for kind, body in kinds]
    ends = [sum(map(len, sent[: number + 1])) for number in range(len(sent))]
    stream, waiting, requests = b"".join(sent), bytearray(), Requests(InboundLimits())
    parser = Parser(requests)
    for start in range(0, len(stream), cut):
        waiting += stream[start : start + cut]
        while waiting:
            before = parser.complete
            parser.feed(requests.take(waiting))
            assert parser.complete - before in (0, 1)
            assert parser.complete == before or parser.bytes == ends[before]
    assert (parser.complete, parser.bytes) == (len(sent), len(stream))


HEAD = b"GET / HTTP/1.1\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("begin", "endless", "refusal"),
    [
        (HEAD, b"a: b\r\n", HeadTooLarge),
        (HEAD + b"A: ", b"x", HeadTooLarge),
        (b"GET /", b"x", HeadTooLarge),
        (b"", b"\r\n", HeadTooLarge),
        (CHUNKED, b"1\r\nx\r\n", BodyTooLarge),
        (CHUNKED, b"1000\r\n" + b"x" * 4096 + b"\r\n", BodyTooLarge),
        (CHUNKED + b"1;", b"extension", BodyTooLarge),
        (CHUNKED + b"0\r\n", b"a: b\r\n", BodyTooLarge),
        (CHUNKED + b"0\r\nA: ", b"x", BodyTooLarge),
        (b"POST / HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n", b"x", BodyTooLarge),
    ],
    ids=[
        "lines",
        "a header",
        "a URL",
        "empty lines",
        "chunks",
        "large chunks",
        "extension",
        "trailers",
        "a trailer",
        "body",
    ],
)
def test_whatever_has_no_end_is_refused(begin: bytes, endless: bytes, refusal: type[Refused]) -> None:
    """The parser gets no more than the limit of a head, or twice that of a body."""
    limits = InboundLimits()
    requests = Requests(limits)
    parser, waiting, most = Parser(requests), bytearray(begin), limits.head_bytes + 2 * limits.body_bytes

    def send_on() -> None:
        for _ in range(200):
            waiting.extend(endless * (20_000 // len(endless) + 1))
            while waiting:
                parser.feed(requests.take(waiting))

    with pytest.raises(refusal):
        send_on()
    assert parser.bytes <= (limits.head_bytes if refusal is HeadTooLarge else most)


@pytest.mark.parametrize(
    ("lines", "size", "allowed"), [(100, None, True), (101, None, False), (3, 65_536, True), (3, 65_537, False)]
)
def test_the_limits_of_a_head_are_exact(lines: int, size: int | None, allowed: bool) -> None:
    """A hundred headers; 65,536 bytes with the empty line."""
    head = HEAD + b"A: b\r\n" * (lines - 1) + b"C: "
    head += b"x" * (size - len(head) - 4 if size else 0) + b"\r\n\r\n"
    requests, waiting = Requests(InboundLimits()), bytearray(head)
    with nullcontext() if allowed else pytest.raises(HeadTooLarge):
        while waiting:
            requests.take(waiting)
    assert (not waiting) == allowed
