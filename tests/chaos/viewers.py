"""Viewers that stop reading, vanish, come back at random cursors, change transports, and check all they get."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, TypeAlias, cast
from urllib.parse import urlsplit

import httpx2
from websockets.asyncio.client import ClientConnection, connect

from askstream.transports.framing import Decoder
from tests.chaos.host import RETRY_SECONDS, SEND_SECONDS, Host, Lost, faults
from tests.e2e.viewers import SENT, TERMINAL
from tests.timing import PATIENCE

Way: TypeAlias = Literal["sse", "websocket"]
# Bytes. Small, so that the server notices a stalled client. With a quarter of it, TCP's windows would be so small that
# clients that do read wait for the sender's timers.
RECEIVE_BUFFER = 16384
# A silence longer than this, with heartbeats every 0.3 s, is a hang.
SILENT_SECONDS = PATIENCE


@dataclass(slots=True)
class Counts:
    """Counts over a scenario."""

    connections: int = 0
    lines: int = 0
    vanished: int = 0
    stalled: int = 0
    cut: int = 0
    drains: int = 0
    answers: int = 0
    cancels: int = 0
    runs: int = 0
    events: int = 0
    resumed: int = 0
    ends: dict[str, int] = field(default_factory=dict[str, int])

    def add(self, other: "Counts") -> None:
        for name in self.__slots__:
            mine, theirs = getattr(self, name), getattr(other, name)
            setattr(self, name, mine + theirs if isinstance(mine, int) else _summed(mine, theirs))


def _summed(mine: dict[str, int], theirs: dict[str, int]) -> dict[str, int]:
    return {name: mine.get(name, 0) + theirs.get(name, 0) for name in sorted({*mine, *theirs})}


@dataclass(slots=True)
class SeenLines:
    """One viewer's lines of one run, over all its connections. `tokens` says whether it wants chunks."""

    run_id: str
    tokens: bool
    counts: Counts
    lines: dict[int, str] = field(default_factory=dict[int, str])
    ended: bool = False

    @property
    def cursor(self) -> int:
        return max(self.lines, default=0)

    def keep(self, line: str, last: int) -> int:
        """Keep a line from a connection whose newest event was `last`, and return the newest id. Raises AssertionError
        unless the line is the next event, with the same bytes as on earlier connections."""
        event = json.loads(line)["event"]
        if "id" not in event:
            assert event["event_type"] == "drain", f"an unexpected notice: {line}"
            self.counts.drains += 1
            return last
        number: int = event["id"]
        assert event["run_id"] == self.run_id
        assert number == last + 1 if self.tokens else number > last, f"event {number} came after {last}: {line[:200]}"
        assert self.tokens or event["event_type"] != "agent_chunk"
        assert self.lines.setdefault(number, line) == line, f"event {number} has changed: {line[:200]}"
        assert not self.ended or number <= self.cursor, f"event {number} came after the end"
        self.ended = self.ended or event["event_type"] in TERMINAL
        self.counts.lines += 1
        return number


@dataclass(frozen=True, slots=True)
class Behaviour:
    """A viewer's behaviour on one connection: it `leaves` or `stalls` after so many events; 0 is never."""

    way: Way
    after: int
    leaves: int = 0
    stalls: int = 0

    @classmethod
    def by(cls, chance: Random, cursor: int) -> "Behaviour":
        way: Way = chance.choice(("sse", "websocket"))
        after = chance.choice((cursor, cursor, 0, chance.randint(0, cursor)))
        match chance.choices(("stays", "leaves", "stalls"), (5, 4, 1))[0]:
            case "leaves":
                return cls(way, after, leaves=chance.randint(1, 30))
            case "stalls":
                return cls(way, after, stalls=chance.randint(1, 10))
            case _:
                return cls(way, after)


async def watch(host: Host, seen: SeenLines, chance: Random) -> None:
    """Connect again and again until it has the run's end."""
    while not seen.ended:
        behaviour = Behaviour.by(chance, seen.cursor)
        seen.counts.connections += 1
        with contextlib.suppress(Lost):
            await _visit(host, seen, behaviour, chance)
        await asyncio.sleep(chance.choice((0, RETRY_SECONDS, chance.random())))


