"""One tree of errors. A refusal has a stable code and an HTTP status; a failed run has a code for its event.

AskstreamError
├── Refused                 the peer's mistake, or a limit: nothing was started, nothing was lost
│   ├── MalformedRequest        400 malformed_request
│   ├── InvalidJson             400 invalid_json
│   ├── BadCursor               400 bad_cursor
│   ├── Unauthorized            401 unauthorized
│   ├── OriginNotAllowed        403 origin_not_allowed
│   ├── Forbidden               403 forbidden
│   ├── RunNotFound             404 run_not_found
│   ├── UnknownAddress          404 not_found
│   ├── MethodNotAllowed        405 method_not_allowed
│   ├── RequestTimeout          408 request_timeout
│   ├── RunActive               409 run_active
│   ├── IdempotencyConflict     409 idempotency_conflict
│   ├── SessionBusy             409 session_busy
│   ├── SessionNotFound         404 session_not_found
│   ├── InputNotFound           404 input_not_found
│   ├── InputConflict           409 input_conflict
│   ├── InputExpired            410 input_expired
│   ├── LogExpired              410 log_expired
│   ├── BodyTooLarge            413 body_too_large
│   ├── ImageTooLarge           413 image_too_large
│   ├── UnsupportedMediaType    415 unsupported_media_type
│   ├── HostNotAllowed          421 host_not_allowed
│   ├── InvalidRequest          422 invalid_request
│   ├── InvalidImage            422 invalid_image
│   ├── InvalidMessage          422 invalid_message        (WebSocket only)
│   ├── AlreadySubscribed       409 already_subscribed     (WebSocket only)
│   ├── NotSubscribed           404 not_subscribed         (WebSocket only)
│   ├── TooManySubscriptions    429 too_many_subscriptions (WebSocket only)
│   ├── RateLimited             429 rate_limited
│   ├── PrincipalLimit          429 principal_limit
│   ├── HeadTooLarge            431 head_too_large
│   ├── TooManyConnections      503 too_many_connections
│   ├── TooManyRuns             503 too_many_runs
│   ├── Draining                503 draining
│   ├── AuthUnavailable         503 auth_unavailable
│   └── NotStarted              503 not_started
├── RunFailed               a run can't go on: becomes its `error` event, with one of FAILURE_CODES
└── JournalError            our own: the log can't be written or read
    ├── OutOfOrder              an append that would leave a hole or repeat an id
    └── Fenced                  an append by a writer that a later one has replaced
"""

from typing import Any, ClassVar, Literal, TypeAlias, get_args

FailureCode: TypeAlias = Literal[
    "model_missing",
    "model_auth",
    "model_rate_limited",
    "model_unavailable",
    "model_unreachable",
    "model_cut_short",
    "model_context_full",
    "model_empty",
    "model_refused",
    "model_bad_response",
    "model_rejected_request",
    "message_limit",
    "team_unavailable",
    "team_failed",
    "image_unreadable",
    "event_too_large",
    "log_full",
    "interrupted",
    "internal",
]
FAILURE_CODES: tuple[str, ...] = get_args(FailureCode)


class AskstreamError(Exception):
    """Base of all our errors. `str(error)` is a sentence for people that names what was expected and what came."""


