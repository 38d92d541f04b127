"""A run's question to a human: its prompt, its deadline, and its reply. The first reply wins."""

import asyncio
import secrets
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from askstream.server.events import Draft, Event, InputRequested, InputResolved, Json, data, rfc3339
from askstream.server.events.errors import InputConflict, InputExpired, InputNotFound, InvalidRequest
from askstream.server.runs.orchestrator import Inquiry, Reply

# An answer is a sentence or a form, not a document.
VALUE_BYTES = 16 * 1024


@dataclass(slots=True)
class PendingInput:
    """A question that a run waits for a human to answer.

    `claimed` is set with the winning `reply`, `settled` once that is durable, or can't become durable any more.
    """

    request_id: str
    agent_name: str
    prompt: str
    schema: dict[str, Any]
    deadline: datetime
    state: bytes
    reply: Reply | None = None
    claimed: asyncio.Event = field(default_factory=asyncio.Event)
    settled: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def of(cls, inquiry: Inquiry, seconds: float, now: datetime) -> "PendingInput":
        deadline = now + timedelta(seconds=seconds if inquiry.seconds is None else inquiry.seconds)
        return cls(secrets.token_hex(8), inquiry.agent_name, inquiry.prompt, inquiry.schema, deadline, inquiry.state)

    @classmethod
    def from_log(cls, event: Event, state: bytes) -> "PendingInput":
        """Restore it from the log's `input_requested` and the checkpoint's state."""
        asked = event.body
        assert isinstance(asked, InputRequested)
        deadline = datetime.fromisoformat(asked.deadline)
        return cls(asked.request_id, event.agent_name, asked.prompt, asked.schema, deadline, state)

    def seconds_left(self, now: datetime) -> float:
        """Return the seconds until the deadline, at least 0."""
        return max((self.deadline - now).total_seconds(), 0.0)

    def requested(self) -> Draft:
        body = InputRequested(
            request_id=self.request_id,
            prompt=self.prompt,
            schema=self.schema,
            deadline=rfc3339(self.deadline.astimezone(UTC)),
        )
        return Draft(self.agent_name, self.prompt, body)

    def as_data(self) -> dict[str, Any]:
        """Return the data of its `input_requested`, for the run's resource."""
        return data(self.requested().body)

    def claim(self, reply: Reply) -> None:
        """Set the reply: a human's, or that nobody answered. Later calls change nothing."""
        if self.reply is None:
            self.reply = reply
            self.claimed.set()

    def resolved(self) -> Draft:
        assert self.reply is not None
        if self.reply.answered:
            body = InputResolved(request_id=self.request_id, outcome="answered", value=self.reply.value)
            return Draft(self.agent_name, "The question was answered.", body)
        return Draft(
            self.agent_name,
            "Nobody answered in time.",
            InputResolved(request_id=self.request_id, outcome="timed_out"),
        )

    def check(self, value: Json) -> None:
        """Raise InvalidRequest if the value is too large or doesn't fit the schema."""
        import jsonschema  # a tenth of what the server imports before its first answer; AutoGen imports it later

        try:
            size = len(orjson.dumps(value))
        except orjson.JSONEncodeError:
            raise InvalidRequest("value: whole numbers must fit 64 bits, and text must be valid Unicode.") from None
        if size > VALUE_BYTES:
            raise InvalidRequest(f"value: an answer may have at most {VALUE_BYTES:,} bytes.")
        try:
            jsonschema.validate(value, self.schema)
        except jsonschema.ValidationError as problem:
            raise InvalidRequest(f"value: it doesn't fit the schema of the request ({problem.validator}).") from None


def check_late_input(events: Iterable[Event], request_id: str, value: Json) -> None:
    """Check a late answer against the log. Return if the same answer was given before.

    Raises InputNotFound, InputConflict or InputExpired.
    """
    asked = False
    for event in events:
        match event.body:
            case InputRequested(request_id=found) if found == request_id:
                asked = True
            case InputResolved(request_id=found, outcome="answered", value=given) if found == request_id:
                if orjson.dumps(given, option=orjson.OPT_SORT_KEYS) != orjson.dumps(value, option=orjson.OPT_SORT_KEYS):
                    raise InputConflict("Somebody gave another answer first.")
                return
            case _:
                pass
    if not asked:
        raise InputNotFound("This run has not asked for input with that request_id.")
    raise InputExpired("Nobody answered in time, or the run has ended: the team has gone on.")


def reply_to(request_id: str, events: Iterable[Event]) -> Reply | None:
    """Return the reply to this request in these events, also that nobody answered; None if there is none."""
    for event in events:
        match event.body:
            case InputResolved(request_id=found) if found == request_id:
                return Reply(value=event.body.value, answered=event.body.outcome == "answered")
            case _:
                pass
    return None


@dataclass(slots=True)
class Questions:
    """The questions of a team that waits in memory, first come, first served. `asked` is done while there is one."""

    asked: asyncio.Future[None]
    _waiting: deque[tuple[Inquiry, asyncio.Future[Reply]]] = field(
        default_factory=deque[tuple[Inquiry, asyncio.Future[Reply]]]
    )

    async def ask(self, inquiry: Inquiry) -> Reply:
        """Return the reply. Safe to cancel."""
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append((inquiry, reply))
        if not self.asked.done():
            self.asked.set_result(None)
        return await reply

    def next(self) -> tuple[Inquiry, asyncio.Future[Reply]] | None:
        """Return the next question, and the future for its reply. None if nobody waits for a reply."""
        while self._waiting:
            inquiry, reply = self._waiting.popleft()
            if not reply.done():
                return inquiry, reply
        self.asked = asyncio.get_running_loop().create_future()
        return None
