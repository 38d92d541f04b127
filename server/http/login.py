"""Signing in: a browser trades its token for a cookie, and a principal makes tickets for its runs."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from askstream.server import addresses
from askstream.server.auth import Access, Gate, access_of, facts_of
from askstream.server.auth.gate import cookie_name
from askstream.server.events import rfc3339
from askstream.server.http.views import Ticket
from askstream.server.requests import Login, TicketRequest, read_body, validate
from askstream.server.runs import Runs
from askstream.server.telemetry import printable

log = logging.getLogger("__main__")

COOKIE_SECONDS = 12 * 3600


class LoginRoutes:
    def __init__(self, runs: Runs, gate: Gate) -> None:
        self._runs, self._gate = runs, gate

    def routes(self) -> Sequence[BaseRoute]:
        return [
            Route("/login", self.login, methods=["POST"]),
            Route("/logout", self.logout, methods=["POST"]),
            Route("/runs/{run_id}/ticket", self.ticket, methods=["POST"]),
        ]

    async def login(self, request: Request) -> Response:
        """Set a cookie that stands for the token. It ends with the token, and after COOKIE_SECONDS at the latest."""
        token = validate(Login, await read_body(request)).token
        access = await self._gate.log_in(facts_of(request.scope), token)
        log.info("principal=%s signed in", printable(access.principal))
        now = self._gate.now()
        ends = now + COOKIE_SECONDS if access.expires_at is None else min(now + COOKIE_SECONDS, access.expires_at)
        return self._with_cookie(request, self._gate.signer.sign("cookie", access, ends), int(ends - now))

    async def logout(self, request: Request) -> Response:
        return self._with_cookie(request, "", 0)

    async def ticket(self, request: Request) -> Response:
        """Make a ticket: it shows this run's state and events to everybody who has it, until it expires."""
        seconds = (await _requested(request)).seconds
        holder = access_of(request.scope)
        record = await self._runs.find(request.path_params["run_id"], holder.principal)
        ends = int(self._gate.now()) + seconds
        access = Access(principal=holder.principal, run_id=record.run_id, key=holder.key)
        ticket = self._gate.signer.sign("ticket", access, ends)
        where = f"{addresses.run(request.scope, record.run_id)}/events?ticket={ticket}"
        made: Ticket = {"ticket": ticket, "expires_at": rfc3339(datetime.fromtimestamp(ends, UTC)), "events": where}
        return Response(orjson.dumps(made), 201, media_type="application/json")

    def _with_cookie(self, request: Request, value: str, seconds: int) -> Response:
        response = Response(status_code=204, headers={"Cache-Control": "no-store"})
        response.set_cookie(
            cookie_name(facts_of(request.scope)),
            value,
            max_age=seconds,
            path=addresses.root(request.scope) or "/",
            secure=request.scope["scheme"] == "https",
            httponly=True,
            samesite="strict",
        )
        return response


async def _requested(request: Request) -> TicketRequest:
    has_body = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    return validate(TicketRequest, await read_body(request)) if has_body else TicketRequest()
