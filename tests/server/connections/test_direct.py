"""A direct WebSocket against the `websockets` client's own sans-IO core."""

import asyncio
import gc
import weakref
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

from askstream.server.connections import direct
from askstream.server.connections.direct import DirectSocket, text_frame
from tests.transports.connections import Line


@dataclass
class Handler:
    heard: list[str | bytes] = field(default_factory=list[str | bytes])
    pauses: int = 0
    losses: int = 0

    stalls: int = 0

    def opened(self, connection: Any, /) -> None: ...

    def stalled(self) -> None:
        self.stalls += 1

    def received(self, text: str | bytes) -> None:
        self.heard.append(text)

    def paused(self) -> None:
        self.pauses += 1

    def lost(self) -> None:
        self.losses += 1


class Talk:
    """Both ends after the handshake."""

    def __init__(self, *, max_size: int = 1000, send_seconds: float = 15) -> None:
        self.client = ClientProtocol(parse_uri("ws://x/"), state=State.OPEN)
        self.line, self.handler = Line(), Handler()
        conn = ServerProtocol(state=State.OPEN, max_size=max_size)
        self.open: set[Any] = set()
        line: Any = self.line
        self.socket = DirectSocket(line, self.open, self.handler, conn, send_seconds=send_seconds, is_paused=False)

    def say(self, *, cut: int = 10_000) -> None:
        """Brings what the client wants to send, in pieces of so many bytes."""
        data = b"".join(self.client.data_to_send())
        for start in range(0, len(data), cut):
            self.socket.data_received(data[start : start + cut])

    def answers(self) -> list[Frame]:
        self.client.receive_data(b"".join(self.line.written))
        self.line.written.clear()
        return [event for event in self.client.events_received() if isinstance(event, Frame)]


@given(texts=st.lists(st.text(max_size=300), min_size=1, max_size=5), cut=st.integers(1, 50), parts=st.integers(1, 4))
def test_messages_arrive_whole_however_they_are_cut(texts: list[str], cut: int, parts: int) -> None:
    """By the network, and by the client into fragments, at any byte; control frames may come in between."""
    talk = Talk(max_size=10_000)
    for text in texts:
        data = text.encode()
        size = max(1, len(data) // parts + 1)
        pieces = [data[start : start + size] for start in range(0, len(data), size)] or [b""]
        talk.client.send_text(pieces[0], fin=len(pieces) == 1)
        talk.client.send_ping(b"?")
        for number, piece in enumerate(pieces[1:], 2):
            talk.client.send_continuation(piece, fin=number == len(pieces))
    talk.say(cut=cut)
    assert talk.handler.heard == texts
    assert [event.opcode for event in talk.answers()] == [Opcode.PONG] * len(texts)


async def test_what_comes_next_waits_until_its_turn() -> None:
    """A client that floods fills its own buffers, not ours."""
    talk = Talk()
    talk.client.send_text(b"one")
    talk.say()
    assert not talk.line.reading
    talk.socket.resume()
    assert talk.line.reading


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
    """The handler learns that nothing may follow, before anything could."""
    talk = Talk()
    talk.socket.data_received(data)
    assert talk.answers()[-1].opcode is Opcode.CLOSE
    assert talk.client.close_rcvd is not None
    assert talk.client.close_rcvd.code == code
    assert (talk.handler.heard, talk.handler.losses, talk.line.closed) == ([], 1, True)


async def test_what_comes_behind_a_broken_message_is_not_delivered() -> None:
    """In the same packet: the connection has been failed."""
    talk = Talk()
    good, bad = (Frame(Opcode.TEXT, data).serialize(mask=True) for data in (b"ask", b"\xff"))
    talk.socket.data_received(bad + good)
    assert (talk.handler.heard, talk.handler.losses, talk.line.closed) == ([], 1, True)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 300, 65_535, 65_536, 70_000])
def test_a_frame_is_what_the_library_makes_of_it(size: int) -> None:
    """Its length is written in three ways."""
    assert text_frame(b"x" * size) == Frame(Opcode.TEXT, b"x" * size).serialize(mask=False)


async def test_a_close_of_the_clients_is_answered_and_is_the_last() -> None:
    """Whatever is due for it later: its handler doesn't write any more."""
    talk = Talk()
    talk.client.send_close(1000, "bye")
    talk.say()
    assert talk.client.close_rcvd is None
    assert [event.opcode for event in talk.answers()] == [Opcode.CLOSE]
    assert (talk.handler.losses, talk.line.closed) == (1, True)


async def test_a_close_of_ours_waits_for_the_answer_and_happens_once() -> None:
    """Behind what was written; a second reason comes too late, and messages are heard no more."""
    talk = Talk()
    talk.socket.write(text_frame(b"last"))
    talk.socket.close(4012, "away")
    talk.socket.close(1011, "again")
    text, close = talk.answers()
    assert (text.data, close.opcode) == (b"last", Opcode.CLOSE)
    assert talk.client.close_rcvd is not None
    assert talk.client.close_rcvd.code == 4012
    assert not talk.line.closed
    talk.say()
    assert talk.line.closed
    assert (talk.handler.heard, talk.handler.losses) == ([], 1)


