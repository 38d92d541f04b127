"""A direct WebSocket against the `websockets` client's own sans-IO core."""

import asyncio
import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from askstream.server.connections import direct, inbound
from askstream.server.connections.base import FRAGMENTS, RATE_CLOSE
from askstream.server.connections.direct import DirectSocket, text_frame
from askstream.server.connections.inbound import TURN_BYTES, TURN_FRAMES
from tests.timing import MS
from tests.transports.connections import FakeTransport


@dataclass
class Handler:
    messages: list[str | bytes] = field(default_factory=list[str | bytes])
    pauses: int = 0
    losses: int = 0
    stalls: int = 0
    controls: int = 0
    then: Callable[[], object] = list

    def opened(self, connection: Any, /) -> None: ...

    def stalled(self) -> None:
        self.stalls += 1

    def received(self, text: str | bytes) -> None:
        self.messages.append(text)
        self.then()

    def control(self) -> None:
        self.controls += 1

    def paused(self) -> None:
        self.pauses += 1

    def lost(self) -> None:
        self.losses += 1


class SocketPair:
    """Both ends after the handshake."""

    def __init__(self, *, max_size: int = 1000, send_seconds: float = 15) -> None:
        self.client = ClientProtocol(parse_uri("ws://x/"), state=State.OPEN)
        self.line, self.handler = FakeTransport(), Handler()
        conn = ServerProtocol(state=State.OPEN, max_size=max_size)
        self.open: set[Any] = set()
        line: Any = self.line
        self.socket = DirectSocket(line, self.open, self.handler, conn, send_seconds=send_seconds, is_paused=False)

    def transfer(self, *, cut: int = 10_000) -> None:
        """Deliver the client's data to the server, in pieces of `cut` bytes."""
        data = b"".join(self.client.data_to_send())
        for start in range(0, len(data), cut):
            self.socket.data_received(data[start : start + cut])

    def answers(self) -> list[Frame]:
        self.client.receive_data(b"".join(self.line.written))
        self.line.written.clear()
        return [event for event in self.client.events_received() if isinstance(event, Frame)]


@given(texts=st.lists(st.text(max_size=300), min_size=1, max_size=5), cut=st.integers(1, 50), parts=st.integers(1, 4))
def test_messages_arrive_whole_however_they_are_cut(texts: list[str], cut: int, parts: int) -> None:
    """Cut by the network or into fragments by the client, at any byte; control frames may come in between."""
    pair = SocketPair(max_size=10_000)
    pair.handler.then = pair.socket.resume
    for text in texts:
        data = text.encode()
        size = max(1, len(data) // parts + 1)
        pieces = [data[start : start + size] for start in range(0, len(data), size)] or [b""]
        pair.client.send_text(pieces[0], fin=len(pieces) == 1)
        pair.client.send_ping(b"?")
        for number, piece in enumerate(pieces[1:], 2):
            pair.client.send_continuation(piece, fin=number == len(pieces))
    pair.transfer(cut=cut)
    assert pair.handler.messages == texts
    assert [event.opcode for event in pair.answers()] == [Opcode.PONG] * len(texts)


async def test_the_next_message_waits_for_resume() -> None:
    """A client that floods fills its own buffers, not ours."""
    pair = SocketPair()
    pair.client.send_text(b"one")
    pair.transfer()
    assert not pair.line.reading
    pair.socket.resume()
    assert pair.line.reading


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (Frame(Opcode.TEXT, b"x" * 1001).serialize(mask=True), 1009),
        (Frame(Opcode.TEXT, b"\xff").serialize(mask=True), 1007),
        (b"\xff\xff\xff\xff", 1002),
    ],
    ids=["too large", "not UTF-8", "no frame"],
)
async def test_a_broken_message_closes_with_its_code(data: bytes, code: int) -> None:
    """The handler is notified before anything could follow."""
    pair = SocketPair()
    pair.socket.data_received(data)
    assert pair.answers()[-1].opcode is Opcode.CLOSE
    assert pair.client.close_rcvd is not None
    assert pair.client.close_rcvd.code == code
    assert (pair.handler.messages, pair.handler.losses, pair.line.closed) == ([], 1, True)


async def test_nothing_behind_a_broken_message_is_delivered() -> None:
    """In the same packet: the connection has failed."""
    pair = SocketPair()
    good, bad = (Frame(Opcode.TEXT, data).serialize(mask=True) for data in (b"ask", b"\xff"))
    pair.socket.data_received(bad + good)
    assert (pair.handler.messages, pair.handler.losses, pair.line.closed) == ([], 1, True)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 300, 65_535, 65_536, 70_000])
def test_a_frame_equals_the_librarys(size: int) -> None:
    """For each of the three encodings of a length."""
    assert text_frame(b"x" * size) == Frame(Opcode.TEXT, b"x" * size).serialize(mask=False)


