"""Server-Sent Events: a question and its run over one HTTP response, and any run's log from any cursor."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from server.ask import EVERYBODY, Ask, read_ask, read_cursor, read_view
from server.bus import Batch, Viewer
from server.events.errors import BadCursor, LogExpired
from server.journal import Entry, RunRecord
from server.leaving import ClientLeft, unless_left
from server.runs import Question
from transports.base import House, abort, drain_line, gap_line, retry_spread
from transports.framing import HEARTBEAT, RETRY_MS, block, cursor_block, notice_block, retry_block

# no-transform: a proxy that compresses would hold events back. X-Accel-Buffering is nginx's word for the same.
HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}


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
        view, after = read_view(request), read_cursor(request, record.last_id)
        if after > record.last_id and not record.ended:
            raise BadCursor(f"The run's newest event is {record.last_id}; {after} has not happened yet.")
        if record.ended and after >= record.last_id:
            return Response(status_code=204, headers=HEADERS)  # the one answer that stops a browser's EventSource
        if record.expired_at is not None:
            raise LogExpired
        viewer = await self._house.bus.attach(record.run_id, after=after, wanted=view.wanted)
        form = LINES if LINES.media_type in request.headers.get("accept", "") else EVENT_STREAM
        return Stream(viewer, self._house, form=form)

    def _on_leave(self, ask: Ask, record: RunRecord) -> Callable[[], Awaitable[object]] | None:
        if ask.on_disconnect == "continue":
            return None
        return partial(self._house.runs.left, record.run_id, EVERYBODY)


def _get_only(route: Route) -> Route:
    """Without the HEAD that Starlette adds: to look must not start a run."""
    route.methods = {"GET"}
    return route


@dataclass(frozen=True, slots=True)
class Form:
    """How a log looks in the body of a response. `heartbeat` is sent into a silence; empty means none."""

    media_type: str
    opening: bytes
    heartbeat: bytes
    encode: Callable[[str, Batch], bytes]


def _blocks(run_id: str, batch: Batch) -> bytes:
    parts = [
        block(item.id, item.line) if isinstance(item, Entry) else notice_block(gap_line(run_id, item))
        for item in batch.items
    ]
    if batch.hidden:
        parts.append(cursor_block(batch.cursor))
    if batch.drained:
        retry_ms = retry_spread()
        parts += [retry_block(retry_ms), notice_block(drain_line(run_id, retry_ms))]
    return b"".join(parts)


def _lines(run_id: str, batch: Batch) -> bytes:
    parts = [item.line if isinstance(item, Entry) else gap_line(run_id, item) for item in batch.items]
    if batch.drained:
        parts.append(drain_line(run_id, retry_spread()))
    return b"".join(line + b"\n" for line in parts)


EVENT_STREAM = Form("text/event-stream", retry_block(RETRY_MS), HEARTBEAT, _blocks)
LINES = Form("application/x-ndjson", b"", b"", _lines)


class Stream(Response):
    """Moves what its viewer sees to one client until the log is complete or the client leaves.

    `left` is awaited when the client leaves before that.
    """

    def __init__(
        self,
        viewer: Viewer,
        house: House,
        *,
        form: Form = EVENT_STREAM,
        left: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self.media_type = form.media_type
        where = {"X-Run-Id": viewer.run_id, "Location": f"/runs/{viewer.run_id}"}
        super().__init__(headers=HEADERS | where)
        del self.headers["content-length"]
        self._viewer, self._house, self._form, self._left = viewer, house, form, left

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if scope["method"] != "HEAD":
                await unless_left(receive, self._write(send))
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except (ClientLeft, TimeoutError) as why:
            if isinstance(why, TimeoutError) and abort(scope):
                await receive()  # until the server knows: it would complain of a response that isn't complete
            if self._left is not None:
                await self._left()
        finally:
            self._viewer.close()

    async def _write(self, send: Send) -> None:
        """Returns when the log is complete or the server goes away.

        Raises TimeoutError when the client takes nothing for too long.
        """
        await self._send(send, self._form.opening)
        ended = False
        while not ended:
            try:
                async with asyncio.timeout(self._house.heartbeat_seconds):
                    batch = await self._viewer.next()
            except TimeoutError:
                await self._send(send, self._form.heartbeat)
                continue
            await self._send(send, self._form.encode(self._viewer.run_id, batch))
            ended = batch.ended or batch.drained

    async def _send(self, send: Send, data: bytes) -> None:
        if data:
            async with asyncio.timeout(self._house.send_seconds):
                await send({"type": "http.response.body", "body": data, "more_body": True})
