"""Autobahn's cases on `/ws`, direct and plain, in one packet and cut into small ones."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from tests.conformance.autobahn import Case, Event, cases, close
from tests.e2e.conftest import ServerProcess, started
from tests.timing import PATIENCE

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
# Cases of up to that many bytes are also sent byte by byte, larger ones in pieces as in the suite.
BYTEWISE, PIECE = 1000, 997
TOGETHER = 32


@pytest.fixture(scope="module", params=["true", "false"], ids=["direct", "plain"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with started(tmp_path_factory.mktemp("data"), ASKSTREAM_DIRECT=request.param) as process:
        yield process


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "cut"])
async def test_autobahns_cases_pass(server: ServerProcess, cut: bool) -> None:
    """Replies and pongs in their order, then the close code; the server closes the connection."""
    # Group 7 sends frames behind a close: in packets of their own they would find a closed connection.
    chosen = [case for case in cases() if not (cut and case.name.startswith("7."))]
    places = asyncio.Semaphore(TOGETHER)
    results = await asyncio.gather(*[_checked(server.url, case, cut, places) for case in chosen])
    assert len(chosen) > 150
    assert [result for result in results if result] == []


async def _checked(url: str, case: Case, cut: bool, places: asyncio.Semaphore) -> str | None:
    """Return what is wrong. As in the suite, a failure may overtake the reply to a message before it, and a client that
    is still sending when the connection fails may not see the close frame."""
    piece = len(case.sent) if not cut else 1 if len(case.sent) <= BYTEWISE else PIECE
    async with places, asyncio.timeout(PATIENCE):
        events, code = await _run(url, case, piece)
    fails = 1000 not in case.codes
    may_be_lost = fails and cut and code is None
    has_events = tuple(events) == case.events or (fails and not events)
    return None if has_events and (code in case.codes or may_be_lost) else f"{case.name}: {events} {code}"


async def _run(url: str, case: Case, piece: int) -> tuple[list[Event], int | None]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(UPGRADE)
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    core = ClientProtocol(parse_uri("ws://x/"), state=State.OPEN)
    # Reads meanwhile: what was received is lost once a write has failed.
    reading = asyncio.ensure_future(_read(reader, writer, core, case))
    with suppress(ConnectionError):  # it may be closed before all has been sent
        for start in range(0, len(case.sent), piece):
            writer.write(case.sent[start : start + piece])
            await writer.drain()
            await asyncio.sleep(0)
    events = await reading
    writer.close()
    return events, core.close_rcvd.code if core.close_rcvd else None


async def _read(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, core: ClientProtocol, case: Case
) -> list[Event]:
    events: list[Event] = []
    has_closed = case.ends
    with suppress(ConnectionError):
        while True:
            if not has_closed and len(events) >= len(case.events):
                has_closed = True
                writer.write(close())
            if not (data := await reader.read(2**16)):
                break
            core.receive_data(data)
            events.extend(_event(event) for event in core.events_received() if _is_event(event))
    return events


def _is_event(event: object) -> bool:
    return isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.PONG)


def _event(event: object) -> Event:
    assert isinstance(event, Frame)
    return "reply" if event.opcode is Opcode.TEXT else bytes(event.data)
