"""A third transport, written outside of the house: raw events as lines of text, for `nc`. For tests only."""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from askstream.server.bus import Viewer
from askstream.server.requests import EVERYBODY
from askstream.transports.base import TransportContext


class Lines:
    def __init__(self, context: TransportContext) -> None:
        self._context = context

    def routes(self) -> Sequence[BaseRoute]:
        return [Route("/lines/{run_id}", self.lines)]

    async def lines(self, request: Request) -> Response:
        record = await self._context.runs.find(request.path_params["run_id"], EVERYBODY)
        viewer = await self._context.bus.attach(record.run_id)
        return StreamingResponse(self._written(viewer), media_type="text/plain")

    async def _written(self, viewer: Viewer):  # noqa: ANN202 - an async generator of bytes
        ended = False
        while not ended:
            batch = await viewer.next()
            yield b"".join(entry.line + b"\n" for entry in batch.entries)
            ended = batch.ended or batch.drained
        viewer.close()
