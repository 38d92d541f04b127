"""The plain HTTP side: runs as resources, the awaited question, the page, health and the descriptions of the API."""

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from askstream import web
from askstream.server import addresses
from askstream.server.auth import access_of
from askstream.server.connections.disconnect import ClientDisconnected, unless_disconnected
from askstream.server.events import Completed, Event, Failed
from askstream.server.events.errors import Forbidden, InvalidRequest, RunActive
from askstream.server.http import views
from askstream.server.http.openapi import describe
from askstream.server.http.readiness import Readiness
from askstream.server.http.views import Run, RunPage, SessionRuns
from askstream.server.journal import ListPosition, RunRecord
from askstream.server.media_types import prefers
from askstream.server.problems import problem_response
from askstream.server.requests import MARK, Input, read_ask, read_body, validate
from askstream.server.runs import Runs

STATIC = Path(web.__file__).parent / "static"

# No inline script or style, nothing from another host ('self' includes its WebSocket), no framing; and no HTML but the
# sanitiser's. Charts set sizes through the CSSOM, which needs no more.
CSP = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types dompurify"
)
PAGE_HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
DEFAULT_LIMIT, MAX_LIMIT = 50, 200
LANDING = {"docs": "/openapi.json", "client": "/client"}


class Json(Response):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


def conditional(request: Request, response: Response) -> Response:
    """Add an ETag to a response, or return 304 if the client has it already."""
    tag = f'"{hashlib.sha256(response.body).hexdigest()[:32]}"'
    response.headers["ETag"] = tag
    known = [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]
    return Response(status_code=304, headers={"ETag": tag}) if tag in known or known == ["*"] else response


class Static(StaticFiles):
    """The page's files. They change with the server's version, so browsers ask each time; an ETag answers that."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update({"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"})
        return response


class HttpRoutes:
    """The routes beside those of the transports. `about`: the team."""

    def __init__(
        self,
        runs: Runs,
        *,
        question_characters: int,
        readiness: Readiness,
        about: Callable[[], views.AboutTeam],
    ) -> None:
        self._runs, self._question_characters = runs, question_characters
        self._readiness, self._about = readiness, about

    def routes(self) -> Sequence[BaseRoute]:
        return [
            Route("/", self.landing),
            Route("/client", self.client),
            Mount("/static", Static(directory=STATIC)),
            Route("/about", self.about),
            Route("/health", self.health),
            Route("/ready", self.readiness),
            Route("/openapi.json", self.openapi),
            Route("/schemas/event.json", self.event_schema),
            Route("/ask", self.ask, methods=["POST"]),
            Route("/runs", self.start, methods=["POST"]),
            Route("/runs", self.list, methods=["GET"]),
            Route("/runs/{run_id}", self.show, methods=["GET"]),
            Route("/runs/{run_id}", self.forget, methods=["DELETE"]),
            Route("/runs/{run_id}/cancel", self.cancel, methods=["POST"]),
            Route("/runs/{run_id}/input", self.input, methods=["POST"]),
            Route("/sessions/{session_id}", self.session, methods=["GET"]),
            Route("/sessions/{session_id}", self.forget_session, methods=["DELETE"]),
        ]

    async def landing(self, request: Request) -> Response:
        """Redirect a browser to the page; send anything else the addresses of page and docs."""
        if prefers(request.headers.getlist("accept"), "text/html", over="application/json"):
            return RedirectResponse(addresses.at(request.scope, "/client"))
        where = {name: addresses.at(request.scope, path) for name, path in LANDING.items()}
        return Json({"message": "askstream: ask a team of agents", **where})

    async def client(self, request: Request) -> Response:
        return FileResponse(STATIC / "client.html", headers=PAGE_HEADERS)

    async def about(self, request: Request) -> Response:
        return Json(self._about())

    async def health(self, request: Request) -> Response:
        """Liveness: this process answers. Asks no model."""
        return Json({"status": "ok"})

    async def readiness(self, request: Request) -> Response:
        """Readiness: whether a run that is started now will survive."""
        problem = await self._readiness.problem()
        return Json({"status": "ready"}) if problem is None else problem_response(503, *problem)

    async def openapi(self, request: Request) -> Response:
        prefix = addresses.root(request.scope)
        return Json({**describe(), "servers": [{"url": prefix}]} if prefix else describe())

    async def event_schema(self, request: Request) -> Response:
        from askstream.server.events.jsonschema import event_schema

        return Response(orjson.dumps(event_schema()), media_type="application/schema+json")

    async def ask(self, request: Request) -> Response:
        """Start the same run as /ask-stream, and wait for its end."""
        ask = await read_ask(request, question_characters=self._question_characters)
        principal = access_of(request.scope).principal
        record, new = await self._runs.start(ask.to_question(principal))
        try:
            return _outcome_response(await unless_disconnected(request.receive, self._runs.outcome(record.run_id)))
        except ClientDisconnected:
            if new and ask.on_disconnect == "cancel":
                await self._runs.viewer_left(record.run_id, principal)
            return Response(status_code=499)  # nobody reads it; 499 is nginx's code for this case

    async def start(self, request: Request) -> Response:
        ask = await read_ask(request, question_characters=self._question_characters)
        record, _ = await self._runs.start(ask.to_question(access_of(request.scope).principal))
        headers = {"Location": addresses.run(request.scope, record.run_id), "X-Run-Id": record.run_id}
        return self._run_response(request, record, 202, headers)

    async def list(self, request: Request) -> Response:
        """List runs. `next` is the address of the next page, null on the last. `everyone` is for administrators."""
        limit, before = _paging(request)
        everyone = _everyone(request)
        principal = _listed_principal(request, everyone=everyone)
        records = await self._runs.page(principal, before=before, limit=limit + 1)
        page: RunPage = {"runs": [self._run_view(request, record) for record in records[:limit]], "next": None}
        if len(records) > limit:
            before_next = _format_position(records[limit - 1])
            page["next"] = addresses.runs(request.scope, limit=limit, before=before_next, everyone=everyone)
        return Json(page)

    async def show(self, request: Request) -> Response:
        """Show a run. One that has ended has an ETag: programs that ask again and again get 304."""
        principal = access_of(request.scope).administers
        record = await self._runs.find(request.path_params["run_id"], principal)
        response = self._run_response(request, record)
        return conditional(request, response) if record.ended else response

    async def cancel(self, request: Request) -> Response:
        """Acknowledge at once; the run ends with its terminal event."""
        record = await self._runs.cancel(request.path_params["run_id"], access_of(request.scope).administers)
        return self._run_response(request, record, 200 if record.ended else 202)

    async def input(self, request: Request) -> Response:
        """Accept a human's input. The first one wins; idempotent."""
        given = validate(Input, await read_body(request))
        run_id = request.path_params["run_id"]
        principal = access_of(request.scope).principal
        return self._run_response(
            request, await self._runs.submit_input(run_id, principal, given.request_id, given.value)
        )

    async def session(self, request: Request) -> Response:
        """List the session's newest runs, oldest first. `next` is the address of the page with earlier ones."""
        session_id = request.path_params["session_id"]
        limit, before = _paging(request)
        principal = access_of(request.scope).principal
        records = await self._runs.session(session_id, principal, before=before, limit=limit + 1)
        page = records[:limit]
        session: SessionRuns = {
            "session_id": session_id,
            "runs": [self._run_view(request, record) for record in reversed(page)],
            "next": None,
        }
        if len(records) > limit:
            mark = _format_position(page[-1])
            session["next"] = addresses.session(request.scope, session_id, limit=limit, before=mark)
        return Json(session)

    async def forget_session(self, request: Request) -> Response:
        await self._runs.forget_session(request.path_params["session_id"], access_of(request.scope).principal)
        return Response(status_code=204)

    def _run_response(
        self, request: Request, record: RunRecord, status: int = 200, headers: dict[str, str] | None = None
    ) -> Response:
        return Json(self._run_view(request, record), status, headers)

    def _run_view(self, request: Request, record: RunRecord) -> Run:
        view = views.run(request.scope, record, self._runs.pending(record.run_id))
        if access_of(request.scope).admin:
            view["principal"] = record.principal
        return view

    async def forget(self, request: Request) -> Response:
        if not await self._runs.forget(request.path_params["run_id"], access_of(request.scope).principal):
            raise RunActive("The run is still going on; cancel it first.")
        return Response(status_code=204)


