"""The servers that ours is compared with, each written as in its documentation: a queue for each viewer.

uvicorn bench.peers:app   serves all of them at once; the generator watches one of them.
"""

import asyncio
import json
import sys
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio import server
from websockets.asyncio.server import ServerConnection

from bench.events import PARTS, Allowance, envelope

ALLOWANCE = Allowance()
QUEUES: defaultdict[int, set[asyncio.Queue[Any]]] = defaultdict(set)
PUBLISHING: set[asyncio.Task[None]] = set()


async def publish(run: int, form: Callable[[dict[str, Any]], Any]) -> None:
    """Put every event into every queue of the run; `form` is applied once."""
    async for number in ALLOWANCE.numbers(run % PARTS):
        item = form(envelope(number))
        for queue in QUEUES[run]:
            queue.put_nowait(item)


async def watch(run: int, form: Callable[[dict[str, Any]], Any]) -> AsyncGenerator[Any]:
    """Return the run. It begins with its first viewer."""
    queue: asyncio.Queue[Any] = asyncio.Queue()
    if run not in QUEUES:
        PUBLISHING.add(asyncio.create_task(publish(run, form)))
    QUEUES[run].add(queue)
    try:
        while True:
            yield await queue.get()
    finally:
        QUEUES[run].discard(queue)


async def sse_starlette(request: Request) -> Response:
    """sse-starlette's EventSourceResponse; the event is made into JSON for each viewer, as its examples do."""
    response: Any = import_module("sse_starlette.sse").EventSourceResponse

    async def events() -> AsyncGenerator[dict[str, str]]:
        async for event in watch(request.path_params["run"], lambda event: event):
            yield {"id": str(event["event"]["id"]), "data": json.dumps(event, separators=(",", ":"))}

    return response(events())


async def streaming(request: Request) -> Response:
    """Starlette's StreamingResponse over bytes that were encoded once for all."""
    blocks = watch(request.path_params["run"], lambda e: b"id: %d\ndata: %b\n\n" % (e["event"]["id"], orjson.dumps(e)))
    return StreamingResponse(blocks, media_type="text/event-stream")


async def send_text(websocket: WebSocket) -> None:
    """Starlette's WebSocket.send_text with a text that was encoded once for all."""
    await websocket.accept()
    async for text in watch(websocket.path_params["run"], lambda event: orjson.dumps(event).decode()):
        await websocket.send_text(text)


@asynccontextmanager
async def broadcast(_app: Starlette) -> AsyncGenerator[None]:
    """The websockets library's own server and its broadcast(), on the next port, as long as the application runs."""
    connections: defaultdict[str, set[ServerConnection]] = defaultdict(set)

    async def publish_to(path: str) -> None:
        async for number in ALLOWANCE.numbers(int(path.rpartition("/")[2]) % PARTS):
            server.broadcast(connections[path], orjson.dumps(envelope(number)).decode())

    async def watch_path(connection: ServerConnection) -> None:
        path = connection.request.path if connection.request else ""
        if path not in connections:
            PUBLISHING.add(asyncio.create_task(publish_to(path)))
        connections[path].add(connection)
        await connection.wait_closed()
        connections[path].discard(connection)

    port = int(sys.argv[sys.argv.index("--port") + 1]) + 1
    async with server.serve(watch_path, "127.0.0.1", port, compression=None, backlog=2048):
        yield


async def health(_request: Request) -> Response:
    return Response(b"{}")


app = Starlette(
    routes=[
        Route("/sse-starlette/{run:int}", sse_starlette),
        Route("/streaming/{run:int}", streaming),
        WebSocketRoute("/send-text/{run:int}", send_text),
        Route("/control", ALLOWANCE.control, methods=["POST"]),
        Route("/health", health),
    ],
    lifespan=broadcast,
)
