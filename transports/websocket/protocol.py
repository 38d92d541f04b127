"""The WebSocket conversation as a pure state machine: messages in, effects out. Time is an argument, in seconds.

Nothing here waits or touches a socket, a run or a clock. The shell, endpoint.py, passes the client's messages in and
performs the effects. It passes their results back (`started`, `subscribed`, `acknowledged`, `refused`), and sends the
replies that it gets for them.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias, cast

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from askstream.server.events import Filter, Json
from askstream.server.events.errors import (
    AlreadySubscribed,
    BadCursor,
    InvalidMessage,
    NotSubscribed,
    RateLimited,
    Refused,
    TooManySubscriptions,
)
from askstream.server.journal import RunRecord
from askstream.server.requests import Ask, Identifier, Input, View, validate

SUBPROTOCOL = "askstream.v1"
# Contract section 6. A person and a program that steers several runs both stay far below.
SUBSCRIPTIONS = 32
MESSAGES_A_SECOND = 20.0
BURST = 40.0
# A client that is refused this often without a pause won't stop by itself.
RATE_REFUSALS = 100
RATE_CLOSE = 4029
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
    """Watch a run. `after` is None for only what comes next."""

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
    """Give a human's answer."""

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
    """One socket's side of the protocol. `watching` are the runs it subscribes to."""

    question_characters: int
    watching: set[str] = field(default_factory=set[str])
    _tokens: float = BURST
    _refilled: float = 0.0
    _refusals: int = 0

    def received(self, text: str | bytes, now: float) -> list[Effect]:
        """The effects of a client's message. The conversation goes on, even after a bad one."""
        if not self._allowed(now):
            return self._rate_refused(text)
        raw = _object(text)
        ref = _ref(raw)
        try:
            return self._handled(validate(_model(raw), text))
        except Refused as refusal:
            return [self.refused(ref, refusal)]

    def started(self, ref: Ref, record: RunRecord) -> SendReply:
        """The run of a `StartRun` exists; it is watched from now on, if it wasn't already."""
        self.watching.add(record.run_id)
        return _reply(ref, {"run_id": record.run_id, "session_id": record.session_id, "state": record.state})

    def subscribed(self, ref: Ref, record: RunRecord, after: int) -> SendReply:
        return _reply(ref, {"run_id": record.run_id, "after": after, "last_id": record.last_id, "state": record.state})

    def acknowledged(self, ref: Ref, record: RunRecord) -> SendReply:
        """A cancel or an answer was accepted; `record` is the run as it stands."""
        return _reply(ref, {"run_id": record.run_id, "state": record.state})

    def refused(self, ref: Ref, refusal: Refused, run_id: str | None = None) -> SendReply:
        """The command failed. `run_id` names a subscription that is undone."""
        self.watching.discard(run_id or "")
        error: dict[str, Any] = {"code": refusal.code, "message": str(refusal)}
        if refusal.retry_after is not None:
            error["retry_after"] = refusal.retry_after
        return SendReply(orjson.dumps({"reply": {"ref": ref, "ok": False, "error": error}}).decode())

    def finished(self, run_id: str) -> None:
        """A subscription has come to its end: the viewer has the run's terminal event."""
        self.watching.discard(run_id)

    def heartbeat(self) -> SendReply:
        """For a socket that has been silent: browsers can't see protocol pings."""
        return SendReply('{"reply":{"type":"heartbeat"}}')

    def _handled(self, message: ClientMessage) -> list[Effect]:
        match message:
            case AskMessage(ref=ref):
                self._check_subscriptions()
                return [StartRun(ref, message.check_question(self.question_characters))]
            case SubscribeMessage(ref=ref, run_id=run_id):
                return [self._subscribe(message)]
            case UnsubscribeMessage(ref=ref, run_id=run_id):
                if run_id not in self.watching:
                    raise NotSubscribed("This socket has no subscription to that run.")
                self.watching.discard(run_id)
                return [Unsubscribe(run_id), _reply(ref, {"run_id": run_id})]
            case CancelMessage(ref=ref, run_id=run_id):
                return [CancelRun(ref, run_id)]
            case InputMessage():
                return [SubmitInput(message.ref, message.run_id, message.request_id, message.value)]
            case PingMessage(ref=ref):
                return [_reply(ref, {"type": "pong"})]

    def _subscribe(self, message: SubscribeMessage) -> Effect:
        if message.run_id in self.watching:
            raise AlreadySubscribed("Unsubscribe first to watch that run from another cursor or with another filter.")
        self._check_subscriptions()
        after = None if message.after == "latest" else message.after
        if after is not None and not 0 <= after < 2**63:
            raise BadCursor("A cursor is the id of an event, a whole number from 0 on, or `latest`.")
        self.watching.add(message.run_id)
        return Subscribe(message.ref, message.run_id, after, message.wanted)

    def _check_subscriptions(self) -> None:
        if len(self.watching) >= SUBSCRIPTIONS:
            raise TooManySubscriptions(f"One socket can watch {SUBSCRIPTIONS} runs; unsubscribe from one.")

    def _allowed(self, now: float) -> bool:
        """A token bucket: BURST messages at once, MESSAGES_A_SECOND in the long run."""
        self._tokens = min(BURST, self._tokens + (now - self._refilled) * MESSAGES_A_SECOND)
        self._refilled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        self._refusals = 0
        return True

    def _rate_refused(self, text: str | bytes) -> list[Effect]:
        self._refusals += 1
        if self._refusals > RATE_REFUSALS:
            return [CloseSocket(RATE_CLOSE, "too many messages")]
        return [
            self.refused(
                _ref(_object(text)), RateLimited("Slow down: 20 messages a second are allowed.", retry_after=1)
            )
        ]


def _model(raw: dict[str, Any]) -> type[ClientMessage]:
    kind = raw.get("type")
    if not isinstance(kind, str) or kind not in MESSAGE_TYPES:
        raise InvalidMessage(f"Send a JSON object whose `type` is one of {', '.join(MESSAGE_TYPES)}.")
    return MESSAGE_TYPES[kind]


def _ref(raw: dict[str, Any]) -> Ref:
    """The message's `ref`, if it has a valid one: a refusal names it, too."""
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
