"""Loops around Python's HTTP clients as their users write them: read to the terminal event, and come back with the id
of the last event whenever the connection is lost. Each returns the ids of all events that its library gave it."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import aiohttp
import httpx
import requests
import sseclient
import websocket

from tests.e2e.viewers import TERMINAL

Follow = Callable[[str], list[int]]
"""Follows the run whose events are at this address."""
ATTEMPTS = 20
# It accepts a head that was cut, such as one that ends with `charset=`.
LOST_BY_REQUESTS = (requests.RequestException, LookupError)


class Log:
    """The events of one run that a client got."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.ended = False

    @property
    def headers(self) -> dict[str, str]:
        return {"Last-Event-ID": str(self.ids[-1])} if self.ids else {}

    def add(self, data: str) -> None:
        event = json.loads(data)["event"]
        self.ids.append(event["id"])
        self.ended = event["event_type"] in TERMINAL

    def add_line(self, line: str) -> None:
        if line.startswith("data: "):
            self.add(line.removeprefix("data: "))


def _until_the_end(connect: Callable[[Log], None], lost: tuple[type[Exception], ...]) -> list[int]:
    log = Log()
    for _ in range(ATTEMPTS):
        with suppress(*lost):
            connect(log)
        if log.ended:
            break
    return log.ids


def follow_httpx(url: str) -> list[int]:
    with httpx.Client(verify=False, timeout=30) as client:

        def connect(log: Log) -> None:
            with client.stream("GET", url, headers=log.headers) as response:
                for line in response.iter_lines():
                    log.add_line(line)

        return _until_the_end(connect, (httpx.TransportError,))


def follow_requests(url: str) -> list[int]:
    with requests.Session() as session:

        def connect(log: Log) -> None:
            with session.get(url, headers=log.headers, stream=True, timeout=30) as response:
                for line in response.iter_lines(decode_unicode=True):
                    log.add_line(str(line))

        return _until_the_end(connect, LOST_BY_REQUESTS)


def follow_sseclient(url: str) -> list[int]:
    with requests.Session() as session:

        def connect(log: Log) -> None:
            with session.get(url, headers=log.headers, stream=True, timeout=30) as response:
                for event in _events(response):
                    assert event.id == str(json.loads(event.data)["event"]["id"])
                    log.add(event.data)

        return _until_the_end(connect, LOST_BY_REQUESTS)


def _events(response: Any) -> Iterator[Any]:
    return (event for event in sseclient.SSEClient(response).events() if event.data)


def follow_aiohttp(url: str) -> list[int]:
    return asyncio.run(_follow_aiohttp(url))


async def _follow_aiohttp(url: str) -> list[int]:
    """As in the documented Python client."""
    log = Log()
    async with aiohttp.ClientSession() as session:
        for _ in range(ATTEMPTS):
            try:
                async with session.get(url, headers=log.headers) as response:
                    async for line in response.content:
                        log.add_line(line.decode().rstrip("\n"))
            except aiohttp.ClientError:
                pass
            if log.ended:
                break
    return log.ids


def follow_websocket_client(url: str) -> list[int]:
    address, _, query = url.partition("?")
    base, run_id = address.replace("http", "ws", 1).removesuffix("/events").split("/runs/")

    def connect(log: Log) -> None:
        socket: Any = websocket.create_connection(f"{base}/ws?{query}", timeout=30)
        try:
            after = log.ids[-1] if log.ids else 0
            socket.send(json.dumps({"type": "subscribe", "run_id": run_id, "after": after}))
            while not log.ended:
                text = socket.recv()
                if text.startswith('{"event"'):
                    log.add(text)
        finally:
            socket.close()

    return _until_the_end(connect, (websocket.WebSocketException, OSError))


CLIENTS: dict[str, Follow] = {
    "httpx": follow_httpx,
    "requests": follow_requests,
    "sseclient-py": follow_sseclient,
    "aiohttp": follow_aiohttp,
    "websocket-client": follow_websocket_client,
}
