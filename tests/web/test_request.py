"""request.js: the form of one request for input; the server is faked by its responses to the browser."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

pytestmark = pytest.mark.browser

TEXT: dict[str, Any] = {"type": "string"}
REVIEW: dict[str, Any] = {
    "type": "object",
    "properties": {"approve": {"type": "boolean"}, "remark": {"type": "string"}},
    "required": ["approve"],
}
INPUT = "**/runs/r1/input"
OTHER: dict[str, Any] = {"type": "object", "required": ["months"]}

# Applies the events and draws the request; `more` applies a later event.
DRAW = """async (events) => {
  const { apply, newRun } = await import('/run.js');
  const { RequestForm } = await import('/request.js');
  const run = newRun('r1');
  for (const event of events) apply(run, event);
  const request = run.requests.get('q1');
  const form = new RequestForm('r1', request, () => (window.read = true), () => (window.opened = true));
  document.body.replaceChildren(form.root);
  window.more = (event) => { apply(run, event); form.update(); };
}"""


@dataclass
class Edge:
    """The fake server: its pending request, its response to an answer, and the answers it received."""

    pending: str | None = "q1"
    status: int = 200
    detail: str = ""
    down: bool = False
    given: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def run(self, route: Route) -> None:
        pending = {"request_id": self.pending} if self.pending else None
        route.fulfill(json={"pending_input": pending}, headers={"Date": "Sun, 22 Nov 2026 10:30:00 GMT"})

    def input(self, route: Route) -> None:
        if self.down:
            route.abort()
            return
        self.given.append(json.loads(route.request.post_data or ""))
        route.fulfill(status=self.status, json={"code": "refused", "detail": self.detail})


@pytest.fixture
def edge(blank: Page) -> Edge:
    edge = Edge()
    blank.route("**/runs/r1", edge.run)
    blank.route("**/runs/r1/input", edge.input)
    return edge


def requested(schema: Any, deadline: str = "2026-11-22T10:40:00.000Z") -> dict[str, Any]:
    data = {"request_id": "q1", "prompt": "Which **measure**?", "schema": schema, "deadline": deadline}
    return {"event_type": "input_requested", "agent_name": "PlanningAgent", "data": data, "id": 2, "run_id": "r1"}


def resolved(outcome: str, value: Any = None) -> dict[str, Any]:
    data = {"request_id": "q1", "outcome": outcome, "value": value}
    return {"event_type": "input_resolved", "agent_name": "PlanningAgent", "data": data, "id": 3, "run_id": "r1"}


@pytest.fixture
def draw(blank: Page, edge: Edge) -> Callable[..., Page]:
    def drawn(schema: Any, *later: dict[str, Any], **options: Any) -> Page:
        blank.evaluate(DRAW, [requested(schema, **options), *later])
        return blank

    return drawn


@pytest.mark.parametrize("how", ["button", "keys"])
def test_a_sentence_is_typed_and_sent(draw: Callable[..., Page], edge: Edge, how: str) -> None:
    """A text box, sent with its button or Ctrl+Enter; the form stays until the event with the outcome."""
    page = draw(TEXT)
    box = page.get_by_role("textbox", name="Your answer to: Which **measure**?")
    box.fill("  revenue ")
    with page.expect_response(INPUT):
        if how == "keys":
            box.press("Control+Enter")
        else:
            page.get_by_role("button", name="Answer").click()
    expect(page.locator("form.sending")).to_be_visible()
    page.evaluate("(event) => more(event)", resolved("answered", "revenue"))
    expect(page.locator(".settled")).to_have_text("Answeredrevenue")
    expect(page.locator("form")).to_have_count(0)
    assert edge.given == [{"request_id": "q1", "value": "revenue"}]


def test_an_empty_answer_is_not_sent(draw: Callable[..., Page], edge: Edge) -> None:
    """The form shows what is missing."""
    page = draw(TEXT)
    page.get_by_role("button", name="Answer").click()
    expect(page.get_by_role("alert")).to_have_text("Write an answer first.")
    assert edge.given == []


def test_a_report_is_approved_with_one_click(draw: Callable[..., Page], edge: Edge) -> None:
    """The remark may be empty, and the form links to the draft."""
    page = draw(REVIEW)
    page.get_by_role("button", name="Read the draft").click()
    with page.expect_response(INPUT):
        page.get_by_role("button", name="Approve").click()
    assert page.evaluate("window.read")
    assert edge.given == [{"request_id": "q1", "value": {"approve": True, "remark": ""}}]


def test_a_report_is_sent_back_only_with_a_remark(draw: Callable[..., Page], edge: Edge) -> None:
    """Without one the team would not know what to change."""
    page = draw(REVIEW)
    back = page.get_by_role("button", name="Send back with a remark")
    back.click()
    expect(page.get_by_role("alert")).to_contain_text("Write what should change")
    page.get_by_role("textbox").fill("Shorter.")
    with page.expect_response(INPUT):
        back.click()
    assert edge.given == [{"request_id": "q1", "value": {"approve": False, "remark": "Shorter."}}]


def test_anything_else_is_typed_as_json(draw: Callable[..., Page], edge: Edge) -> None:
    """Invalid JSON isn't sent; valid JSON is sent as its value."""
    page = draw(OTHER)
    page.get_by_role("textbox").fill('{"months": ')
    page.get_by_role("button", name="Answer").click()
    expect(page.get_by_role("alert")).to_contain_text("This is not JSON yet")
    page.get_by_role("textbox").fill('{"months": 3}')
    with page.expect_response(INPUT):
        page.get_by_role("button", name="Answer").click()
    assert edge.given == [{"request_id": "q1", "value": {"months": 3}}]