async def test_a_close_from_the_client_is_answered_and_is_the_last() -> None:
    """The handler writes nothing after it."""
    pair = SocketPair()
    pair.client.send_close(1000, "bye")
    pair.transfer()
    assert pair.client.close_rcvd is None
    assert [event.opcode for event in pair.answers()] == [Opcode.CLOSE]
    assert (pair.handler.losses, pair.line.closed) == (1, True)


async def test_a_close_from_the_server_waits_for_the_answer_and_happens_once() -> None:
    """After earlier writes; a second close has no effect, and no more messages are delivered."""
    pair = SocketPair()
    pair.socket.write(text_frame(b"last"))
    pair.socket.close(4012, "away")
    pair.socket.close(1011, "again")
    text, close = pair.answers()
    assert (text.data, close.opcode) == (b"last", Opcode.CLOSE)
    assert pair.client.close_rcvd is not None
    assert pair.client.close_rcvd.code == 4012
    assert not pair.line.closed
    pair.transfer()
    assert pair.line.closed
    assert (pair.handler.messages, pair.handler.losses) == ([], 1)


async def test_a_close_from_the_server_may_come_too_late() -> None:
    """The client has gone meanwhile; a write would be an error."""
    pair = SocketPair()
    pair.line.lose()
    pair.socket.close(4012, "going away")
    assert pair.line.written == []
    assert pair.handler.losses == 1


async def test_a_server_that_stops_sends_a_close_code() -> None:
    """uvicorn calls `shutdown` on each of its open connections."""
    pair = SocketPair()
    assert pair.open == {pair.socket}
    pair.socket.shutdown()
    assert [event.opcode for event in pair.answers()] == [Opcode.CLOSE]
    assert pair.client.close_rcvd is not None
    assert pair.client.close_rcvd.code == 1012
    assert pair.line.closed


async def test_a_lost_connection_leaves_nothing_behind() -> None:
    """No reference cycle keeps it until the garbage collector runs: thousands may go at once."""
    pair = SocketPair()
    pair.client.send_text(b"hello")
    pair.transfer()
    left = [weakref.ref(pair.handler), weakref.ref(pair.socket._conn)]  # pyright: ignore[reportPrivateUsage]
    gc.disable()
    try:
        pair.line.lose()
        assert not pair.open
        del pair
        assert [ref() for ref in left] == [None, None]
    finally:
        gc.enable()


async def test_a_stopping_server_lets_a_client_read_what_was_written() -> None:
    """Its handler closes it later, and uvicorn waits for that as for any connection."""
    pair = SocketPair()
    pair.socket.pause_writing()
    pair.socket.shutdown()
    assert not pair.line.closed
    assert pair.open == {pair.socket}


async def test_empty_fragments_cost_no_memory() -> None:
    """Empty fragments count towards no limit of size, so none may be kept."""
    pair = SocketPair()
    pair.client.send_text(b"a", fin=False)
    for _ in range(FRAGMENTS - 1):
        pair.client.send_continuation(b"", fin=False)
        pair.transfer()
    slots = [getattr(pair.socket, name) for name in DirectSocket.__slots__]
    assert not [kept for kept in slots if isinstance(kept, list) and kept]
    pair.client.send_continuation(b"b", fin=True)
    pair.transfer()
    assert pair.handler.messages == ["ab"]


async def test_a_client_that_reads_nothing_is_not_read_from() -> None:
    """Pongs for it would fill memory. A message that is being handled keeps its own pause."""
    pair = SocketPair()
    pair.socket.pause_writing()
    assert not pair.line.reading
    pair.socket.resume_writing()
    assert pair.line.reading
    pair.client.send_text(b"one")
    pair.transfer()
    pair.socket.pause_writing()
    pair.socket.resume_writing()
    assert not pair.line.reading
    pair.socket.resume()
    assert pair.line.reading


async def test_the_answer_to_a_close_from_the_server_is_always_read() -> None:
    """Also while a message is being handled: the socket is closed when the client answers, not seconds later."""
    pair = SocketPair()
    pair.client.send_text(b"one")
    pair.transfer()
    assert not pair.line.reading
    pair.socket.close(4029, "enough")
    pair.answers()
    pair.transfer()
    assert pair.line.closed


@pytest.mark.parametrize("reads", [True, False])
async def test_a_client_has_stalled_when_it_reads_nothing_at_all(reads: bool) -> None:
    """One that reads a byte now and then hasn't, even if it needs long."""
    pair = SocketPair(send_seconds=0.05)
    pair.line.full_after = 0
    pair.socket.write(text_frame(b"much"))
    for _ in range(10):
        await asyncio.sleep(0.01)
        pair.line.client_reads(reads)
    assert pair.handler.stalls == (not reads)


