"""Refusals as RFC 9457 problem+json: a stable `code`, and a sentence that says what to do."""

import logging
from collections.abc import Callable
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from askstream.server.connections.refusals import refuse_websocket
from askstream.server.events.errors import JournalError, MethodNotAllowed, Refused, UnknownAddress, problem

log = logging.getLogger("__main__")


def problem_response(
    status: int, title: str, code: str, detail: str, headers: dict[str, str] | None = None
) -> Response:
    body = orjson.dumps(problem(status, title, code, detail))
    return Response(body, status, headers, media_type="application/problem+json")


def refusal_response(error: Refused) -> Response:
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after is not None else {}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return problem_response(error.status, error.title, error.code, str(error), headers)


async def refuse(error: Refused, scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse a request, or a WebSocket before its upgrade, outside of Starlette."""
    if scope["type"] == "websocket":
        await refuse_websocket(error, scope, send)
    else:
        await refusal_response(error)(scope, receive, send)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return refusal_response(error)


async def _http(request: Request, error: Exception) -> Response:
    """An error of Starlette's router: an unknown address or method."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return refusal_response(UnknownAddress("Nothing is served at this address; GET /openapi.json lists what is."))
    if error.status_code == 405:
        answer = refusal_response(MethodNotAllowed("Another method is expected here; the header Allow names it."))
        answer.headers.update(error.headers or {})
        return answer
    return problem_response(
        error.status_code, str(error.detail), "http_error", str(error.detail), dict(error.headers or {})
    )


async def _journal(request: Request, error: Exception) -> Response:
    log.error("%s %s: %s", request.method, request.url.path, error)
    return problem_response(
        503, "The log is not available", "journal_unavailable", "Try again soon.", {"Retry-After": "5"}
    )


async def _client_disconnected(request: Request, error: Exception) -> Response:
    """The client left before it had sent the whole body. Nobody reads this; 499 is nginx's code for this case."""
    return Response(status_code=499)


async def _unexpected(request: Request, error: Exception) -> Response:
    """Our mistake. The log has its type; its text may hold a client's input, so only DEBUG has that."""
    log.error("%s %s failed: %s", request.method, request.url.path, type(error).__name__)
    log.debug("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem_response(
        500, "The server failed", "internal", "The server failed; the run, if one was started, goes on."
    )


# For Starlette's `exception_handlers`.
HANDLERS: dict[Any, Callable[[Request, Exception], Any]] = {
    Refused: _refused,
    HTTPException: _http,
    JournalError: _journal,
    ClientDisconnect: _client_disconnected,
    Exception: _unexpected,
}
