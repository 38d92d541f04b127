"""The servers that ours is compared with, each in the way its own documentation shows.

    python -m bench.peers KIND --port N --data FOLDER

They run on uvicorn with the options of our server, except `websockets`, which is its own server, and `bare`.
"""

import argparse
import asyncio
import importlib
import json
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from bench.events import PARTS, Allowance, envelope

# As our server has it. Not imported from there: a peer's start must not wait for our modules.
BACKLOG = 2048
WATCH = "/watch/{run:int}"


class Hub:
    """A queue for each viewer of a run. A run begins when it is watched for the first time."""

    def __init__(self, form: Callable[[dict[str, Any]], Any]) -> None:
        self.allowance = Allowance()
        self._form = form
        self._queues: dict[int, set[asyncio.Queue[Any]]] = {}
        self._publishing: set[asyncio.Task[None]] = set()

    async def watch(self, run: int) -> AsyncGenerator[Any]:
        queue: asyncio.Queue[Any] = asyncio.Queue()
        if run not in self._queues:
            self._queues[run] = set()
            self._publishing.add(asyncio.create_task(self._publish(run)))
        self._queues[run].add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._queues[run].discard(queue)

    async def _publish(self, run: int) -> None:
        """Put every event into every queue of the run; `form` is applied once."""
        async for number in self.allowance.numbers(run % PARTS):
            item = self._form(envelope(number))
            for queue in self._queues[run]:
                queue.put_nowait(item)

    def close(self) -> None:
        for task in self._publishing:
            task.cancel()


def sse_starlette(hub: Hub) -> Route:
    """sse-starlette's EventSourceResponse; the event is made into JSON for each viewer, as its examples do."""
    response: Any = importlib.import_module("sse_starlette.sse").EventSourceResponse

    async def events(run: int) -> AsyncGenerator[dict[str, str]]:
        async for event in hub.watch(run):
            yield {"id": str(event["event"]["id"]), "data": json.dumps(event, separators=(",", ":"))}

    async def endpoint(request: Request) -> Any:
        return response(events(request.path_params["run"]))

    return Route(WATCH, endpoint)


def streaming(hub: Hub) -> Route:
    """Starlette's StreamingResponse over bytes that were encoded once for all."""

    async def endpoint(request: Request) -> Response:
        return StreamingResponse(hub.watch(request.path_params["run"]), media_type="text/event-stream")

    return Route(WATCH, endpoint)


def send_text(hub: Hub) -> WebSocketRoute:
    """Starlette's WebSocket.send_text with a text that was encoded once for all."""

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in hub.watch(websocket.path_params["run"]):
            await websocket.send_text(text)

    return WebSocketRoute(WATCH, endpoint)


def as_block(event: dict[str, Any]) -> bytes:
    return b"id: %d\ndata: %b\n\n" % (event["event"]["id"], orjson.dumps(event))


def as_text(event: dict[str, Any]) -> str:
    return orjson.dumps(event).decode()


KINDS: Mapping[str, tuple[Callable[[Hub], BaseRoute], Callable[[dict[str, Any]], Any]]] = {
    "sse-starlette": (sse_starlette, lambda event: event),
    "streaming": (streaming, as_block),
    "send-text": (send_text, as_text),
}


def starlette(kind: str) -> Starlette:
    make, form = KINDS[kind]
    hub = Hub(form)

    async def control(request: Request) -> Response:
        try:
            async for part in request.stream():
                hub.allowance.feed(part)
        except ClientDisconnect:
            pass
        return Response(status_code=204)

    async def health(request: Request) -> Response:
        return Response(b"{}")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        yield
        hub.close()

    routes = [make(hub), Route("/control", control, methods=["POST"]), Route("/health", health)]
    return Starlette(routes=routes, lifespan=lifespan)


class Control(asyncio.Protocol):
    """The control connection without HTTP around it."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance

    def data_received(self, data: bytes) -> None:
        self._allowance.feed(data)


async def websockets(port: int, _folder: Path) -> None:
    """The `websockets` library's server and its broadcast()."""
    from websockets.asyncio.server import ServerConnection, broadcast, serve

    allowance = Allowance()
    viewers: defaultdict[str, set[ServerConnection]] = defaultdict(set)
    publishing: list[asyncio.Task[None]] = []

    async def publish(run: str) -> None:
        async for number in allowance.numbers(int(run.rpartition("/")[2]) % PARTS):
            broadcast(viewers[run], as_text(envelope(number)))

    async def watch(connection: ServerConnection) -> None:
        assert connection.request is not None
        run = connection.request.path
        if run not in viewers:
            publishing.append(asyncio.create_task(publish(run)))
        viewers[run].add(connection)
        try:
            await connection.wait_closed()
        finally:
            viewers[run].discard(connection)

    loop = asyncio.get_running_loop()
    async with serve(watch, "127.0.0.1", port, compression=None, backlog=BACKLOG):
        control = await loop.create_server(lambda: Control(allowance), "127.0.0.1", port + 1)
        await control.serve_forever()


async def bare(port: int, folder: Path) -> None:
    from bench.bare import serve

    await serve(port, folder)


OWN: Mapping[str, Callable[[int, Path], Coroutine[Any, Any, None]]] = {"websockets": websockets, "bare": bare}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=[*KINDS, *OWN])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    if options.kind in OWN:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(OWN[options.kind](options.port, options.data))
        return
    uvicorn.run(
        starlette(options.kind),
        host="127.0.0.1",
        port=options.port,
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        access_log=False,
        log_level="warning",
        backlog=BACKLOG,
    )


if __name__ == "__main__":
    main()