@pytest.mark.parametrize(
    ("status", "detail"),
    [(409, "Somebody gave another answer first."), (410, "Nobody answered in time."), (422, "value: it doesn't fit.")],
)
def test_a_refusal_is_shown_in_the_form_and_keeps_the_text(
    draw: Callable[..., Page], edge: Edge, status: int, detail: str
) -> None:
    """The server's sentence, below the form; it stays when the answer that won arrives."""
    edge.status, edge.detail = status, detail
    page = draw(TEXT)
    page.get_by_role("textbox").fill("revenue")
    page.get_by_role("button", name="Answer").click()
    expect(page.get_by_role("alert")).to_have_text(detail)
    expect(page.get_by_role("textbox")).to_be_enabled()
    expect(page.get_by_role("textbox")).to_have_value("revenue")
    page.evaluate("(event) => more(event)", resolved("answered", "orders"))
    expect(page.locator(".settled")).to_contain_text("orders")
    expect(page.get_by_role("alert")).to_have_text(detail)


def test_an_answer_that_did_not_arrive_can_be_sent_again(draw: Callable[..., Page], edge: Edge) -> None:
    """The form reports the lost connection, and the second try arrives."""
    edge.down = True
    page = draw(TEXT)
    page.get_by_role("textbox").fill("revenue")
    page.get_by_role("button", name="Answer").click()
    expect(page.get_by_role("alert")).to_contain_text("did not reach the server")
    edge.down = False
    with page.expect_response(INPUT):
        page.get_by_role("button", name="Answer").click()
    assert edge.given == [{"request_id": "q1", "value": "revenue"}]


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (resolved("answered", "orders"), "Answeredorders"),
        (resolved("timed_out"), "Nobody answered in time."),
        (
            {"event_type": "cancelled", "data": {"reason": "client"}, "id": 3, "run_id": "r1"},
            "The run ended before somebody answered.",
        ),
    ],
)
def test_a_request_that_is_over_never_shows_a_form(draw: Callable[..., Page], last: dict[str, Any], words: str) -> None:
    """A replay shows it with its outcome, and without a form."""
    page = draw(TEXT, last)
    expect(page.locator(".settled")).to_have_text(words)
    expect(page.locator("form")).to_have_count(0)
    assert page.evaluate("window.opened") is None


def test_a_log_that_is_still_being_replayed_opens_no_form(draw: Callable[..., Page], blank: Page, edge: Edge) -> None:
    """The server no longer waits for it, and its outcome arrives later."""
    edge.pending = None
    with blank.expect_response("**/runs/r1"):
        page = draw(TEXT)
    page.evaluate("() => new Promise(requestAnimationFrame)")
    expect(page.locator(".prompt")).to_be_visible()
    expect(page.locator("form")).to_have_count(0)


@pytest.mark.serial
def test_the_time_left_follows_the_servers_clock(draw: Callable[..., Page]) -> None:
    """The browser's clock may be wrong."""
    page = draw(TEXT)
    expect(page.get_by_role("timer")).to_have_text("9:59 left to answer")
    expect(page.get_by_role("timer")).to_have_text("9:58 left to answer")


@pytest.mark.serial
def test_the_last_minute_is_announced_once(draw: Callable[..., Page]) -> None:
    """The countdown is no live region; the notice of its last minute is."""
    page = draw(TEXT, deadline="2026-11-22T10:30:03.000Z")
    expect(page.get_by_role("status")).to_have_text("Less than a minute is left to answer.")
    expect(page.get_by_role("timer")).to_have_text("The time to answer is over.")
    expect(page.get_by_role("status")).to_have_text("")
