"""A transport that lists the modules that a server has imported, for `ASKSTREAM_TRANSPORTS`. For tests only."""

import sys
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route


class Modules:
    def __init__(self, _context: Any) -> None:
        """It uses nothing of its context."""

    def routes(self) -> Sequence[BaseRoute]:
        return [Route("/modules", self.modules)]

    async def modules(self, request: Request) -> Response:
        """Return each module's name with its file, '' if it has none."""
        loaded = list(sys.modules.items())
        return JSONResponse({name: getattr(module, "__file__", None) or "" for name, module in loaded})
