"""Server-Sent Events: a question and its run over one HTTP response, and any run's log from any cursor."""

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
from askstream.server.connections import StreamConnection, serve_stream
from askstream.server.journal import RunRecord
from askstream.server.requests import EVERYBODY, Ask, read_ask, read_cursor, read_view, viewable
from askstream.server.runs import Question
from askstream.transports.base import TransportContext, loggable
from askstream.transports.delivery import Delivery
from askstream.transports.formats import NDJSON, SSE, WireFormat

log = logging.getLogger("__main__")

# no-transform: a proxy that compresses would hold events back. X-Accel-Buffering is nginx's word for the same.
HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}

OnDisconnect: TypeAlias = Callable[[], Coroutine[Any, Any, object]]
"""Awaited when the client leaves before the log is complete."""


class Sse:
    def __init__(self, context: TransportContext) -> None:
        self._context = context

    def routes(self) -> Sequence[BaseRoute]:
        return [
            Route("/ask-stream", self.ask_stream, methods=["POST"]),
            _get_only(Route("/test-stream", self.test_stream, methods=["GET"])),
            Route("/runs/{run_id}/events", self.events, methods=["GET"]),
        ]

    async def ask_stream(self, request: Request) -> Response:
        """Starts a run and streams it from its first event."""
        ask = await read_ask(request, question_characters=self._context.question_characters)
        record, new = await self._context.runs.start(ask.question_of(EVERYBODY))
        viewer = await self._context.bus.attach(record.run_id, wanted=ask.wanted)
        return RunStream(viewer, self._context, on_disconnect=self._on_disconnect(ask, record) if new else None)

    async def test_stream(self, request: Request) -> Response:
        """A run of mock events, to see that streaming works from end to end."""
        question = Question(text="Test stream", principal=EVERYBODY)
        record, _ = await self._context.runs.start(question, by="mock")
        return RunStream(await self._context.bus.attach(record.run_id), self._context)

    async def events(self, request: Request) -> Response:
        """Replays a run's log from a cursor, then goes on live."""
        record = await self._context.runs.find(request.path_params["run_id"], EVERYBODY)
        view, after = read_view(request), viewable(record, read_cursor(request, record.last_id))
        if record.ended and after >= record.last_id:
            return Response(status_code=204, headers=HEADERS)  # the one answer that stops a browser's EventSource
        wire_format = NDJSON if NDJSON.media_type in request.headers.get("accept", "") else SSE
        if request.method == "HEAD":
            return _head(wire_format, record)
        viewer = await self._context.bus.attach(record.run_id, after=after, wanted=view.wanted)
        return RunStream(viewer, self._context, wire_format=wire_format)

    def _on_disconnect(self, ask: Ask, record: RunRecord) -> OnDisconnect | None:
        if ask.on_disconnect == "continue":
            return None
        return partial(self._context.runs.left, record.run_id, EVERYBODY)


def _get_only(route: Route) -> Route:
    """Without the HEAD that Starlette adds: to look must not start a run."""
    route.methods = {"GET"}
    return route


def _head(wire_format: WireFormat, record: RunRecord) -> Response:
    """A stream's headers alone. Its length isn't known."""
    response = Response(media_type=wire_format.media_type, headers=HEADERS | {"X-Run-Id": record.run_id})
    del response.headers["content-length"]
    return response


class RunStream(Response):
    """Streams what its viewer sees to one client, until the log is complete or the client leaves."""

    def __init__(
        self,
        viewer: Viewer,
        context: TransportContext,
        *,
        wire_format: WireFormat = SSE,
        on_disconnect: OnDisconnect | None = None,
    ) -> None:
        self.media_type = wire_format.media_type
        super().__init__(headers=HEADERS | {"X-Run-Id": viewer.run_id})
        del self.headers["content-length"]
        self._viewer, self._context, self._format, self._on_disconnect = viewer, context, wire_format, on_disconnect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers["location"] = addresses.run(scope, self._viewer.run_id)
        handler = None

        def opened(connection: StreamConnection) -> _StreamHandler:
            nonlocal handler
            handler = _StreamHandler(connection, self._viewer, self._context, self._format, self._on_disconnect)
            return handler

        try:
            await serve_stream(
                scope,
                receive,
                send,
                opened,
                headers=self.raw_headers,
                probe=self._format.heartbeat,
                send_seconds=self._context.send_seconds,
            )
        finally:
            if handler is None:
                self._viewer.close()


class _StreamHandler:
    """A connection's handler: one viewer, and the end of the response."""

    __slots__ = ("_connection", "_delivery", "_on_disconnect", "_opening", "_run_id", "_spawn")

    def __init__(
        self,
        connection: StreamConnection,
        viewer: Viewer,
        context: TransportContext,
        wire_format: WireFormat,
        on_disconnect: OnDisconnect | None,
    ) -> None:
        self._connection, self._on_disconnect, self._run_id = connection, on_disconnect, viewer.run_id
        self._opening, self._spawn = wire_format.opening, context.tasks.spawn
        self._delivery = Delivery(
            viewer,
            connection,
            wire_format,
            heartbeat_seconds=context.heartbeat_seconds,
            spawn=lambda work: context.tasks.spawn(work, self._pulled),
            done=self._done,
        )

    def opened(self) -> None:
        if self._opening:
            self._connection.write(self._connection.frame([self._opening]))
        self._delivery.begin()

    def paused(self) -> None:
        self._delivery.pause()

    def stalled(self) -> None:
        self._connection.abort()

    def lost(self) -> None:
        self._delivery.stop()
        if self._on_disconnect is not None:
            self._spawn(self._on_disconnect())

    def _pulled(self, task: Any) -> None:
        """The end of a task that pulled. A failure isn't the client's: it didn't leave, and may come back."""
        problem = None if task.cancelled() else task.exception()
        if problem is not None:
            log.error("run=%s can't be streamed: %s", self._run_id, loggable(problem))
            self._on_disconnect = None
            self._connection.abort()

    def _done(self, drained: bool) -> None:
        self._on_disconnect = None
        self._connection.finish()
