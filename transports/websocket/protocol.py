"""The WebSocket conversation as a pure state machine: messages in, effects out. Time is an argument, in seconds.

Nothing here waits or touches a socket, a run or a clock. The shell, endpoint.py, passes the client's messages in and
performs the effects. It passes their results back, and sends the replies that it gets for them.

The state of a run on one socket
================================

A socket can follow many runs. For each of them it is in one of two states: the run is `watching` or it isn't. Every
message is allowed in both; the state decides what comes back.

    message       not watching                          watching
    subscribe     `Subscribe`  -> watching              refused: already_subscribed
    unsubscribe   refused: not_subscribed               `Unsubscribe`, reply  -> not watching
    ask           `StartRun`: the run's id is not known yet
    cancel        `CancelRun`                           the same
    input         `SubmitInput`                         the same
    ping          reply `pong`: concerns no run

    result        not watching                          watching
    started       reply  -> watching                    reply: an idempotency key joined a run
    subscribed    impossible                            reply
    acknowledged  reply                                 reply
    refused       error reply                           error reply; with `run_id`  -> not watching
    finished      impossible                            -> not watching; the client has the terminal event

`subscribe` counts as watching before the shell has found the run, so that the limit of subscriptions holds at any
moment. If the run can't be found, the shell undoes that by `refused` with its `run_id`.

A message is checked in this order, and the first failure is the only reply:

1. rate: a token bucket, from which the client's pings and pongs draw as well. Without a token the message is refused
   with rate_limited, and only its `ref` is read. More than RATE_REFUSALS in a row give `CloseSocket`; a message with a
   token starts the count anew.
2. form: a JSON object with a known `type`, else invalid_message. Then its fields, else invalid_request.
3. ticket: forbidden, for a socket that was opened with one, unless it subscribes to that run.
4. state: already_subscribed, not_subscribed, too_many_subscriptions. Then bad_cursor, or invalid_request for a
   question that is empty or too long.
5. the run, by the shell: run_not_found, too_many_runs, input_conflict and so on.

A refused message never closes the socket, except for the rate. The shell closes it with 1011 if the journal or our
code fails, 4008 if the client reads nothing, and 4012 in a drain. The connection closes it with 1002 for a broken
frame, 1007 for text that isn't UTF-8, 1009 for a message that is too large, and 1012 if the server stops.

The shell must keep this order:

1. It passes in one message at a time, and performs all of its effects before the next one.
2. It performs effects in their order: `Unsubscribe` stops the events before the reply confirms it.
3. It sends the reply to `StartRun` or `Subscribe` before it attaches a viewer, so that the reply precedes the events.
4. It looks at `subscribed_runs` before it calls `started`, and attaches no second viewer to a run that is watched.
5. It calls `finished` once everything of a run has been written.
6. When the connection is lost it goes on with the messages that it has, without replies and without viewers.

A failure without 4: a client asks with an idempotency key, gets no reply in time, and asks again on the same socket.
The second `StartRun` joins the same run. With a second viewer the client would get every event of the run twice.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias, cast

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from askstream.server.connections import RATE_CLOSE, InboundLimits
from askstream.server.events import Filter, Json
from askstream.server.events.errors import (
    AlreadySubscribed,
    BadCursor,
    Forbidden,
    InvalidMessage,
    NotSubscribed,
    RateLimited,
    Refused,
    TooManySubscriptions,
)
from askstream.server.journal import RunRecord
from askstream.server.rates import TokenBucket
from askstream.server.requests import Ask, Identifier, Input, View, validate

SUBPROTOCOL = "askstream.v1"
# A client that is refused this often in a row won't stop by itself.
RATE_REFUSALS = 100
REF_CHARACTERS = 128

Ref: TypeAlias = Annotated[str, Field(max_length=REF_CHARACTERS)] | Annotated[int, Field(ge=-(2**63), lt=2**63)] | None
_REF: TypeAdapter[Ref] = TypeAdapter(Ref)


class _ClientMessage(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    ref: Ref = Field(default=None)


class AskMessage(Ask):
    type: Literal["ask"]
    ref: Ref = None


class SubscribeMessage(View):
    type: Literal["subscribe"]
    ref: Ref = None
    run_id: Identifier
    after: Literal["latest"] | int = 0


class UnsubscribeMessage(_ClientMessage):
    type: Literal["unsubscribe"]
    run_id: Identifier


class CancelMessage(_ClientMessage):
    type: Literal["cancel"]
    run_id: Identifier


class InputMessage(Input):
    type: Literal["input"]
    ref: Ref = None
    run_id: Identifier


class PingMessage(_ClientMessage):
    type: Literal["ping"]


ClientMessage: TypeAlias = (
    AskMessage | SubscribeMessage | UnsubscribeMessage | CancelMessage | InputMessage | PingMessage
)
MESSAGE_TYPES: dict[str, type[ClientMessage]] = {
    "ask": AskMessage,
    "subscribe": SubscribeMessage,
    "unsubscribe": UnsubscribeMessage,
    "cancel": CancelMessage,
    "input": InputMessage,
    "ping": PingMessage,
}


@dataclass(frozen=True, slots=True)
class SendReply:
    """Send this text."""

    text: str


@dataclass(frozen=True, slots=True)
class StartRun:
    """Start a run and watch it from its first event."""

    ref: Ref
    ask: Ask


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Watch a run. `after` is None for new events only."""

    ref: Ref
    run_id: str
    after: int | None
    wanted: Filter


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Stop watching a run."""

    run_id: str


@dataclass(frozen=True, slots=True)
class CancelRun:
    """Stop a run."""

    ref: Ref
    run_id: str


@dataclass(frozen=True, slots=True)
class SubmitInput:
    """Submit a human's answer."""

    ref: Ref
    run_id: str
    request_id: str
    value: Json


