"""Server-Sent Events: a question and its run over one HTTP response, and any run's log from any cursor."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from askstream.server import addresses
from askstream.server.bus import Viewer
from askstream.server.connections.direct import Connection
from askstream.server.connections.leaving import ClientLeft, unless_left
from askstream.server.journal import RunRecord
from askstream.server.requests import EVERYBODY, Ask, read_ask, read_cursor, read_view, viewable
from askstream.server.runs import Question
from askstream.transports.base import House, abort, offered, take, told
from askstream.transports.delivery import Relay
from askstream.transports.formats import EVENT_STREAM, LINES, Body, Chunked
from askstream.transports.framing import LAST_CHUNK

log = logging.getLogger("__main__")

# no-transform: a proxy that compresses would hold events back. X-Accel-Buffering is nginx's word for the same.
HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}

Left: TypeAlias = Callable[[], Coroutine[Any, Any, object]]
"""Awaited when the client leaves before the log is complete."""


class Sse:
    def __init__(self, house: House) -> None:
        self._house = house

    def routes(self) -> Sequence[BaseRoute]:
        return [
            Route("/ask-stream", self.ask_stream, methods=["POST"]),
            _get_only(Route("/test-stream", self.test_stream, methods=["GET"])),
            Route("/runs/{run_id}/events", self.events, methods=["GET"]),
        ]

    async def ask_stream(self, request: Request) -> Response:
        """Starts a run and streams it from its first event."""
        ask = await read_ask(request, question_characters=self._house.question_characters)
        record, new = await self._house.runs.start(ask.question_of(EVERYBODY))
        viewer = await self._house.bus.attach(record.run_id, wanted=ask.wanted)
        return Stream(viewer, self._house, left=self._on_leave(ask, record) if new else None)

    async def test_stream(self, request: Request) -> Response:
        """A run of mock events, to see that streaming works from end to end."""
        question = Question(text="Test stream", principal=EVERYBODY)
        record, _ = await self._house.runs.start(question, by="mock")
        return Stream(await self._house.bus.attach(record.run_id), self._house)

    async def events(self, request: Request) -> Response:
        """Replays a run's log from a cursor, then goes on live."""
        record = await self._house.runs.find(request.path_params["run_id"], EVERYBODY)
        view, after = read_view(request), viewable(record, read_cursor(request, record.last_id))
        if record.ended and after >= record.last_id:
            return Response(status_code=204, headers=HEADERS)  # the one answer that stops a browser's EventSource
        viewer = await self._house.bus.attach(record.run_id, after=after, wanted=view.wanted)
        body = LINES if LINES.media_type in request.headers.get("accept", "") else EVENT_STREAM
        return Stream(viewer, self._house, body=body)

    def _on_leave(self, ask: Ask, record: RunRecord) -> Left | None:
        if ask.on_disconnect == "continue":
            return None
        return partial(self._house.runs.left, record.run_id, EVERYBODY)


def _get_only(route: Route) -> Route:
    """Without the HEAD that Starlette adds: to look must not start a run."""
    route.methods = {"GET"}
    return route


class Stream(Response):
    """Moves what its viewer sees to one client until the log is complete or the client leaves.

    Where the server lets us, the response's head is all that happens here: a `_Direct` takes the connection over.
    """

    def __init__(self, viewer: Viewer, house: House, *, body: Body = EVENT_STREAM, left: Left | None = None) -> None:
        self.media_type = body.media_type
        super().__init__(headers=HEADERS | {"X-Run-Id": viewer.run_id})
        del self.headers["content-length"]
        self._viewer, self._house, self._form, self._left = viewer, house, body, left

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        taken = False
        self.headers["Location"] = addresses.run(scope, self._viewer.run_id)
        try:
            if self._house.direct and offered(scope):
                self.headers["connection"] = "close"  # who takes it over can't give it back
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            taken = self._house.direct and self._hand_over(scope)
            if not taken:
                await self._stream(scope, receive, send)
        except (ClientLeft, TimeoutError) as why:
            if isinstance(why, TimeoutError) and abort(scope):
                await receive()  # until the server knows: it would complain of a response that isn't complete
            if self._left is not None:
                await self._left()
        finally:
            if not taken:
                self._viewer.close()

    def _hand_over(self, scope: Scope) -> bool:
        form = Chunked(self._form, self._house.heartbeat_seconds)
        direct = _Direct(self._viewer, form, self._house, self._left)
        connection = take(scope, direct)
        if connection is not None:
            direct.open(connection)
        return connection is not None

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's own way. Raises ClientLeft, and TimeoutError when the client takes nothing for too long."""
        if scope["method"] != "HEAD":
            await unless_left(receive, self._write(send))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write(self, send: Send) -> None:
        """Returns when the log is complete or the server goes away."""
        await self._send(send, self._form.opening)
        ended = False
        while not ended:
            batch = await self._viewer.next(self._house.heartbeat_seconds)
            data = self._form.encode(self._viewer.run_id, batch) if batch.says_something else self._form.heartbeat
            await self._send(send, data)
            ended = batch.ended or batch.drained

    async def _send(self, send: Send, data: bytes) -> None:
        if data:
            async with asyncio.timeout(self._house.send_seconds):
                await send({"type": "http.response.body", "body": data, "more_body": True})


class _Direct(Relay):
    """The rest of a response, without a request or a task."""

    __slots__ = ("_house", "_left", "_opening")

    def __init__(self, viewer: Viewer, form: Chunked, house: House, left: Left | None) -> None:
        super().__init__(viewer, form, send_seconds=house.send_seconds)
        self._house, self._left, self._opening = house, left, form.opening

    def open(self, connection: Connection) -> None:
        self.connection = connection
        connection.write(self._opening)
        self.begin()

    def paused(self) -> None:
        self.step_back()

    def lost(self) -> None:
        self.stop()
        if self._left is not None:
            self._house.tasks.spawn(self._left())

    def _spawn(self) -> asyncio.Task[None]:
        return self._house.tasks.spawn(self._guarded())

    async def _guarded(self) -> None:
        try:
            await self.catch_up()
        except TimeoutError:
            self.connection.abort()
        except Exception as problem:  # noqa: BLE001 - the edge of the viewer's task: else it would stay for ever
            log.error("run=%s can't be streamed: %s", self.viewer.run_id, told(problem))
            self._left = None  # it isn't the client that left
            self.connection.abort()

    def _finished(self, *, drained: bool) -> None:
        self._left = None
        self.connection.write(LAST_CHUNK)
        self.connection.close()
