"""A client of bytes: sends them, and returns what the server answers, without the help of any library."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.timing import PATIENCE


@dataclass(frozen=True)
class Answer:
    head: str
    body: bytes

    @property
    def status(self) -> int:
        return int(self.head.split()[1])

    @property
    def headers(self) -> dict[str, str]:
        """By names in small letters."""
        lines = (line.partition(":") for line in self.head.split("\r\n")[1:])
        return {name.lower(): value.strip() for name, _, value in lines}


def request(method: str, path: str, *, version: str = "1.1", body: object = None, **headers: str) -> bytes:
    """Return a request's bytes. In names of headers `_` stands for `-`."""
    data = b"" if body is None else json.dumps(body).encode()
    given: Mapping[str, str] = {"Content-Type": "application/json", "Content-Length": str(len(data))} if data else {}
    lines = [
        f"{name.replace('_', '-')}: {value}\r\n" for name, value in {"Host": "localhost", **given, **headers}.items()
    ]
    return f"{method} {path} HTTP/{version}\r\n{''.join(lines)}\r\n".encode() + data


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(url)
    return await asyncio.open_connection(parts.hostname, parts.port)


async def exchange(url: str, *sent: bytes, half_close: bool = False) -> bytes:
    """Send in as many packets, and return all that comes until the server closes the connection."""
    reader, writer = await connect(url)
    for data in sent:
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(0)
    if half_close:
        writer.write_eof()
    async with asyncio.timeout(PATIENCE):
        received = await reader.read()
    writer.close()
    return received


def answers(received: bytes) -> list[Answer]:
    """Take apart what came, interim answers too. A body in chunks is joined, and must be complete."""
    found: list[Answer] = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        answer = Answer(head.decode("latin-1"), b"")
        if answer.status == 100:
            body, received = b"", rest
        elif answer.headers.get("transfer-encoding") == "chunked":
            body, received = _unchunked(rest)
        elif "content-length" in answer.headers:
            length = int(answer.headers["content-length"])
            body, received = rest[:length], rest[length:]
        else:
            body, received = (b"", rest) if answer.status in (204, 304) else (rest, b"")
        found.append(Answer(answer.head, body))
    return found


def _unchunked(data: bytes) -> tuple[bytes, bytes]:
    body = bytearray()
    while True:
        line, _, data = data.partition(b"\r\n")
        size = int(line, 16)
        if not size:
            assert data.startswith(b"\r\n"), "the last chunk is missing"
            return bytes(body), data[2:]
        body += data[:size]
        assert data[size : size + 2] == b"\r\n", "the body was cut"
        data = data[size + 2 :]


async def ask_raw(url: str, *sent: bytes, half_close: bool = False) -> Answer:
    """Return the one final answer."""
    (answer,) = [each for each in answers(await exchange(url, *sent, half_close=half_close)) if each.status != 100]
    return answer
