"""HTTP as it comes from clients of all kinds: closed or half-closed, in HTTP/1.0, with upgrades that aren't ours."""

import asyncio
import json

import pytest

from askstream.transports.framing import Decoder
from tests.clients.raw import answers, ask_raw, connect, exchange, request
from tests.timing import PATIENCE

QUESTION = {"question": "3 0"}
ASK = request("POST", "/ask-stream", body=QUESTION)
H2C = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2_Settings": "AAMAAABkAAQCAAAAAAIAAAAA"}
SOCKET = {"Upgrade": "websocket", "Sec_WebSocket_Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Sec_WebSocket_Version": "13"}


def kinds(body: bytes) -> list[str]:
    return [json.loads(message.data)["event"]["event_type"] for message in Decoder().feed(body)]


WHOLE = ["started", *3 * ["agent_thinking"], "completed"]


async def test_a_stream_does_not_announce_that_its_connection_closes(own_way: str) -> None:
    """Node's older clients take a stream that was cut for a complete one if it does. It is closed all the same."""
    answer = await ask_raw(own_way, request("POST", "/ask-stream", body=QUESTION, Connection="close"))
    assert (answer.status, kinds(answer.body)) == (200, WHOLE)
    assert "connection" not in answer.headers
    assert answer.headers["transfer-encoding"] == "chunked"


async def test_an_answer_with_a_length_announces_it(own_way: str) -> None:
    answer = await ask_raw(own_way, request("GET", "/health", Connection="close"))
    assert (answer.status, answer.headers["connection"]) == (200, "close")


@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
async def test_http_1_0_gets_no_chunks(own_way: str, accept: str) -> None:
    """Its body ends with the connection."""
    asked = await ask_raw(own_way, request("POST", "/ask-stream", version="1.0", body=QUESTION))
    assert (asked.status, kinds(asked.body)) == (200, WHOLE)
    assert "transfer-encoding" not in asked.headers
    events = f"/runs/{asked.headers['x-run-id']}/events"
    replay = await ask_raw(own_way, request("GET", events, version="1.0", Accept=accept))
    assert replay.body.count(b'{"event":') == 5
    assert "transfer-encoding" not in replay.headers
    shown = await ask_raw(own_way, request("GET", "/runs", version="1.0"))
    assert "runs" in json.loads(shown.body)


@pytest.mark.parametrize("path", ["/ask-stream", "/ask", "/runs"])
@pytest.mark.parametrize("upgrade", [H2C, {**H2C, "Upgrade": "TLS/1.0"}, {**SOCKET, "Connection": "Upgrade"}])
@pytest.mark.parametrize("pieces", [1, 3])
async def test_an_upgrade_that_is_not_supported_is_ignored(
    own_way: str, path: str, upgrade: dict[str, str], pieces: int
) -> None:
    """`curl --http2` and Java's HttpClient offer h2c with each question. The body is read, in any number of packets,
    and the connection serves the next request."""
    sent = request("POST", path, body=QUESTION, **upgrade) + request("GET", "/health", Connection="close")
    size = -(-len(sent) // pieces)
    parts = [sent[at : at + size] for at in range(0, len(sent), size)]
    first, last = answers(await exchange(own_way, *parts))
    assert first.status in (200, 202)
    assert (last.status, last.body) == (200, b'{"status":"ok"}')


async def test_an_upgrade_without_a_body_is_ignored(own_way: str) -> None:
    first, last = answers(
        await exchange(own_way, request("GET", "/health", **H2C), request("GET", "/ready", Connection="close"))
    )
    assert (first.body, last.body) == (b'{"status":"ok"}', b'{"status":"ready"}')


@pytest.mark.parametrize(
    "headers", [{}, {"Upgrade": "websocket"}, {"Connection": "Upgrade"}, {"Upgrade": "h2c", "Connection": "Upgrade"}]
)
async def test_a_socket_without_an_upgrade_gets_426(way: str, headers: dict[str, str]) -> None:
    """As from a proxy that drops the headers. The answer says what to do."""
    prefix = "/ai" if way.endswith("/ai") else ""
    reader, writer = await connect(way)
    writer.write(request("GET", f"{prefix}/ws", **headers))
    async with asyncio.timeout(PATIENCE):
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readuntil(b"}")
    writer.close()
    assert head.startswith(b"HTTP/1.1 426 ")
    assert b"upgrade: websocket\r\n" in head.lower()
    assert json.loads(body)["code"] == "upgrade_required"


@pytest.mark.parametrize("path", ["/ask-stream", "/ask", "/runs", "/test-stream", "/health"])
async def test_a_request_is_served_after_a_half_close(own_way: str, path: str) -> None:
    """`nc -N` closes its sending side behind its request."""
    sent = (
        request("POST", path, body={"question": "3 0.2"}) if "ask" in path or "runs" in path else request("GET", path)
    )
    answer = await ask_raw(own_way, sent, half_close=True)
    assert answer.status in (200, 202)
    assert answer.body.endswith((b"}", b"\n\n"))


async def test_lines_are_served_after_a_half_close(own_way: str) -> None:
    """From a run that goes on."""
    run = json.loads(
        (await ask_raw(own_way, request("POST", "/runs", body={"question": "3 0.7"}, Connection="close"))).body
    )
    sent = request("GET", f"/runs/{run['run_id']}/events", Accept="application/x-ndjson")
    answer = await ask_raw(own_way, sent, half_close=True)
    assert answer.body.count(b"\n") == 5


async def test_requests_behind_a_stream_are_served_after_a_half_close(own_way: str) -> None:
    """They came while the stream was being sent."""
    slow = request("POST", "/ask-stream", body={"question": "2 0.2"})
    reader, writer = await connect(own_way)
    writer.write(slow)
    received = await reader.readuntil(b'"started"')
    writer.write(request("GET", "/health"))
    writer.write_eof()
    async with asyncio.timeout(PATIENCE):
        received += await reader.read()
    writer.close()
    streamed, health = answers(received)
    assert (kinds(streamed.body)[-1], health.body) == ("completed", b'{"status":"ok"}')


@pytest.mark.parametrize("sent", ["3", "3 ", " \t3\t "])
async def test_blanks_around_a_header_are_no_part_of_it(way: str, sent: str) -> None:
    """Some clients send them."""
    body, prefix = {"question": "3 0"}, "/ai" if way.endswith("/ai") else ""
    head = {"Connection": "close", "Idempotency_Key": "blanks"}
    await exchange(way, request("POST", f"{prefix}/ask-stream", body=body, **head))
    head = {"Connection": "close", "Idempotency_Key": "blanks\t ", "Last_Event_ID": sent}
    again = await ask_raw(way, request("POST", f"{prefix}/ask-stream", body=body, **head))
    assert (again.status, kinds(again.body)) == (200, WHOLE[3:])
