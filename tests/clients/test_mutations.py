"""Ten thousand requests with mistakes: each soon gets an answer below 500 or a closed connection."""

import asyncio
import random
from pathlib import Path

import pytest

from tests.clients.raw import connect, request
from tests.e2e.conftest import started
from tests.e2e.viewers import client_of
from tests.timing import PATIENCE

INPUTS, AT_ONCE, SEED = 10_000, 20, 20261130
KEYED = {"Last_Event_ID": "3", "Idempotency_Key": "k", "Accept": "application/x-ndjson;q=0.5, */*"}
SOCKET = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Version": "13"}
GOOD = [
    request("POST", "/ask-stream", body={"question": "q", "session_id": "s", "include": ["started"]}, **KEYED),
    request(
        "POST", "/ask", body={"question": "q", "tokens": True, "agents": ["A"]}, Upgrade="h2c", Connection="Upgrade"
    ),
    request("POST", "/runs", version="1.0", body={"question": "q", "if_busy": "queue"}),
    request("POST", "/runs/0/input", body={"request_id": "r", "value": {"a": [1, None]}}),
    request("GET", "/runs/0/events?after=3&lastEventId=2&include=started,error&tokens=true", **KEYED),
    request("GET", "/runs?limit=3&before=1.5_a", If_None_Match='"x", W/"y"'),
    request("GET", "/sessions/s"),
    request("DELETE", "/runs/0"),
    request("GET", "/ws", Sec_WebSocket_Key="AAAAAAAAAAAAAAAAAAAAAA==", **SOCKET) + b"\x81\x80abcd",
]


def mutated(chance: random.Random) -> bytes:
    """Return a good request with one to four mistakes."""
    data = bytearray(chance.choice(GOOD))
    for _ in range(chance.randint(1, 4)):
        at, size = chance.randrange(len(data) or 1), chance.randint(1, 8)
        match chance.randrange(4):
            case 0:
                data[at : at + size] = chance.randbytes(size)
            case 1:
                del data[at : at + size]
            case 2:
                data[at:at] = chance.choice([b"\r\n", b"\0", b" ", b"%00", b"\xff", b'"', b"{", b"9" * 20, b": "])
            case _:
                data[at:at] = data[at : at + 64]
    return bytes(data)


async def answer_to(url: str, sent: bytes) -> bytes:
    reader, writer = await connect(url)
    try:
        writer.write(sent)
        writer.write_eof()
        async with asyncio.timeout(PATIENCE):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.long
@pytest.mark.parametrize("direct", ["true", "false"])
async def test_no_mistake_is_the_servers(tmp_path: Path, direct: str) -> None:
    """And it logs no error, and serves on."""
    options = ("--orchestrator", "tests.clients.answering:echo")
    with started(tmp_path, *options, ASKSTREAM_DIRECT=direct, ASKSTREAM_ACTIVE_RUNS="1000") as server:
        chance = random.Random(SEED)
        left = [mutated(chance) for _ in range(INPUTS // 2)]
        failed: list[tuple[bytes, bytes]] = []
        answered = 0

        async def work() -> None:
            nonlocal answered
            while left:
                sent = left.pop()
                if (received := await answer_to(server.url, sent)).startswith(b"HTTP/1.1 5"):
                    failed.append((sent, received))
                answered += received.startswith(b"HTTP/1.1 ")

        await asyncio.gather(*[work() for _ in range(AT_ONCE)])
        assert not failed, failed[:3]
        assert answered > INPUTS // 4  # the others end within a request, which is no request yet
        async with client_of(server.url) as client:
            assert (await client.get("/health")).status_code == 200
        assert "ERROR" not in server.output
