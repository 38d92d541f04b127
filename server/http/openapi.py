"""The description of the HTTP API, made from the models that validate it."""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from askstream.server.events.jsonschema import event_schema
from askstream.server.http.views import AboutTeam, Run, RunPage, SessionRuns, Ticket
from askstream.server.requests import Ask, Input, Login, TicketRequest

_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "stable; decide by it"},
        "detail": {"type": "string", "description": "for people"},
    },
}
_RUN_ID = {"name": "run_id", "in": "path", "required": True, "schema": {"type": "string"}}
_SESSION_ID = {"name": "session_id", "in": "path", "required": True, "schema": {"type": "string"}}
_VIEW = [
    {"name": "tokens", "in": "query", "schema": {"type": "boolean"}, "description": "also send `agent_chunk`"},
    {"name": "include", "in": "query", "schema": {"type": "string"}, "description": "event types, comma-separated"},
    {"name": "exclude", "in": "query", "schema": {"type": "string"}, "description": "event types, comma-separated"},
    {"name": "agents", "in": "query", "schema": {"type": "string"}, "description": "agents, comma-separated"},
]
_CURSOR = [
    {"name": "after", "in": "query", "schema": {"type": "string"}, "description": "an event's id, or `latest`"},
    {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}, "description": "goes before `after`"},
]
_KEY = {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string"}}
_EVERYONE = {
    "name": "everyone",
    "in": "query",
    "schema": {"type": "boolean", "default": False},
    "description": "everybody's runs, for the scope `admin`",
}
_TICKET = {"name": "ticket", "in": "query", "schema": {"type": "string"}, "description": "in place of a token"}
# Every private address may answer these, so that each operation names them.
_ACCESS_ERRORS = (401, 403, 421)
_PAGING = [
    {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}},
    {"name": "before", "in": "query", "schema": {"type": "string"}, "description": "taken from `next`"},
]
_WATCH_ERRORS = (400, 404, 410, 422, 429)
_ASK_ERRORS = (400, 408, 409, 413, 415, 422, 429, 503)

# The models of requests and of answers.
_RECEIVED = (Ask, Input, Login, TicketRequest)
_ANSWERED = (AboutTeam, Run, RunPage, SessionRuns, Ticket)


@cache
def describe() -> dict[str, Any]:
    """Return an OpenAPI 3.1 document. It is shared: don't change it."""
    event = event_schema()
    definitions = event.pop("$defs")
    return {
        "openapi": "3.1.0",
        "info": {"title": "askstream", "version": _version(), "description": "Ask a team of agents; watch it work."},
        "paths": _paths(),
        "components": {
            "schemas": {
                **_models(),
                "Problem": _PROBLEM,
                "Event": _moved(event),
                **{name: _moved(schema) for name, schema in definitions.items()},
            },
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"bearer": []}, {}],
    }


def _paths() -> dict[str, Any]:
    stream = _content("text/event-stream", "Event")
    return {
        "/ask-stream": {"post": _asking("Start a run and stream its events", "200", stream)},
        "/ask": {"post": _asking("Start a run and wait for its answer", "200", _json({"type": "object"}), 502)},
        "/runs": {
            "post": _asking("Start a run", "202", _content("application/json", "Run")),
            "get": _operation(
                "List runs, newest first", "200", _content("application/json", "RunPage"), [*_PAGING, _EVERYONE], 422
            ),
        },
        "/runs/{run_id}": {
            "parameters": [_RUN_ID],
            "get": _operation("Show a run", "200", _content("application/json", "Run"), [_TICKET], 404),
            "delete": _operation("Forget a run that has ended", "204", None, [], 404, 409),
        },
        "/runs/{run_id}/events": {
            "parameters": [_RUN_ID],
            "get": _watching(stream | _content("application/x-ndjson", "Event")),
        },
        "/runs/{run_id}/cancel": {
            "parameters": [_RUN_ID],
            "post": _cancelling(_content("application/json", "Run")),
        },
        "/runs/{run_id}/input": {
            "parameters": [_RUN_ID],
            "post": _answering(_content("application/json", "Run")),
        },
        "/runs/{run_id}/ticket": {"parameters": [_RUN_ID], "post": _ticket()},
        "/login": {"post": _login()},
        "/logout": {"post": _operation("End the cookie", "204", None, [])},
        "/sessions/{session_id}": {
            "parameters": [_SESSION_ID],
            "get": _operation(
                "List a session's newest runs, oldest first",
                "200",
                _content("application/json", "SessionRuns"),
                _PAGING,
                404,
                422,
            ),
            "delete": _operation("Forget a session", "204", None, [], 404, 409),
        },
        "/test-stream": {"get": _operation("Stream mock events; no model is asked", "200", stream, [], 503)},
        "/about": {
            "get": _operation("What the team says of itself", "200", _content("application/json", "AboutTeam"), [])
        },
        "/health": {"get": _operation("Liveness", "200", _json({"type": "object"}), [])},
        "/ready": {"get": _operation("Readiness", "200", _json({"type": "object"}), [], 503)},
        "/schemas/event.json": {
            "get": _operation("JSON Schema of an event", "200", {"application/schema+json": {"schema": {}}}, [])
        },
    }


