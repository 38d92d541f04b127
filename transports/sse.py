"""Server-Sent Events: a question and its run over one HTTP response, and any run's log from any cursor."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from askstream.server import addresses
from askstream.server.auth import ANONYMOUS, Access, access_of
from askstream.server.bus import Viewer
from askstream.server.connections import StreamConnection, serve_stream
from askstream.server.journal import RunRecord
from askstream.server.requests import read_ask, read_cursor, read_view, viewer_cursor
from askstream.server.runs import Question
from askstream.transports.base import TransportContext, loggable
from askstream.transports.delivery import Delivery
from askstream.transports.formats import NDJSON, SSE, FramedFormat, WireFormat

log = logging.getLogger("__main__")

# no-transform: a proxy that compresses would hold events back. X-Accel-Buffering does the same for nginx.
HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
# A stream that a GET gets could be kept by a browser.
_GET_HEADERS = [(b"cache-control", b"no-cache, no-store, no-transform"), (b"x-accel-buffering", b"no")]
_HEADERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]

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

    async def ask_stream(self, request: Request) -> "RunStream":
        """Start a run and stream it from its first event."""
        ask = await read_ask(request, question_characters=self._context.question_characters)
        access = access_of(request.scope)
        with self._context.connections.entered(access.principal) as leave:
            record, new = await self._context.runs.start(ask.to_question(access.principal))
            viewer = await self._context.bus.attach(record.run_id, wanted=ask.wanted)
        on_disconnect = None
        if new and ask.on_disconnect == "cancel":
            on_disconnect = partial(self._context.runs.viewer_left, record.run_id, access.principal)
        return RunStream(viewer, self._context, access, on_disconnect=on_disconnect, leave=leave)

    async def test_stream(self, request: Request) -> "RunStream":
        """Stream a run of mock events, to check streaming from end to end."""
        access = access_of(request.scope)
        question = Question(text="Test stream", principal=access.principal)
        with self._context.connections.entered(access.principal) as leave:
            record, _ = await self._context.runs.start(question, orchestrator="mock")
            viewer = await self._context.bus.attach(record.run_id)
        return RunStream(viewer, self._context, access, leave=leave)

    async def events(self, request: Request) -> "Response | RunStream":
        """Replay a run's log from a cursor, then go on live."""
        access = access_of(request.scope)
        record = await self._context.runs.find(request.path_params["run_id"], access.principal)
        view, after = read_view(request), viewer_cursor(record, read_cursor(request, record.last_id))
        if record.ended and after >= record.last_id:
            return Response(status_code=204, headers=HEADERS)  # only a 204 stops a browser's EventSource
        wire_format = NDJSON if "application/x-ndjson" in request.headers.get("accept", "") else SSE
        if request.method == "HEAD":
            return _head(wire_format, record)
        with self._context.connections.entered(access.principal) as leave:
            viewer = await self._context.bus.attach(record.run_id, after=after, wanted=view.wanted)
        return RunStream(viewer, self._context, access, wire_format=wire_format, leave=leave)


def _get_only(route: Route) -> Route:
    """Remove the HEAD that Starlette adds: it must not start a run."""
    route.methods = {"GET"}
    return route


def _head(wire_format: WireFormat, record: RunRecord) -> Response:
    """Return a stream's headers alone. Its length isn't known."""
    response = Response(media_type=wire_format.media_type, headers=HEADERS | {"X-Run-Id": record.run_id})
    del response.headers["content-length"]
    return response


def _nothing() -> None: ...


@dataclass(slots=True, eq=False)
class RunStream:
    """A response that streams its viewer's events to one client, until the log is complete or the client leaves. It is
    the handler of its connection. It calls `leave` when that has ended."""

    viewer: Viewer
    context: TransportContext
    access: Access = ANONYMOUS
    wire_format: WireFormat = SSE
    on_disconnect: OnDisconnect | None = None
    leave: Callable[[], object] = _nothing
    _connection: StreamConnection | None = None
    _delivery: Delivery | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        run_id, kept = self.viewer.run_id, _HEADERS if scope["method"] == "POST" else _GET_HEADERS
        where = [(b"x-run-id", run_id.encode()), (b"location", addresses.run(scope, run_id).encode())]
        try:
            await serve_stream(
                scope,
                receive,
                send,
                self,
                headers=[(b"content-type", self.wire_format.media_type.encode()), *kept, *where],
                probe=self.wire_format.heartbeat,
                send_seconds=self.context.send_seconds,
            )
        finally:
            if self._connection is None:
                self.viewer.close()
                self.leave()

    def opened(self, connection: StreamConnection, /) -> None:
        self._connection = connection
        if self.wire_format.preamble:
            connection.write(connection.frame([self.wire_format.preamble]))
        seconds = self.context.heartbeat_seconds if self.wire_format.heartbeat else 0
        encoding = FramedFormat(self.wire_format, connection.frame, seconds)
        spawn = partial(self.context.tasks.spawn, ended=self._pulled)
        self._delivery = Delivery(self.viewer, connection, encoding, spawn, self._done)
        self.context.streams.add(self, self.access)
        self._delivery.begin()

    def revoked(self) -> None:
        """Cut the stream, so that no client takes it for complete."""
        self.stalled()

    def paused(self) -> None:
        if self._delivery is not None:
            self._delivery.pause()

    def stalled(self) -> None:
        if self._connection is not None:
            self._connection.abort()

    def lost(self) -> None:
        self.leave()
        self.context.streams.discard(self)
        if self._delivery is not None:
            self._delivery.stop()
        if self.on_disconnect is not None:
            self.context.tasks.spawn(self.on_disconnect())

    def _pulled(self, task: "asyncio.Task[None]") -> None:
        """Called when a pulling task ends. A failure is no disconnect: the client didn't leave, and may reconnect."""
        problem = None if task.cancelled() else task.exception()
        if problem is not None:
            log.error("run=%s can't be streamed: %s", self.viewer.run_id, loggable(problem))
            self.on_disconnect = None
            self.stalled()

    def _done(self, drained: bool) -> None:
        self.on_disconnect = None
        self.leave()
        self.context.streams.discard(self)
        if self._connection is not None:
            self._connection.finish()