class Refused(AskstreamError):
    """The server refuses a request. `retry_after` is in seconds, None if a retry won't help."""

    code: ClassVar[str] = "refused"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "The request was refused"

    def __init__(self, detail: str, *, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.retry_after = retry_after

    def as_problem(self) -> dict[str, Any]:
        """Return the body of its answer, https://www.rfc-editor.org/rfc/rfc9457."""
        return problem(self.status, self.title, self.code, str(self))


def problem(status: int, title: str, code: str, detail: str) -> dict[str, Any]:
    return {"type": "about:blank", "title": title, "status": status, "code": code, "detail": detail}


class MalformedRequest(Refused):
    code, status, title = "malformed_request", 400, "The bytes are no HTTP request"


class InvalidJson(Refused):
    code, status, title = "invalid_json", 400, "The body is not JSON"


class BadCursor(Refused):
    code, status, title = "bad_cursor", 400, "The cursor is not an event id"


class Unauthorized(Refused):
    """A token is needed, or the one that came isn't valid."""

    code, status, title = "unauthorized", 401, "A token is needed"


class OriginNotAllowed(Refused):
    code, status, title = "origin_not_allowed", 403, "Pages of this origin may not use this server"


class Forbidden(Refused):
    """A ticket, or a token without the scope admin, doesn't allow this."""

    code, status, title = "forbidden", 403, "This isn't allowed"


class RunNotFound(Refused):
    """Also for another principal's run: its existence isn't revealed."""

    code, status, title = "run_not_found", 404, "No such run"

    def __init__(self) -> None:
        super().__init__("There is no run with this id, or it is not yours; GET /runs lists yours.")


class UnknownAddress(Refused):
    code, status, title = "not_found", 404, "No such address"


class MethodNotAllowed(Refused):
    code, status, title = "method_not_allowed", 405, "The method is not allowed here"


class RequestTimeout(Refused):
    code, status, title = "request_timeout", 408, "The request took too long to arrive"


class RunActive(Refused):
    code, status, title = "run_active", 409, "The run has not ended"


class IdempotencyConflict(Refused):
    code, status, title = "idempotency_conflict", 409, "The idempotency key is taken"


class SessionBusy(Refused):
    code, status, title = "session_busy", 409, "The session is busy"


class SessionNotFound(Refused):
    code, status, title = "session_not_found", 404, "No such session"

    def __init__(self) -> None:
        super().__init__("There is no session with this id, or it is not yours.")


class InputNotFound(Refused):
    code, status, title = "input_not_found", 404, "No such request for input"


class InputConflict(Refused):
    code, status, title = "input_conflict", 409, "Another answer came first"


class InputExpired(Refused):
    code, status, title = "input_expired", 410, "The time for an answer is over"


class LogExpired(Refused):
    code, status, title = "log_expired", 410, "The log is no longer kept"

    def __init__(self) -> None:
        super().__init__("The run's log is no longer kept; its record is all that is left.")


class BodyTooLarge(Refused):
    code, status, title = "body_too_large", 413, "The body is too large"


class ImageTooLarge(Refused):
    code, status, title = "image_too_large", 413, "The images are too large"


class UnsupportedMediaType(Refused):
    code, status, title = "unsupported_media_type", 415, "The body's media type is not supported"


class HostNotAllowed(Refused):
    code, status, title = "host_not_allowed", 421, "This server isn't known by that name"


class InvalidRequest(Refused):
    code, status, title = "invalid_request", 422, "The request is not valid"


class InvalidImage(Refused):
    code, status, title = "invalid_image", 422, "An image is not valid"


class InvalidMessage(Refused):
    code, status, title = "invalid_message", 422, "The message is not one of the protocol's"


class AlreadySubscribed(Refused):
    code, status, title = "already_subscribed", 409, "This socket watches that run already"


class NotSubscribed(Refused):
    code, status, title = "not_subscribed", 404, "This socket doesn't watch that run"


class TooManySubscriptions(Refused):
    code, status, title = "too_many_subscriptions", 429, "The socket watches too many runs"


class RateLimited(Refused):
    code, status, title = "rate_limited", 429, "Too many requests"


class PrincipalLimit(Refused):
    """One principal has as much as it may have. The server has room for others."""

    code, status, title = "principal_limit", 429, "You have too many of these"


class HeadTooLarge(Refused):
    code, status, title = "head_too_large", 431, "The request's head is too large"


class TooManyConnections(Refused):
    code, status, title = "too_many_connections", 503, "The server has too many connections"


class TooManyRuns(Refused):
    code, status, title = "too_many_runs", 503, "The server is busy"


class Draining(Refused):
    code, status, title = "draining", 503, "The server is going away"


class AuthUnavailable(Refused):
    code, status, title = "auth_unavailable", 503, "It can't be found out who asks"


class NotStarted(Refused):
    """A request came before the application was opened, or after it was closed."""

    code, status, title = "not_started", 503, "The application has not been started"

    def __init__(self) -> None:
        super().__init__(
            "This application was not started, or has ended. Where another application mounts it, that one starts it, "
            "with this line: FastAPI(lifespan=askapp.lifespan)"
        )


class RunFailed(AskstreamError):
    """A run can't go on. `message` is shown to people: it holds no traceback, key, path or prompt."""

    def __init__(self, code: FailureCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class JournalError(AskstreamError):
    """The log can't be written or read: a full disk, a broken file, a store that doesn't answer."""


class OutOfOrder(JournalError):
    """An append whose first id isn't the one after the last: a second writer, or our bug."""


class Fenced(JournalError):
    """An append by an attempt that a later one has replaced. The writer must stop at once."""
