"""Viewers of a run: over SSE with plain HTTP, over WebSocket with the `websockets` client."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextvars import ContextVar
from typing import Any, cast

import httpx2
from websockets.asyncio.client import ClientConnection, connect

from askstream.transports.framing import Decoder
from tests.timing import PATIENCE

# Headers of every request and handshake in this context, such as a token.
SENT: ContextVar[dict[str, str]] = ContextVar("SENT")
TERMINAL = {"completed", "error", "cancelled"}


def is_terminal(line: str) -> bool:
    return json.loads(line)["event"]["event_type"] in TERMINAL


def client_of(url: str) -> httpx2.AsyncClient:
    """Return a client without TLS, whose set-up would need longer than most requests here."""
    return httpx2.AsyncClient(base_url=url, headers=SENT.get({}), timeout=3 * PATIENCE, verify=False)


async def sse_lines(url: str, path: str, **request: Any) -> AsyncGenerator[tuple[str, str]]:
    """Yield (last event id, data) of each event of an SSE response, as it arrives."""
    decoder = Decoder()
    async with (
        client_of(url) as client,
        client.stream(request.pop("method", "GET"), path, **request) as response,
    ):
        response.raise_for_status()
        async for data in response.aiter_raw():
            for message in decoder.feed(data):
                yield message.last_event_id, message.data


async def watch_sse(url: str, run_id: str, *, after: int = 0, filters: dict[str, Any] | None = None) -> list[str]:
    """Return the data of all events after the cursor, to the run's end. Lists in `filters` are joined with commas."""
    joined = {name: _query(value) for name, value in (filters or {}).items()}
    path = f"/runs/{run_id}/events"
    return [data async for _, data in sse_lines(url, path, params={"after": str(after), **joined})]


def _query(value: Any) -> str:
    return ",".join(cast(list[str], value)) if isinstance(value, list) else str(value).lower()


def socket(url: str, **options: Any) -> connect:
    address = url.replace("http", "ws", 1) + "/ws"
    options["additional_headers"] = {**SENT.get({}), **options.get("additional_headers", {})}
    return connect(address, subprotocols=[cast(Any, "askstream.v1")], max_size=2**20, **options)


async def say(ws: ClientConnection, **message: Any) -> dict[str, Any]:
    """Send a message and return the next reply; no event may come before it."""
    await ws.send(json.dumps(message))
    return json.loads(await ws.recv())["reply"]


async def frames(ws: ClientConnection) -> list[str]:
    """Return the frames of the socket's only run, to its end, without heartbeats."""
    found: list[str] = []
    while not found or not is_terminal(found[-1]):
        frame = cast(str, await ws.recv())
        if not frame.startswith('{"reply"'):
            found.append(frame)
    return found


async def watch_ws(url: str, run_id: str, *, after: int = 0, filters: dict[str, Any] | None = None) -> list[str]:
    async with socket(url) as ws:
        reply = await say(ws, type="subscribe", run_id=run_id, after=after, **(filters or {}))
        assert reply["ok"], reply
        return await frames(ws)


async def watch_both(url: str, run_id: str) -> list[dict[str, Any]]:
    """Return all events of a run, chunks included, to its end. They must be the same over both transports."""
    tokens = {"tokens": True}
    lines, others = await asyncio.gather(watch_sse(url, run_id, filters=tokens), watch_ws(url, run_id, filters=tokens))
    assert lines == others
    return [json.loads(line)["event"] for line in lines]


async def ask(url: str, question: str, **fields: Any) -> str:
    """Start a run. Return its id."""
    async with client_of(url) as client:
        answer = await client.post("/runs", json={"question": question, **fields})
        answer.raise_for_status()
        return answer.json()["run_id"]
