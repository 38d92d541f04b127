"""A WebSocket by plain ASGI, under our server: the same limits on a client's frames as on a direct one."""

import asyncio
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send
from websockets.frames import Frame, Opcode

import askstream.server.connections.uvicorn_websocket as ours
from askstream.server.auth import ACCESS, ANONYMOUS
from askstream.server.connections import RATE_CLOSE, SocketRoute, inbound
from askstream.server.connections.base import FRAGMENTS
from askstream.server.connections.inbound import TURN_FRAMES
from tests.server.connections.test_limits import Client
from tests.server.connections.test_uvicorn import UPGRADE, Handler, serving
from tests.timing import MS

# As much as one read of asyncio's brings.
READ = 256 * 1024
PING = Frame(Opcode.PING, b"").serialize(mask=True)
TEXT = Frame(Opcode.TEXT, b"{}").serialize(mask=True)


class Counting(Handler):
    """Handles each message at once, and closes the socket after `most` messages and control frames."""

    def __init__(self, most: int = 10**9) -> None:
        super().__init__()
        self.messages: list[str | bytes] = []
        self.controls, self._most = 0, most

    def received(self, text: str | bytes) -> None:
        self.messages.append(text)
        self._count()
        self.connections[0].resume()

    def control(self) -> None:
        self.controls += 1
        self._count()

    def _count(self) -> None:
        if len(self.messages) + self.controls > self._most:
            self.connections[0].close(RATE_CLOSE, "too many messages")

    async def application(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = SocketRoute("/", lambda _: self, subprotocol="b", send_seconds=15, message_bytes=100)
        await route({**scope, ACCESS: ANONYMOUS}, receive, send)


@pytest.fixture(autouse=True)
def turns(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The frames that were parsed in each turn of the loop."""
    monkeypatch.setattr(inbound, "CUT_SECONDS", 50 * MS)
    frames: list[int] = []
    begin, parse = inbound.Inbound._parse_turn, ours.WebSocket._parse  # pyright: ignore[reportPrivateUsage]

    def turn(self: Any) -> None:
        assert len(self.waiting) <= READ, "read on while bytes wait"
        frames.append(0)
        begin(self)

    def piece(self: Any, waiting: bytearray) -> int | None:
        parsed = parse(self, waiting)
        frames[-1] += parsed or 0
        return parsed

    monkeypatch.setattr(inbound.Inbound, "_parse_turn", turn)
    monkeypatch.setattr(ours.WebSocket, "_parse", piece)
    return frames


@pytest.mark.parametrize("frame", [PING, TEXT], ids=["pings", "messages"])
async def test_plain_a_client_that_floods_is_closed_and_cut(frame: bytes, turns: list[int]) -> None:
    """Each turn works on 64 frames at most, before the close and after it; nothing is read on."""
    handler = Counting(most=100)
    async with serving(handler.application, direct=False) as port, Client(port) as client:
        await client.send(UPGRADE)
        while not handler.connections:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await client.flood(frame)
        answer = await client.ended()
    assert RATE_CLOSE.to_bytes(2, "big") + b"too many messages" in answer
    assert max(turns) <= TURN_FRAMES
    assert sum(turns) <= 100 + 5 * TURN_FRAMES
    assert len(handler.messages) + handler.controls == 101


async def test_plain_a_message_in_too_many_fragments_closes_the_socket() -> None:
    handler = Counting()
    async with serving(handler.application, direct=False) as port, Client(port) as client:
        await client.send(UPGRADE)
        await client.send(Frame(Opcode.TEXT, b"a", fin=False).serialize(mask=True))
        await client.send(Frame(Opcode.CONT, b"", fin=False).serialize(mask=True) * (FRAGMENTS + 1))
        answer = await client.ended()
    assert answer.endswith(RATE_CLOSE.to_bytes(2, "big") + b"too many fragments")


@pytest.mark.parametrize(
    ("failed", "code"),
    [
        (Frame(Opcode.TEXT, b"\xff").serialize(mask=True), 1007),
        (Frame(Opcode.CONT, b"x").serialize(mask=True), 1002),
        (Frame(Opcode.TEXT, b"x" * 101).serialize(mask=True), 1009),
    ],
    ids=["not UTF-8", "a continuation of nothing", "too large"],
)
async def test_plain_frames_behind_a_failed_one_are_not_obeyed(failed: bytes, code: int) -> None:
    """The application's own limit of a message holds under every server."""
    handler = Counting()
    async with serving(handler.application, direct=False) as port, Client(port) as client:
        await client.send(UPGRADE)
        await client.send(TEXT + failed + TEXT)
        while code.to_bytes(2, "big") not in client.received:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await client.send(TEXT)
        await handler.gone.wait()
    assert handler.messages == ["{}"]
