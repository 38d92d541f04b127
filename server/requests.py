"""The models that validate all that clients send: HTTP bodies, query strings and socket messages."""

import hashlib
import re
from typing import Annotated, Any, Literal, Self, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError
from starlette.requests import Request

from askstream.server import images
from askstream.server.events import EventType, Filter
from askstream.server.events.cursor import parse
from askstream.server.events.errors import (
    BadCursor,
    BodyTooLarge,
    InvalidJson,
    InvalidRequest,
    LogExpired,
    Refused,
    UnsupportedMediaType,
)
from askstream.server.journal import RunRecord
from askstream.server.runs import Question

M = TypeVar("M", bound=BaseModel)

# The question's limit is the one that clients meet, so it is a setting; this is its default.
QUESTION_CHARACTERS = 4000
BODY_BYTES = 256 * 1024
# Names in one filter: more than there are event types, and than any team has agents.
MAX_NAMES = 64
# The mark at which a page of runs begins: a moment and a run's id.
MARK = r"^[0-9]{1,12}(\.[0-9]{1,9})?_[0-9a-f]{1,64}$"

# Fields named in one refusal.
_MAX_ERRORS = 5
IDENTIFIER = r"[A-Za-z0-9._:-]{1,128}"

Name: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Identifier: TypeAlias = Annotated[str, StringConstraints(pattern=f"^{IDENTIFIER}$")]


def _allow_repetition(schema: dict[str, Any]) -> None:
    """A name that is repeated does no harm."""
    schema.pop("uniqueItems", None)


_NAMES = Field(max_length=MAX_NAMES, json_schema_extra=_allow_repetition)
EventTypes: TypeAlias = Annotated[frozenset[EventType], _NAMES]


class View(BaseModel):
    """A viewer's filter. Filters hide events; they never renumber them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokens: bool = Field(default=False, description="also send `agent_chunk`, the text as the model writes it")
    include: EventTypes | None = Field(default=None, description="only these event types")
    exclude: EventTypes = Field(default=frozenset[EventType](), description="all but these event types")
    agents: Annotated[frozenset[Name], _NAMES] | None = Field(default=None, description="only events of these agents")

    @property
    def wanted(self) -> Filter:
        return Filter(self.include, self.exclude, self.agents, self.tokens)


class Ask(View):
    """The body of `/ask-stream`, `/ask` and `/runs`, and the fields of the WebSocket's `ask`."""

    question: str = Field(
        description=f"what the team shall answer; {QUESTION_CHARACTERS:,} characters by default",
        json_schema_extra={"minLength": 1, "pattern": r"^[^\u0000]*[^\s\u0000][^\u0000]*$"},
    )
    images: tuple[str, ...] = Field(
        default=(),
        description="`data:` addresses of PNG, JPEG, GIF or WebP; four, 160,000 characters together",
        json_schema_extra={
            "maxItems": 4,
            "items": {"type": "string", "pattern": "^data:image/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/]+=*$"},
        },
    )
    session_id: Identifier | None = Field(
        default=None, description="the conversation this run belongs to; a new one if absent"
    )
    if_busy: Literal["reject", "queue"] = Field(
        default="reject", description="what to do while another run of the session is active"
    )
    review: bool = Field(default=False, description="a human approves the answer before it is final")
    asks: bool | None = Field(
        default=None,
        description="whether somebody can answer the team's questions; true over WebSocket, else false, if absent",
    )
    on_disconnect: Literal["continue", "cancel"] = Field(
        default="continue", description="whether the run ends when the viewer that started it leaves"
    )
    idempotency_key: Identifier | None = Field(default=None, description="the same key and body join the same run")

    def check_question(self, characters: int) -> Self:
        """Return itself. Raises InvalidRequest if the question is empty, longer than that, or has a NUL, and what
        `images.check` raises."""
        if not self.question.strip():
            raise InvalidRequest("question: the question is empty.")
        if "\0" in self.question:
            raise InvalidRequest("question: the question contains a NUL character.")
        if len(self.question) > characters:
            raise InvalidRequest(f"question: {len(self.question):,} characters; at most {characters:,} are allowed.")
        images.check(self.images)
        return self

    def to_question(self, principal: str, *, asks: bool = False) -> Question:
        """Return the run that is asked for. `asks` is the transport's default. The filter and the key are no part of
        the fingerprint."""
        fields = {"question", "session_id", "if_busy", "review", "on_disconnect"}
        fields |= {"asks"} if self.asks is not None else set()
        # A question without images has the fingerprint that it had before there were any: its key may be in use.
        body = self.model_dump_json(include=fields | {"images"} if self.images else fields)
        return Question(
            text=self.question,
            images=self.images,
            principal=principal,
            session_id=self.session_id,
            if_busy=self.if_busy,
            review=self.review,
            asks=asks if self.asks is None else self.asks,
            on_disconnect=self.on_disconnect,
            idempotency_key=self.idempotency_key,
            fingerprint=hashlib.sha256(body.encode()).hexdigest(),
        )


