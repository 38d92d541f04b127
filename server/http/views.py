"""The view of a run in answers. One type describes each answer, for the code that makes it and for OpenAPI."""

from datetime import UTC, datetime
from typing import Annotated, Any, NotRequired

from pydantic import Field
from starlette.types import Scope
from typing_extensions import TypedDict  # pydantic reads the one of `typing` from Python 3.12 on

from askstream.server import addresses
from askstream.server.events import Usage, rfc3339
from askstream.server.journal import RunRecord, RunState
from askstream.server.runs.orchestrator import About


class Links(TypedDict):
    """Addresses of what can be done with a run."""

    self: str
    events: str
    cancel: str
    input: str


class Run(TypedDict):
    """A run as its resource shows it."""

    run_id: str
    session_id: str
    question: str
    model: str
    state: RunState
    progress: Annotated[int, Field(ge=0, le=100)]
    last_id: Annotated[int, Field(ge=1, description="the id of its newest event")]
    attempt: Annotated[int, Field(ge=1, description="above 1 once it went on after its server had died")]
    created_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    ended_at: Annotated[str | None, Field(json_schema_extra={"format": "date-time"})]
    log_expired: Annotated[bool, Field(description="its events are no longer kept")]
    pending_input: Annotated[dict[str, Any] | None, Field(description="the data of its `input_requested`")]
    usage: Usage
    digest: Annotated[str | None, Field(description="SHA-256 over the event lines, once it ended")]
    principal: NotRequired[Annotated[str, Field(description="whose run it is; for administrators only")]]
    links: Links


class RunPage(TypedDict):
    """The caller's runs, newest first."""

    runs: list[Run]
    next: Annotated[str | None, Field(description="the address of the next page, null on the last")]


class Ticket(TypedDict):
    """A ticket for a run."""

    ticket: str
    expires_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    events: Annotated[str, Field(description="the address of the run's events, with the ticket")]


class SessionRuns(TypedDict):
    """A session's newest runs, oldest first."""

    session_id: str
    runs: list[Run]
    next: Annotated[str | None, Field(description="the address of the page with earlier runs, null on the last")]


class AboutTeam(TypedDict):
    """The words of the team that is served about itself. Empty: none."""

    title: str
    greeting: str
    starters: Annotated[list[str], Field(description="questions to begin with")]
    ready: Annotated[bool, Field(description="a question needn't wait for the team to be loaded")]


def about(said: About, *, ready: bool) -> AboutTeam:
    return {"title": said.title, "greeting": said.greeting, "starters": [*said.starters], "ready": ready}


def run(scope: Scope, record: RunRecord, pending: dict[str, Any] | None) -> Run:
    """`pending` is the run's question to a human, None if it doesn't wait. `scope` is that of the request."""
    return {
        "run_id": record.run_id,
        "session_id": record.session_id,
        "question": record.question,
        "model": record.model,
        "state": record.state,
        "progress": record.progress,
        "last_id": record.last_id,
        "attempt": record.attempt,
        "created_at": _moment(record.created_at),
        "ended_at": _moment(record.ended_at) if record.ended_at is not None else None,
        "log_expired": record.expired_at is not None,
        "pending_input": pending,
        "usage": record.usage,
        "digest": record.digest,
        "links": _links(addresses.run(scope, record.run_id)),
    }


def _links(run: str) -> Links:
    return {"self": run, "events": f"{run}/events", "cancel": f"{run}/cancel", "input": f"{run}/input"}


def _moment(seconds: float) -> str:
    return rfc3339(datetime.fromtimestamp(seconds, UTC))
