"""Shows which modules a server has imported: an address of its own, named in `ASKSTREAM_TRANSPORTS`. For tests only."""

import sys
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route


class Modules:
    def __init__(self, _context: Any) -> None:
        """It needs nothing of what transports are given."""

    def routes(self) -> Sequence[BaseRoute]:
        return [Route("/modules", self.modules)]

    async def modules(self, request: Request) -> Response:
        """Each module's name with its file, '' where it has none."""
        loaded = list(sys.modules.items())
        return JSONResponse({name: getattr(module, "__file__", None) or "" for name, module in loaded})
