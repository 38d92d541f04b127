"""The WebSocket conversation, without sockets and with time as a number."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askstream.server.connections import InboundLimits
from askstream.server.events import Filter
from askstream.server.events.errors import RunNotFound
from askstream.transports.websocket.protocol import (
    RATE_CLOSE,
    RATE_REFUSALS,
    CancelRun,
    CloseSocket,
    Effect,
    SendReply,
    SocketProtocol,
    StartRun,
    SubmitInput,
    Subscribe,
    Unsubscribe,
)
from tests.conformance.journals import record

LIMITS = InboundLimits(messages_at_once=7, messages_a_second=20, subscriptions=3)


@pytest.fixture
def conversation() -> SocketProtocol:
    return SocketProtocol(100, LIMITS)


def received(conversation: SocketProtocol, now: float = 0.0, **message: Any) -> list[Effect]:
    return conversation.received(json.dumps(message), now)


def reply(effects: list[Effect]) -> dict[str, Any]:
    """Return the only effect, which must be a reply."""
    (effect,) = effects
    assert isinstance(effect, SendReply)
    found: dict[str, Any] = json.loads(effect.text)["reply"]
    return found


def test_ask_starts_a_run_and_watches_it(conversation: SocketProtocol) -> None:
    """The reply names the run."""
    (effect,) = received(conversation, type="ask", ref="1", question="why?", tokens=True)
    assert isinstance(effect, StartRun)
    assert (effect.ref, effect.ask.question, effect.ask.wanted) == ("1", "why?", Filter(tokens=True))
    got = reply([conversation.started("1", record("r"))])
    assert got == {"ref": "1", "ok": True, "run_id": "r", "session_id": "s", "state": "running"}
    assert conversation.subscribed_runs == {"r"}


def test_subscribe_watches_a_run_from_a_cursor(conversation: SocketProtocol) -> None:
    """`latest` becomes None; filters are passed on."""
    assert received(conversation, type="subscribe", ref=1, run_id="r", after=3, include=["error"]) == [
        Subscribe(1, "r", 3, Filter(include=frozenset({"error"})))
    ]
    (latest,) = received(conversation, type="subscribe", run_id="s", after="latest")
    assert latest == Subscribe(None, "s", None, Filter())
    got = reply([conversation.subscribed(1, record("r", last_id=9), 3)])
    assert got == {"ref": 1, "ok": True, "run_id": "r", "after": 3, "last_id": 9, "state": "running"}


def test_a_run_is_watched_once_by_one_socket(conversation: SocketProtocol) -> None:
    """Until it is unsubscribed, its log has ended, or the subscription was refused."""
    for off in (
        lambda: received(conversation, type="unsubscribe", run_id="r"),
        lambda: conversation.finished("r"),
        lambda: conversation.refused(None, RunNotFound(), "r"),
    ):
        received(conversation, type="subscribe", run_id="r")
        assert reply(received(conversation, type="subscribe", run_id="r"))["error"]["code"] == "already_subscribed"
        off()
    assert conversation.subscribed_runs == set()


def test_unsubscribe_stops_and_confirms(conversation: SocketProtocol) -> None:
    """In that order; a run that isn't watched can't be unsubscribed."""
    received(conversation, type="subscribe", run_id="r")
    stop, got = received(conversation, type="unsubscribe", ref="x", run_id="r")
    assert stop == Unsubscribe("r")
    assert reply([got]) == {"ref": "x", "ok": True, "run_id": "r"}
    assert reply(received(conversation, type="unsubscribe", run_id="r"))["error"]["code"] == "not_subscribed"


def test_the_number_of_runs_on_one_socket_is_limited(conversation: SocketProtocol) -> None:
    """One more is refused, by `ask` as well; the others go on."""
    for number in range(LIMITS.subscriptions):
        received(conversation, number * 1.0, type="subscribe", run_id=f"r{number}")
    for message in ({"type": "subscribe", "run_id": "more"}, {"type": "ask", "question": "why?"}):
        assert reply(received(conversation, 99.0, **message))["error"]["code"] == "too_many_subscriptions"
    assert len(conversation.subscribed_runs) == LIMITS.subscriptions


def test_cancel_and_ping(conversation: SocketProtocol) -> None:
    """A ping is answered by the conversation itself."""
    assert received(conversation, type="cancel", ref=7, run_id="r") == [CancelRun(7, "r")]
    assert reply([conversation.acknowledged(7, record("r"))]) == {
        "ref": 7,
        "ok": True,
        "run_id": "r",
        "state": "running",
    }
    assert reply(received(conversation, type="ping", ref=8)) == {"ref": 8, "ok": True, "type": "pong"}


@pytest.mark.parametrize("value", ["yes", None, {"approve": True}, [1, 2.5], False])
def test_an_input_of_any_json_is_passed_on(conversation: SocketProtocol, value: Any) -> None:
    """The request for input has its schema."""
    effects = received(conversation, type="input", ref=1, run_id="r", request_id="q", value=value)
    assert effects == [SubmitInput(1, "r", "q", value)]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("", "invalid_message"),
        ("nonsense", "invalid_message"),
        ("[]", "invalid_message"),
        ("{}", "invalid_message"),
        ('{"type":"shout"}', "invalid_message"),
        ('{"type":["ask"]}', "invalid_message"),
        ('{"type":null}', "invalid_message"),
        ('{"type":"ping","ref":18446744073709551616}', "invalid_request"),
        ('{"type":"ping","ref":"' + "x" * 129 + '"}', "invalid_request"),
        ('{"type":"ask"}', "invalid_request"),
        ('{"type":"ask","question":""}', "invalid_request"),
        ('{"type":"ask","question":" "}', "invalid_request"),
        ('{"type":"ask","question":7}', "invalid_request"),
        ('{"type":"ask","question":"a\\u0000b"}', "invalid_request"),
        ('{"type":"ask","question":"' + "x" * 101 + '"}', "invalid_request"),
        ('{"type":"ask","question":"x","colour":"red"}', "invalid_request"),
        ('{"type":"ask","question":"x","include":["unheard"]}', "invalid_request"),
        ('{"type":"ask","question":"x","tokens":"yes"}', "invalid_request"),
        ('{"type":"input","run_id":"r","request_id":"q"}', "invalid_request"),
        ('{"type":"subscribe"}', "invalid_request"),
        ('{"type":"subscribe","run_id":"../x"}', "invalid_request"),
        ('{"type":"subscribe","run_id":"r","after":"soon"}', "invalid_request"),
        ('{"type":"subscribe","run_id":"r","after":1.5}', "invalid_request"),
        ('{"type":"subscribe","run_id":"r","after":-1}', "bad_cursor"),
        ('{"type":"subscribe","run_id":"r","after":9999999999999999999999}', "bad_cursor"),
    ],
)
def test_a_bad_message_is_refused_with_a_code_and_the_conversation_goes_on(
    conversation: SocketProtocol, message: str, code: str
) -> None:
    """The message is a sentence, and nothing is watched because of it."""
    got = reply(conversation.received(message, 0.0))
    assert got["ok"] is False
    assert got["error"]["code"] == code
    assert got["error"]["message"].endswith(".")
    assert conversation.subscribed_runs == set()
    assert reply(received(conversation, type="ping"))["ok"] is True


def test_a_refusal_carries_the_ref_of_what_it_refuses(conversation: SocketProtocol) -> None:
    """If it is valid: a list or a very long text isn't."""
    assert reply(received(conversation, type="shout", ref="mine"))["ref"] == "mine"
    assert reply(received(conversation, type="ask", ref="mine"))["ref"] == "mine"
    assert reply(received(conversation, type="ask", ref=["mine"]))["ref"] is None
    assert reply(received(conversation, type="ask", ref="x" * 129))["ref"] is None


