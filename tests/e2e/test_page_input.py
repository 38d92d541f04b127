"""The page at /client with a human's input: questions of the team, reviews, conversations."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.tabs import BOTH, RUN_MS, Tab, ask, completed, run_of

pytestmark = pytest.mark.browser

UNCLEAR = "How are we doing in the north?"
CLEAR = "What was our revenue in May?"


def asked(page: Page) -> None:
    expect(page.locator(".request-box.open")).to_be_visible(timeout=RUN_MS)


def answer(page: Page, words: str) -> None:
    box = page.locator(".request-box.open textarea")
    box.fill(words)
    box.press("Control+Enter")


def session_of(tab: Tab) -> dict[str, Any]:
    return tab.page.request.get(f"{tab.url}/sessions/{run_of(tab)['session_id']}").json()


@BOTH
def test_an_unclear_question_is_asked_back_and_the_answer_goes_on_in_every_tab(
    tab: Tab, open_tab: Callable[..., Tab], via: str
) -> None:
    """The form is in view, shows how long it waits, and ends in all tabs with the first answer."""
    page = tab.open()
    ask(page, UNCLEAR, via)
    asked(page)
    expect(page.locator(".request-box.open textarea")).to_be_in_viewport()
    expect(page.get_by_role("timer")).to_contain_text("left to answer")
    expect(page.locator("#activity")).to_have_text("PlanningAgent waits for your answer")
    assert page.title().startswith("? ")
    other = open_tab()
    other.page.goto(page.url)
    asked(other.page)
    answer(other.page, "revenue, last quarter")
    for one in (page, other.page):
        expect(one.locator(".settled")).to_contain_text("revenue, last quarter")
        expect(one.locator(".answer-form")).to_have_count(0)
        completed(one)
    assert other.page.locator("#report .prose").inner_html() == page.locator("#report .prose").inner_html()


def test_a_reload_finds_an_open_question_open_and_an_answered_one_answered(tab: Tab) -> None:
    """Before the answer the form appears again; after it, none does."""
    page = tab.open()
    ask(page, UNCLEAR)
    asked(page)
    page.reload()
    asked(page)
    page.get_by_role("button", name="go to the question").click()
    expect(page.locator(".request-box.open textarea")).to_be_focused()
    answer(page, "revenue, last quarter")
    completed(page)
    page.add_init_script("""
      new MutationObserver((changes) => {
        for (const { target } of changes) if (target.querySelector('.answer-form')) window.formSeen = true;
      }).observe(document, { childList: true, subtree: true });
    """)
    page.reload()
    completed(page)
    expect(page.locator(".settled")).to_have_text("Answeredrevenue, last quarter")
    assert page.evaluate("window.formSeen") is None


@BOTH
def test_a_report_waits_for_approval_and_a_remark_is_obeyed(tab: Tab, via: str) -> None:
    """The draft appears in the report's place; a remark brings a new draft, and an approved one is the report."""
    page = tab.open()
    page.get_by_label("Let me approve the report first").check()
    ask(page, CLEAR, via)
    asked(page)
    expect(page.locator(".draft.is-waiting")).to_be_visible()
    first = page.locator("#report .prose").inner_text()
    page.locator(".request-box.open textarea").fill("Show orders as well")
    page.get_by_role("button", name="Send back with a remark").click()
    expect(page.locator(".settled").first).to_have_text("Sent backShow orders as well")
    asked(page)
    draft = page.locator("#report .prose").inner_text()
    assert draft != first
    page.get_by_role("button", name="Approve").click()
    completed(page)
    expect(page.locator(".draft")).to_have_count(0)
    assert page.locator("#report .prose").inner_text() == draft
    assert run_of(tab)["state"] == "completed"


@BOTH
def test_the_next_question_goes_on_in_the_same_conversation_until_a_new_one_is_begun(tab: Tab, via: str) -> None:
    """The team remembers; earlier questions can be opened; a new conversation remembers nothing."""
    page = tab.open()
    ask(page, "What was our revenue in the third quarter?", via)
    completed(page)
    first = run_of(tab)
    ask(page, "and the quarter before?", via)
    expect(page.locator("#run-title")).to_have_text("and the quarter before?")
    completed(page)
    expect(page.locator("#report .prose")).to_contain_text("Q2")
    expect(page.locator("#conversation-count")).to_have_text("In this conversation: 2 questions")
    assert [run["question"] for run in session_of(tab)["runs"]] == [first["question"], "and the quarter before?"]
    page.locator("#conversation-count").click()
    page.locator("#conversation-runs a").first.click()
    expect(page.locator("#run-title")).to_have_text(first["question"])
    expect(page.locator("#conversation-runs")).to_be_hidden()
    completed(page)
    page.get_by_role("button", name="New conversation").click()
    expect(page.locator("#conversation")).to_be_hidden()
    expect(page.locator("#welcome")).to_be_visible()
    ask(page, CLEAR, via)
    completed(page)
    assert run_of(tab)["session_id"] != first["session_id"]


@BOTH
def test_a_busy_conversation_offers_to_queue_the_question(open_tab: Callable[..., Tab], via: str) -> None:
    """Refused with its code; queued, it is answered once the question before it is."""
    tab = open_tab()
    page = tab.open()
    ask(page, UNCLEAR, via)
    asked(page)
    busy = page.url
    ask(page, CLEAR, via)
    expect(page.get_by_role("alert")).to_contain_text("session_busy")
    page.get_by_role("button", name="Ask it when that is done").click()
    expect(page.locator("#activity")).to_have_text("Waiting for its turn in the conversation")
    other = open_tab()
    other.page.goto(busy)
    asked(other.page)
    answer(other.page, "revenue, last quarter")
    completed(other.page)
    completed(page)
    assert [run["question"] for run in session_of(tab)["runs"]] == [UNCLEAR, CLEAR]
    assert [error for error in tab.errors if "409" not in error] == []
    tab.errors.clear()  # the browser itself logs each 409


def test_a_question_refused_in_a_busy_conversation_can_begin_a_new_one(open_tab: Callable[..., Tab]) -> None:
    """The other choice, without a wait."""
    tab = open_tab()
    page = tab.open()
    ask(page, UNCLEAR)
    asked(page)
    waiting = run_of(tab)
    ask(page, CLEAR)
    page.get_by_role("button", name="Ask it in a new conversation").click()
    completed(page)
    assert run_of(tab)["session_id"] != waiting["session_id"]
    page.request.post(f"{tab.url}/runs/{waiting['run_id']}/cancel")
    tab.errors.clear()  # the browser itself logs each 409


def test_a_human_is_asked_within_the_width_of_a_small_phone(open_tab: Callable[..., Tab]) -> None:
    """At 360 px the conversation, the form and its buttons need no sideways scrolling."""
    page = open_tab(viewport={"width": 360, "height": 740}).open()
    page.get_by_label("Let me approve the report first").check()
    ask(page, CLEAR)
    asked(page)
    expect(page.get_by_role("button", name="Send back with a remark")).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.get_by_role("button", name="Approve").click()
    completed(page)