def _outcome_response(event: Event) -> Response:
    headers = {"X-Run-Id": event.run_id}
    match event.body:
        case Completed(final_response=text):
            message = {"role": "assistant", "content": text}
            return Json({"status": "Success", "message": message, "run_id": event.run_id}, headers=headers)
        case Failed(error=code):
            return problem_response(502, "The run failed", code, event.message, headers)
        case _:
            return problem_response(409, "The run was cancelled", "run_cancelled", event.message, headers)


def _everyone(request: Request) -> bool:
    value = request.query_params.get("everyone", "false")
    if value not in ("true", "false"):
        raise InvalidRequest("everyone: true or false is expected.")
    return value == "true"


def _listed_principal(request: Request, *, everyone: bool) -> str | None:
    access = access_of(request.scope)
    if not everyone:
        return access.principal
    if not access.admin:
        raise Forbidden("Only a token with the scope admin lists everybody's runs.")
    return None


def _paging(request: Request) -> tuple[int, ListPosition | None]:
    query = request.query_params
    limit = query.get("limit", str(DEFAULT_LIMIT))
    if not (limit.isascii() and limit.isdigit() and len(limit) < 5 and 1 <= int(limit) <= MAX_LIMIT):
        raise InvalidRequest(f"limit: a whole number from 1 to {MAX_LIMIT} is expected.")
    return int(limit), _parse_position(query["before"]) if "before" in query else None


def _format_position(record: RunRecord) -> str:
    """Return the mark at which the next page begins. Opaque to clients."""
    return f"{record.created_at!r}_{record.run_id}"


def _parse_position(mark: str) -> ListPosition:
    if not re.fullmatch(MARK, mark):
        raise InvalidRequest("before: the value in `next` of the page before is expected.")
    moment, _, run_id = mark.partition("_")
    return ListPosition(float(moment), run_id)