async def _visit(host: Host, seen: SeenLines, behaviour: Behaviour, chance: Random) -> None:
    opened = sse if behaviour.way == "sse" else websocket
    last, count = behaviour.after, 0
    async with aclosing(opened(await host.url(), seen.run_id, behaviour.after, seen.tokens, chance)) as lines:
        try:
            async for line in lines:
                last = seen.keep(line, last)
                count += 1
                if seen.ended and last == seen.cursor:
                    return
                if count == behaviour.leaves:
                    seen.counts.vanished += 1
                    return
                if count == behaviour.stalls:
                    seen.counts.stalled += 1
                    await asyncio.sleep(chance.uniform(1, 3) * SEND_SECONDS)
        except Lost:
            seen.counts.cut += behaviour.stalls > 0
            raise


async def sse(url: str, run_id: str, after: int, tokens: bool, chance: Random) -> AsyncGenerator[str]:
    """The data of each event of one response."""
    query: dict[str, str] = {"tokens": str(tokens).lower()}
    headers: dict[str, str] = {}
    if chance.random() < 0.5:
        headers["Last-Event-ID"] = str(after)
    else:
        query["after"] = str(after)
    decoder = Decoder()
    async with client(url) as http:
        with faults():
            async with http.stream("GET", f"/runs/{run_id}/events", params=query, headers=headers) as response:
                if response.status_code == 503:
                    raise Lost("draining")
                assert response.status_code == 200, f"{response.status_code} for {run_id} after {after}"
                async for data in response.aiter_raw():
                    for message in decoder.feed(data):
                        yield message.data


@asynccontextmanager
async def client(url: str) -> AsyncGenerator[httpx2.AsyncClient]:
    """A client with a tiny receive buffer; heartbeats keep it from its timeout."""
    small = [(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)]
    transport = httpx2.AsyncHTTPTransport(verify=False, socket_options=small)
    async with httpx2.AsyncClient(
        base_url=url, headers=SENT.get({}), transport=transport, timeout=SILENT_SECONDS
    ) as opened:
        yield opened


async def websocket(url: str, run_id: str, after: int, tokens: bool, chance: Random) -> AsyncGenerator[str]:
    """Each frame with an event of that run, to its end. Sometimes it unsubscribes and subscribes again first."""
    async with opened_socket(url) as ws:
        request = {"type": "subscribe", "ref": "it", "run_id": run_id, "after": after, "tokens": tokens}
        with faults():
            await ws.send(json.dumps(request))
            if chance.random() < 0.2:  # before any event can arrive
                await ws.send(json.dumps({"type": "unsubscribe", "run_id": run_id}))
                await ws.send(json.dumps({**request, "ref": "again"}))
                await _await_reply(ws, "again")
            else:
                await _await_reply(ws, "it")
        while True:
            with faults():
                frame = await received(ws)
            if "reply" not in json.loads(frame):
                yield frame


async def _await_reply(ws: ClientConnection, ref: str) -> None:
    """Read until the reply comes. Events before it belong to the earlier subscription."""
    while True:
        reply = json.loads(await received(ws)).get("reply", {})
        if reply.get("ref") == ref:
            assert reply["ok"], reply
            return


async def received(ws: ClientConnection) -> str:
    async with asyncio.timeout(SILENT_SECONDS):
        return cast(str, await ws.recv())


@asynccontextmanager
async def opened_socket(url: str) -> AsyncGenerator[ClientConnection]:
    """A socket with a tiny receive buffer, which is aborted at the end."""
    split = urlsplit(url)
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    plain.setblocking(False)
    with faults():
        try:
            await asyncio.get_running_loop().sock_connect(plain, (split.hostname, split.port))
            ws = await connect(
                f"ws://{split.netloc}/ws",
                sock=plain,
                additional_headers=SENT.get({}),
                subprotocols=[cast(Any, "askstream.v1")],
                max_size=2**20,
                max_queue=2,
                open_timeout=SILENT_SECONDS,
            )
        except BaseException:
            plain.close()
            raise
    try:
        yield ws
    finally:
        ws.transport.abort()
        await ws.wait_closed()