@dataclass(frozen=True, slots=True)
class CloseSocket:
    """Close the socket."""

    code: int
    reason: str


Effect: TypeAlias = SendReply | StartRun | Subscribe | Unsubscribe | CancelRun | SubmitInput | CloseSocket


@dataclass(slots=True)
class SocketProtocol:
    """One socket's conversation. `subscribed_runs` are the ids of its runs. `only_run`: the one run that it may watch,
    for the holder of a ticket."""

    question_characters: int
    limits: InboundLimits = field(default_factory=InboundLimits)
    only_run: str | None = None
    subscribed_runs: set[str] = field(default_factory=set[str])
    _rate: TokenBucket = field(init=False)
    _refusals: int = 0

    def __post_init__(self) -> None:
        self._rate = TokenBucket(self.limits.messages_at_once, self.limits.messages_a_second)

    def received(self, text: str | bytes, now: float) -> list[Effect]:
        """Return the effects of a client's message. A bad message is refused; none raises."""
        if not self._allowed(now):
            return self._rate_refused(text)
        raw = _object(text)
        ref = _ref(raw)
        try:
            return self._handled(validate(_model(raw), text))
        except Refused as refusal:
            return [self.refused(ref, refusal)]

    def control(self, now: float) -> CloseSocket | None:
        """Count a ping or pong of the client as a message."""
        if self._allowed(now):
            return None
        self._refusals += 1
        return CloseSocket(RATE_CLOSE, "too many messages") if self._refusals > RATE_REFUSALS else None

    def started(self, ref: Ref, record: RunRecord) -> SendReply:
        """The run of a `StartRun` exists; it is watched from now on."""
        self.subscribed_runs.add(record.run_id)
        return _reply(ref, {"run_id": record.run_id, "session_id": record.session_id, "state": record.state})

    def subscribed(self, ref: Ref, record: RunRecord, after: int) -> SendReply:
        return _reply(ref, {"run_id": record.run_id, "after": after, "last_id": record.last_id, "state": record.state})

    def acknowledged(self, ref: Ref, record: RunRecord) -> SendReply:
        """A cancel or an input was accepted; `record` is the run's newest."""
        return _reply(ref, {"run_id": record.run_id, "state": record.state})

    def refused(self, ref: Ref, refusal: Refused, run_id: str | None = None) -> SendReply:
        """The command failed. `run_id` names a subscription to undo."""
        self.subscribed_runs.discard(run_id or "")
        error: dict[str, Any] = {"code": refusal.code, "message": str(refusal)}
        if refusal.retry_after is not None:
            error["retry_after"] = refusal.retry_after
        return SendReply(orjson.dumps({"reply": {"ref": ref, "ok": False, "error": error}}).decode())

    def finished(self, run_id: str) -> None:
        """End a subscription: the client has the run's terminal event."""
        self.subscribed_runs.discard(run_id)

    def heartbeat(self) -> SendReply:
        """Return a heartbeat for a silent socket: browsers can't see protocol pings."""
        return SendReply('{"reply":{"type":"heartbeat"}}')

    def _handled(self, message: ClientMessage) -> list[Effect]:
        self._check_ticket(message)
        match message:
            case AskMessage(ref=ref):
                self._check_subscriptions()
                return [StartRun(ref, message.check_question(self.question_characters))]
            case SubscribeMessage(ref=ref, run_id=run_id):
                return [self._subscribe(message)]
            case UnsubscribeMessage(ref=ref, run_id=run_id):
                if run_id not in self.subscribed_runs:
                    raise NotSubscribed("This socket has no subscription to that run.")
                self.subscribed_runs.discard(run_id)
                return [Unsubscribe(run_id), _reply(ref, {"run_id": run_id})]
            case CancelMessage(ref=ref, run_id=run_id):
                return [CancelRun(ref, run_id)]
            case InputMessage():
                return [SubmitInput(message.ref, message.run_id, message.request_id, message.value)]
            case PingMessage(ref=ref):
                return [_reply(ref, {"type": "pong"})]

    def _subscribe(self, message: SubscribeMessage) -> Effect:
        if message.run_id in self.subscribed_runs:
            raise AlreadySubscribed("Unsubscribe first to watch that run from another cursor or with another filter.")
        self._check_subscriptions()
        after = None if message.after == "latest" else message.after
        if after is not None and not 0 <= after < 2**63:
            raise BadCursor("A cursor is the id of an event, a whole number from 0 on, or `latest`.")
        self.subscribed_runs.add(message.run_id)
        return Subscribe(message.ref, message.run_id, after, message.wanted)

    def _check_ticket(self, message: ClientMessage) -> None:
        if self.only_run is None or isinstance(message, PingMessage | UnsubscribeMessage):
            return
        if not isinstance(message, SubscribeMessage) or message.run_id != self.only_run:
            raise Forbidden("A ticket shows the events of one run; connect with a token for anything else.")

    def _check_subscriptions(self) -> None:
        if len(self.subscribed_runs) >= self.limits.subscriptions:
            raise TooManySubscriptions(f"One socket can watch {self.limits.subscriptions} runs; unsubscribe from one.")

    def _allowed(self, now: float) -> bool:
        if not self._rate.take(now):
            return False
        self._refusals = 0
        return True

    def _rate_refused(self, text: str | bytes) -> list[Effect]:
        self._refusals += 1
        if self._refusals > RATE_REFUSALS:
            return [CloseSocket(RATE_CLOSE, "too many messages")]
        return [
            self.refused(
                _ref(_object(text)),
                RateLimited(
                    f"Slow down: {self.limits.messages_a_second:g} messages a second are allowed.", retry_after=1
                ),
            )
        ]


def _model(raw: dict[str, Any]) -> type[ClientMessage]:
    kind = raw.get("type")
    if not isinstance(kind, str) or kind not in MESSAGE_TYPES:
        raise InvalidMessage(f"Send a JSON object whose `type` is one of {', '.join(MESSAGE_TYPES)}.")
    return MESSAGE_TYPES[kind]


def _ref(raw: dict[str, Any]) -> Ref:
    """Return the message's `ref` if it is valid: a refusal names it, too."""
    ref = raw.get("ref")
    try:
        return _REF.validate_python(ref, strict=True)
    except ValidationError:
        return None


def _object(text: str | bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}


def _reply(ref: Ref, fields: dict[str, Any]) -> SendReply:
    return SendReply(orjson.dumps({"reply": {"ref": ref, "ok": True, **fields}}).decode())
