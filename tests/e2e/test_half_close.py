"""A client that closes its sending side: a stream goes on, since it may still be reading; an awaited answer doesn't."""

import asyncio
import json

import pytest

from tests.e2e.conftest import Start
from tests.e2e.viewers import client_of


async def _post(url: str, path: str, **body: object) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    return reader, writer


@pytest.mark.parametrize("direct", ["true", "false"])
async def test_a_stream_is_complete_after_a_half_close(start: Start, direct: str) -> None:
    """From the first event to the last chunk, and then the connection is closed."""
    server = start("--team", "tests.e2e.teams:streaming", ASKSTREAM_DIRECT=direct)
    reader, writer = await _post(server.url, "/ask-stream", question="Stream.")
    writer.write_eof()  # at once, as `nc -N` does
    async with asyncio.timeout(30):
        received = await reader.read()
    writer.close()
    assert received.count(b'"event_type":"started"') == 1
    assert received.count(b'"event_type":"completed"') == 1
    assert received.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("direct", ["true", "false"])
@pytest.mark.parametrize("path", ["/ask", "/ask-stream"])
async def test_a_client_that_is_gone_ends_its_run_within_two_seconds(start: Start, direct: str, path: str) -> None:
    """With `on_disconnect: cancel`. A half-close is enough on `/ask`; a stream's client has to be gone."""
    server = start("--team", "tests.e2e.teams:waiting", ASKSTREAM_DIRECT=direct)
    reader, writer = await _post(server.url, path, question="Wait.", on_disconnect="cancel")
    async with client_of(server.url) as client, asyncio.timeout(30):
        while not (runs := (await client.get("/runs")).json()["runs"]):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        if path == "/ask":
            writer.write_eof()
        else:
            await reader.readuntil(b'"started"')
            writer.close()
        began = asyncio.get_running_loop().time()
        while (await client.get(f"/runs/{runs[0]['run_id']}")).json()["state"] != "cancelled":  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    # The probes notice it after 1 s, later on a busy machine; without them the first heartbeat would, after 15 s.
    assert asyncio.get_running_loop().time() - began < 10
    writer.close()


async def test_a_body_that_is_cut_off_is_no_failure_of_the_server(start: Start) -> None:
    """The client left: no error is logged."""
    server = start("--team", "tests.e2e.teams:streaming")
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    head = b"POST /ask-stream HTTP/1.1\r\nHost: [::1]\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n"
    writer.write(head + b'{"question"')
    writer.write_eof()
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()
    async with client_of(server.url) as client:
        assert (await client.get("/health")).status_code == 200  # the request before it is done by then
    assert "ERROR" not in server.output