async def test_a_close_of_ours_may_come_too_late() -> None:
    """The client has gone in the same moment; to write to it now would be an error."""
    talk = Talk()
    talk.line.lose()
    talk.socket.close(4012, "going away")
    assert talk.line.written == []
    assert talk.handler.losses == 1


async def test_a_server_that_stops_says_so() -> None:
    """uvicorn asks each of its open connections to end."""
    talk = Talk()
    assert talk.open == {talk.socket}
    talk.socket.shutdown()
    assert [event.opcode for event in talk.answers()] == [Opcode.CLOSE]
    assert talk.client.close_rcvd is not None
    assert talk.client.close_rcvd.code == 1012
    assert talk.line.closed


async def test_of_a_connection_that_is_gone_nothing_is_left() -> None:
    """No circle keeps it until somebody looks for garbage: thousands may go at once."""
    talk = Talk()
    talk.client.send_text(b"hello")
    talk.say()
    left = [weakref.ref(talk.handler), weakref.ref(talk.socket._conn)]  # pyright: ignore[reportPrivateUsage]
    gc.disable()
    try:
        talk.line.lose()
        assert not talk.open
        del talk
        assert [ref() for ref in left] == [None, None]
    finally:
        gc.enable()


async def test_who_has_yet_to_take_something_is_not_cut_off_by_a_server_that_stops() -> None:
    """Its handler ends it in good order, and the server waits for that as long as it waits for anybody."""
    talk = Talk()
    talk.socket.pause_writing()
    talk.socket.shutdown()
    assert not talk.line.closed
    assert talk.open == {talk.socket}


async def test_a_message_that_never_ends_costs_what_it_says() -> None:
    """Empty fragments count towards no limit of size, so nothing may be kept of them."""
    talk = Talk()
    talk.client.send_text(b"a", fin=False)
    for _ in range(1000):
        talk.client.send_continuation(b"", fin=False)
    talk.say()
    slots = [getattr(talk.socket, name) for name in DirectSocket.__slots__]
    assert not [kept for kept in slots if isinstance(kept, list) and kept]
    talk.client.send_continuation(b"b", fin=True)
    talk.say()
    assert talk.handler.heard == ["ab"]


async def test_who_takes_nothing_is_not_listened_to() -> None:
    """Its pings would be answered into memory. A message that is being dealt with keeps its own pause."""
    talk = Talk()
    talk.socket.pause_writing()
    assert not talk.line.reading
    talk.socket.resume_writing()
    assert talk.line.reading
    talk.client.send_text(b"one")
    talk.say()
    talk.socket.pause_writing()
    talk.socket.resume_writing()
    assert not talk.line.reading
    talk.socket.resume()
    assert talk.line.reading


async def test_the_answer_to_a_close_of_ours_is_read_whatever_was_going_on() -> None:
    """Also in the middle of a message: the socket is closed when the client agrees, not seconds later."""
    talk = Talk()
    talk.client.send_text(b"one")
    talk.say()
    assert not talk.line.reading
    talk.socket.close(4029, "enough")
    talk.answers()
    talk.say()
    assert talk.line.closed


@pytest.mark.parametrize("reads", [True, False])
async def test_a_client_has_stalled_when_it_reads_nothing_at_all(reads: bool) -> None:
    """One that reads a byte now and then hasn't, however long it takes."""
    talk = Talk(send_seconds=0.05)
    talk.line.full_after = 0
    talk.socket.write(text_frame(b"much"))
    for _ in range(10):
        await asyncio.sleep(0.01)
        talk.line.take_some(reads)
    assert talk.handler.stalls == (not reads)


async def test_a_stalled_client_is_told_why_and_then_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets the close frame if it reads on in time; the connection doesn't wait for its answer."""
    monkeypatch.setattr(direct, "CUT_SECONDS", 0.02)
    talk = Talk(send_seconds=0.01)
    talk.line.full_after = 0
    talk.socket.write(text_frame(b"much"))
    while not talk.handler.stalls:  # noqa: ASYNC110 - the fake has no events of its own
        await asyncio.sleep(0.005)
    talk.socket.close(4008, "too slow")
    assert talk.answers()[-1].opcode is Opcode.CLOSE
    while not talk.line.aborted:  # noqa: ASYNC110
        await asyncio.sleep(0.005)


async def test_waiting_to_write_ends_with_the_connection() -> None:
    """And nothing is written then."""
    talk = Talk()
    talk.line.full_after = 0
    talk.socket.write(text_frame(b"much"))
    waiting = asyncio.ensure_future(talk.socket.send(b"more"))
    await asyncio.sleep(0)
    talk.line.lose()
    await waiting
    assert b"more" not in talk.line.written