def _models() -> dict[str, Any]:
    models = [*_adapted(_RECEIVED, "validation"), *_adapted(_ANSWERED, "serialization")]
    _, schema = TypeAdapter.json_schemas(models, ref_template="#/components/schemas/{model}")
    return schema["$defs"]


def _adapted(models: Iterable[type], mode: JsonSchemaMode) -> Sequence[tuple[type, JsonSchemaMode, TypeAdapter[Any]]]:
    return [(model, mode, TypeAdapter[Any](model)) for model in models]


def _asking(summary: str, status: str, content: dict[str, Any], *errors: int) -> dict[str, Any]:
    operation = _operation(summary, status, content, [_KEY], *_ASK_ERRORS, *errors)
    operation["requestBody"] = {"required": True, "content": _content("application/json", "Ask")}
    return operation


def _watching(content: dict[str, Any]) -> dict[str, Any]:
    operation = _operation(
        "Replay a run's events, then go on live", "200", content, [*_CURSOR, *_VIEW, _TICKET], *_WATCH_ERRORS
    )
    operation["responses"]["204"] = {"description": "The run has ended, and the cursor is past its terminal event"}
    return operation


def _cancelling(content: dict[str, Any]) -> dict[str, Any]:
    operation = _operation("Stop a run; idempotent", "202", content, [], 404)
    operation["responses"]["200"] = {"description": "It had ended already", "content": content}
    return operation


def _answering(content: dict[str, Any]) -> dict[str, Any]:
    operation = _operation("Answer a request for input", "200", content, [], 400, 404, 409, 410, 413, 415, 422)
    operation["requestBody"] = {"required": True, "content": _content("application/json", "Input")}
    return operation


def _ticket() -> dict[str, Any]:
    made = _content("application/json", "Ticket")
    operation = _operation("Make a ticket, which shows a run", "201", made, [], 400, 404, 413, 415, 422)
    operation["requestBody"] = {"required": False, "content": _content("application/json", "TicketRequest")}
    return operation


def _login() -> dict[str, Any]:
    operation = _operation("Trade a token for a cookie", "204", None, [], 400, 413, 415, 422, 503)
    operation["requestBody"] = {"required": True, "content": _content("application/json", "Login")}
    return operation


def _operation(
    summary: str, status: str, content: dict[str, Any] | None, parameters: list[dict[str, Any]], *errors: int
) -> dict[str, Any]:
    done: dict[str, Any] = {"description": summary} | ({"content": content} if content else {})
    refused = {str(error): {"description": "Refused", "content": _problem()} for error in (*errors, *_ACCESS_ERRORS)}
    return {"summary": summary, "parameters": parameters, "responses": {status: done, **refused}}


def _problem() -> dict[str, Any]:
    return _content("application/problem+json", "Problem")


def _content(media_type: str, name: str) -> dict[str, Any]:
    return {media_type: {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _moved(schema: Any) -> Any:
    """Return a schema with its definitions where OpenAPI keeps them."""
    match schema:
        case {"$ref": str(ref)}:
            return {"$ref": ref.replace("#/$defs/", "#/components/schemas/")}
        case dict():
            return {key: _moved(value) for key, value in schema.items() if key != "$schema"}  # pyright: ignore[reportUnknownVariableType]
        case list():
            return [_moved(item) for item in schema]  # pyright: ignore[reportUnknownVariableType]
        case _:
            return schema


def _version() -> str:
    from importlib.metadata import version

    return version("askstream")