def test_the_rate_is_limited_and_recovers(conversation: SocketProtocol) -> None:
    """A burst is allowed, one message more isn't, and a pause gives tokens again."""
    for _ in range(int(LIMITS.messages_at_once)):
        assert reply(received(conversation, 5.0, type="ping"))["ok"] is True
    refused = reply(received(conversation, 5.0, type="ping", ref="late"))
    assert (refused["error"]["code"], refused["error"]["retry_after"], refused["ref"]) == ("rate_limited", 1, "late")
    assert reply(received(conversation, 5.06, type="ping"))["ok"] is True
    assert reply(received(conversation, 5.07, type="ping"))["ok"] is False


def test_a_clients_pings_and_pongs_count_as_messages(conversation: SocketProtocol) -> None:
    """One bucket for both, and one count of refusals in a row."""
    for _ in range(int(LIMITS.messages_at_once)):
        assert conversation.control(5.0) is None
    assert reply(received(conversation, 5.0, type="ping"))["error"]["code"] == "rate_limited"
    for _ in range(RATE_REFUSALS - 1):
        assert conversation.control(5.0) is None
    assert conversation.control(5.0) == CloseSocket(RATE_CLOSE, "too many messages")


def test_a_client_that_never_slows_down_is_closed(conversation: SocketProtocol) -> None:
    """With 4029, after which it may reconnect."""
    for _ in range(int(LIMITS.messages_at_once) + 100):
        received(conversation, 5.0, type="ping")
    assert received(conversation, 5.0, type="ping") == [CloseSocket(RATE_CLOSE, "too many messages")]


@given(st.lists(st.one_of(st.text(max_size=40), st.binary(max_size=40)), max_size=20))
def test_any_message_gets_an_effect(messages: list[str | bytes]) -> None:
    """No message raises."""
    conversation = SocketProtocol(question_characters=100)
    for number, message in enumerate(messages):
        for effect in conversation.received(message, float(number)):
            assert isinstance(effect, SendReply)