class Input(BaseModel):
    """The body of `/runs/{id}/input`, and the fields of the WebSocket's `input`: a human's answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    request_id: Identifier = Field(description="that of the run's `input_requested`")
    value: JsonValue = Field(description="what the request's schema asks for")


class Login(BaseModel):
    """The body of `/login`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token: Annotated[str, Field(min_length=1, max_length=8192)]


class TicketRequest(BaseModel):
    """The body of `/runs/{id}/ticket`, which may be absent."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seconds: int = Field(default=3600, ge=1, le=7 * 24 * 3600, description="for which the ticket is valid")


def validate(model: type[M], body: bytes | str) -> M:
    """Raises InvalidJson or InvalidRequest; neither repeats the input, which may be a secret or a question."""
    try:
        return model.model_validate_json(body, strict=True)
    except ValidationError as problem:
        raise _refusal(problem) from None


def _refusal(problem: ValidationError) -> Refused:
    # Without the input: an error that holds invalid UTF-8 can't be turned into JSON.
    errors = problem.errors(include_url=False, include_input=False, include_context=False)
    if errors[0]["type"] == "json_invalid":
        return InvalidJson(f"The body must be a JSON object in UTF-8: {errors[0]['msg']}.")
    return InvalidRequest(" ".join(_sentence(error["loc"], error["msg"]) for error in errors[:_MAX_ERRORS]))


def _sentence(place: tuple[int | str, ...], message: str) -> str:
    field = ".".join(str(part)[:64] for part in place) or "body"
    return f"{field}: {message.removeprefix('Value error, ')}."


async def read_body(request: Request) -> bytes:
    """Return the JSON body of a request. Raises UnsupportedMediaType, and BodyTooLarge before all of it is read."""
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json" and not media.endswith("+json"):
        raise UnsupportedMediaType(f"Send the body as application/json; it came as {media or 'nothing'!r}.")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > BODY_BYTES:
        raise _too_large()
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > BODY_BYTES:
            raise _too_large()
    return bytes(body)


def _too_large() -> BodyTooLarge:
    return BodyTooLarge(f"The body may have {BODY_BYTES:,} bytes.")


async def read_ask(request: Request, *, question_characters: int) -> Ask:
    """Return the body as an Ask; the header `Idempotency-Key` counts if the body has no key."""
    ask = validate(Ask, await read_body(request)).check_question(question_characters)
    key = request.headers.get("idempotency-key")
    if key is None:
        return ask
    if not re.fullmatch(IDENTIFIER, key := key.strip()):
        raise InvalidRequest("Idempotency-Key: 1 to 128 letters, digits or any of . _ : - are expected.")
    return ask if ask.idempotency_key is not None else ask.model_copy(update={"idempotency_key": key})


def read_view(request: Request) -> View:
    """Return a query string's filters: names may be repeated or joined with commas. Ignores unknown parameters."""
    query = request.query_params
    given: dict[str, object] = {"tokens": query["tokens"]} if "tokens" in query else {}
    for field in ("include", "exclude", "agents"):
        if field in query:
            given[field] = {name for value in query.getlist(field) for name in value.split(",") if name}
    try:
        return View.model_validate(given)
    except ValidationError as problem:
        raise _refusal(problem) from None


def sent_cursor(request: Request) -> str:
    """Return the header `Last-Event-ID`, else `lastEventId`, else `after`; '' for none, and for 0, the start.

    A browser repeats the first URL when it reconnects, so the header, which it keeps up to date, comes first. Clients
    that can't set headers send `lastEventId` in its place.
    """
    query = request.query_params
    for value in (request.headers.get("last-event-id"), query.get("lastEventId"), query.get("after")):
        if value and (text := value.strip()):
            return text.lstrip("0") if text.isdigit() else text
    return ""


def read_cursor(request: Request, last_id: int) -> int:
    """Return the cursor of a viewer. `latest` is `last_id`. Raises BadCursor."""
    text = sent_cursor(request)
    if text == "latest":
        return last_id
    return checked_cursor(parse(text or "0"))


def checked_cursor(cursor: int | None) -> int:
    if cursor is None:
        raise BadCursor("A cursor is the id of an event, a whole number from 0 on, or `latest`.")
    return cursor


def viewer_cursor(record: RunRecord, after: int | None) -> int:
    """Return the cursor of a viewer of this run; None is its newest event. Raises BadCursor and LogExpired."""
    cursor = record.last_id if after is None else after
    if cursor > record.last_id and not record.ended:
        raise BadCursor(f"The run's newest event is {record.last_id}; {cursor} has not happened yet.")
    if cursor < record.last_id and record.expired_at is not None:
        raise LogExpired
    return cursor
