"""The WebSocket conversation, without sockets and with time as a number."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askstream.server.events import Filter
from askstream.server.events.errors import RunNotFound
from askstream.transports.websocket.protocol import (
    BURST,
    RATE_CLOSE,
    SUBSCRIPTIONS,
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


@pytest.fixture
def conversation() -> SocketProtocol:
    return SocketProtocol(question_characters=100)


def said(conversation: SocketProtocol, now: float = 0.0, **message: Any) -> list[Effect]:
    return conversation.received(json.dumps(message), now)


def reply(effects: list[Effect]) -> dict[str, Any]:
    """The only effect, which has to be a reply."""
    (effect,) = effects
    assert isinstance(effect, SendReply)
    told: dict[str, Any] = json.loads(effect.text)["reply"]
    return told


def test_ask_starts_a_run_and_watches_it(conversation: SocketProtocol) -> None:
    """The reply names the run; what follows are its events."""
    (effect,) = said(conversation, type="ask", ref="1", question="why?", tokens=True)
    assert isinstance(effect, StartRun)
    assert (effect.ref, effect.ask.question, effect.ask.wanted) == ("1", "why?", Filter(tokens=True))
    told = reply([conversation.started("1", record("r"))])
    assert told == {"ref": "1", "ok": True, "run_id": "r", "session_id": "s", "state": "running"}
    assert conversation.watching == {"r"}


def test_subscribe_watches_a_run_from_a_cursor(conversation: SocketProtocol) -> None:
    """`latest` is told as None; filters go along."""
    assert said(conversation, type="subscribe", ref=1, run_id="r", after=3, include=["error"]) == [
        Subscribe(1, "r", 3, Filter(include=frozenset({"error"})))
    ]
    assert said(conversation, type="subscribe", run_id="s", after="latest") == [Subscribe(None, "s", None, Filter())]
    told = reply([conversation.subscribed(1, record("r", last_id=9), 3)])
    assert told == {"ref": 1, "ok": True, "run_id": "r", "after": 3, "last_id": 9, "state": "running"}


def test_a_run_is_watched_once_by_one_socket(conversation: SocketProtocol) -> None:
    """Until it is unsubscribed, its log has ended, or the subscription was refused."""
    for off in (
        lambda: said(conversation, type="unsubscribe", run_id="r"),
        lambda: conversation.finished("r"),
        lambda: conversation.refused(None, RunNotFound(), "r"),
    ):
        said(conversation, type="subscribe", run_id="r")
        assert reply(said(conversation, type="subscribe", run_id="r"))["error"]["code"] == "already_subscribed"
        off()
    assert conversation.watching == set()


def test_unsubscribe_stops_and_confirms(conversation: SocketProtocol) -> None:
    """In that order; what isn't watched can't be left."""
    said(conversation, type="subscribe", run_id="r")
    stop, told = said(conversation, type="unsubscribe", ref="x", run_id="r")
    assert stop == Unsubscribe("r")
    assert reply([told]) == {"ref": "x", "ok": True, "run_id": "r"}
    assert reply(said(conversation, type="unsubscribe", run_id="r"))["error"]["code"] == "not_subscribed"


def test_one_socket_watches_so_many_runs(conversation: SocketProtocol) -> None:
    """One more is refused, asking included; the others go on."""
    for number in range(SUBSCRIPTIONS):
        said(conversation, number * 1.0, type="subscribe", run_id=f"r{number}")
    for message in ({"type": "subscribe", "run_id": "more"}, {"type": "ask", "question": "why?"}):
        assert reply(said(conversation, 99.0, **message))["error"]["code"] == "too_many_subscriptions"
    assert len(conversation.watching) == SUBSCRIPTIONS


def test_cancel_and_ping(conversation: SocketProtocol) -> None:
    """A ping is answered by the conversation itself."""
    assert said(conversation, type="cancel", ref=7, run_id="r") == [CancelRun(7, "r")]
    assert reply([conversation.acknowledged(7, record("r"))]) == {
        "ref": 7,
        "ok": True,
        "run_id": "r",
        "state": "running",
    }
    assert reply(said(conversation, type="ping", ref=8)) == {"ref": 8, "ok": True, "type": "pong"}


@pytest.mark.parametrize("value", ["yes", None, {"approve": True}, [1, 2.5], False])
def test_an_answer_of_any_json_is_handed_on(conversation: SocketProtocol, value: Any) -> None:
    """What it should look like is the request's own business."""
    effects = said(conversation, type="input", ref=1, run_id="r", request_id="q", value=value)
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
    """The sentence says what to do, and nothing is watched because of it."""
    told = reply(conversation.received(message, 0.0))
    assert told["ok"] is False
    assert told["error"]["code"] == code
    assert told["error"]["message"].endswith(".")
    assert conversation.watching == set()
    assert reply(said(conversation, type="ping"))["ok"] is True


def test_a_refusal_carries_the_ref_of_what_it_refuses(conversation: SocketProtocol) -> None:
    """Where the client gave one that can be told; a list or a novel can't."""
    assert reply(said(conversation, type="shout", ref="mine"))["ref"] == "mine"
    assert reply(said(conversation, type="ask", ref="mine"))["ref"] == "mine"
    assert reply(said(conversation, type="ask", ref=["mine"]))["ref"] is None
    assert reply(said(conversation, type="ask", ref="x" * 129))["ref"] is None


def test_the_rate_is_limited_and_recovers(conversation: SocketProtocol) -> None:
    """A burst is fine, the twenty-first in a second isn't, and a pause makes good again."""
    for _ in range(int(BURST)):
        assert reply(said(conversation, 5.0, type="ping"))["ok"] is True
    refused = reply(said(conversation, 5.0, type="ping", ref="late"))
    assert (refused["error"]["code"], refused["error"]["retry_after"], refused["ref"]) == ("rate_limited", 1, "late")
    assert reply(said(conversation, 5.06, type="ping"))["ok"] is True
    assert reply(said(conversation, 5.07, type="ping"))["ok"] is False


def test_a_client_that_never_slows_down_is_closed(conversation: SocketProtocol) -> None:
    """With a code that says to come back later."""
    for _ in range(int(BURST) + 100):
        said(conversation, 5.0, type="ping")
    assert said(conversation, 5.0, type="ping") == [CloseSocket(RATE_CLOSE, "too many messages")]


@given(st.lists(st.one_of(st.text(max_size=40), st.binary(max_size=40)), max_size=20))
def test_any_message_gets_an_effect(messages: list[str | bytes]) -> None:
    """No message raises."""
    conversation = SocketProtocol(question_characters=100)
    for number, message in enumerate(messages):
        for effect in conversation.received(message, float(number)):
            assert isinstance(effect, SendReply)