async def test_a_stalled_client_gets_a_close_code_and_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets the close frame if it reads on in time; the connection doesn't wait for its answer."""
    monkeypatch.setattr(direct, "CUT_SECONDS", 0.02)
    pair = SocketPair(send_seconds=0.01)
    pair.line.full_after = 0
    pair.socket.write(text_frame(b"much"))
    while not pair.handler.stalls:  # noqa: ASYNC110 - the fake has no events of its own
        await asyncio.sleep(0.005)
    pair.socket.close(4008, "too slow")
    assert pair.answers()[-1].opcode is Opcode.CLOSE
    while not pair.line.aborted:  # noqa: ASYNC110
        await asyncio.sleep(0.005)


async def test_waiting_to_write_ends_with_the_connection() -> None:
    """Nothing is written then."""
    pair = SocketPair()
    pair.line.full_after = 0
    pair.socket.write(text_frame(b"much"))
    waiting = asyncio.ensure_future(pair.socket.send(b"more"))
    await asyncio.sleep(0)
    pair.line.lose()
    await waiting
    assert b"more" not in pair.line.written


EMPTY_PING = Frame(Opcode.PING, b"").serialize(mask=True)
FLOODS = pytest.mark.parametrize(
    "frame",
    [EMPTY_PING, Frame(Opcode.PONG, b"").serialize(mask=True), Frame(Opcode.TEXT, b"{}").serialize(mask=True)],
    ids=["pings", "pongs", "messages"],
)


@FLOODS
async def test_a_turn_works_on_64_frames_and_the_rest_waits(frame: bytes) -> None:
    """Thousands came in one packet. Nothing is read meanwhile; in the end each has been handled, once."""
    pair, count = SocketPair(), 2000
    pair.handler.then = pair.socket.resume
    pair.socket.data_received(frame * count)
    worked = [pair.handler.controls + len(pair.handler.messages)]
    assert not pair.line.reading
    while not pair.line.reading:
        await asyncio.sleep(0)
        worked.append(pair.handler.controls + len(pair.handler.messages) - sum(worked))
    assert 0 < max(worked) <= TURN_FRAMES
    assert sum(worked) == count


async def test_one_large_message_needs_one_turn() -> None:
    """64 KiB fit in it."""
    pair = SocketPair(max_size=TURN_BYTES)
    pair.socket.data_received(Frame(Opcode.TEXT, b"x" * (TURN_BYTES - 200)).serialize(mask=True))
    assert [len(message) for message in pair.handler.messages] == [TURN_BYTES - 200]


@FLOODS
async def test_a_client_that_floods_on_after_a_close_is_cut(frame: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has got the close frame. 64 frames more are read, for its answer; none is obeyed or answered beyond."""
    monkeypatch.setattr(inbound, "CUT_SECONDS", 20 * MS)
    pair = SocketPair()
    pair.socket.close(RATE_CLOSE, "too many messages")
    pair.socket.data_received(frame * 2000)
    while pair.line.reading and not pair.line.closed:  # noqa: ASYNC110
        await asyncio.sleep(0)
    close, *pongs = pair.answers()
    assert close.opcode is Opcode.CLOSE
    assert len(pongs) <= TURN_FRAMES
    assert (pair.handler.messages, pair.handler.controls) == ([], 0)
    while not pair.line.aborted:  # noqa: ASYNC110
        await asyncio.sleep(0.005)


async def test_a_message_in_too_many_fragments_closes_the_socket() -> None:
    """Empty ones would count towards no other limit."""
    pair = SocketPair()
    pair.client.send_text(b"a", fin=False)
    for _ in range(FRAGMENTS + 1):
        pair.client.send_continuation(b"", fin=False)
        pair.transfer()
    pair.answers()
    assert pair.client.close_rcvd is not None
    assert pair.client.close_rcvd.code == RATE_CLOSE


@pytest.mark.parametrize(
    "failed",
    [
        Frame(Opcode.TEXT, b"\xff").serialize(mask=True),
        Frame(Opcode.TEXT, b"x" * 1001).serialize(mask=True),
        Frame(Opcode.CONT, b"x").serialize(mask=True),
        Frame(Opcode.TEXT, b"x").serialize(mask=False),
        b"\x83\x80\0\0\0\0",
        Frame(Opcode.CLOSE, b"\x03").serialize(mask=True),
    ],
    ids=["not UTF-8", "too large", "a continuation of nothing", "not masked", "an opcode", "a close"],
)
async def test_frames_behind_a_failed_one_are_not_obeyed(failed: bytes) -> None:
    """In the same packet or later; those before it were."""
    pair = SocketPair()
    pair.handler.then = pair.socket.resume
    good = Frame(Opcode.TEXT, b"ask").serialize(mask=True)
    pair.socket.data_received(good + failed + good + EMPTY_PING)
    pair.socket.data_received(good)
    assert (pair.handler.messages, pair.handler.controls, pair.handler.losses) == (["ask"], 0, 1)
    assert [frame.opcode for frame in pair.answers()] == [Opcode.CLOSE]
