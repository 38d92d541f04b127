"""Signing in on the page, in a real browser, on a server that needs tokens."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.conftest import CHROMIUM_FLAGS
from tests.e2e.access import TOKENS, Served, serving, write_tokens
from tests.e2e.tabs import BOTH, Tab, ask
from tests.timing import FACTOR

pytestmark = pytest.mark.browser

QUESTION = "3 0.05"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture
def visit(browser: Browser, served: Served) -> Iterator[Callable[[str], Tab]]:
    """Open the page in a browser of its own, which has no cookies yet."""
    contexts: list[Any] = []

    def open_page(fragment: str = "") -> Tab:
        contexts.append(browser.new_context())
        tab = Tab(contexts[-1].new_page(), served.url)
        tab.open(f"/client{fragment}")
        return tab

    yield open_page
    for context in contexts:
        context.close()


def completed(page: Page) -> None:
    expect(page.locator(".bar.is-completed")).to_be_visible(timeout=30_000 * FACTOR)


@BOTH
def test_a_link_with_a_token_signs_in_and_leaves_nothing_in_the_address(visit: Callable[[str], Tab], via: str) -> None:
    """The token is in no later address, and in nothing that a script can read."""
    tab = visit(f"#token={TOKENS['alice']}")
    page = tab.page
    page.wait_for_url("**/client")
    ask(page, QUESTION, via)
    completed(page)
    assert TOKENS["alice"] not in page.url
    assert [address for address in tab.asked if TOKENS["alice"] in address.partition("#")[0]] == []
    assert (
        page.evaluate("document.cookie + JSON.stringify({...localStorage}) + JSON.stringify(history.state)") == "{}null"
    )
    page.go_back()
    assert TOKENS["alice"] not in page.url
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/")  # type: ignore[typeddict-item]
    page.reload()
    page.get_by_text("Recent runs").click()
    expect(page.locator("#recent-list li").first).to_contain_text(QUESTION)


@BOTH
def test_the_page_asks_for_a_token_when_the_server_does(visit: Callable[..., Tab], via: str) -> None:
    """A wrong one is refused with a reason. With the right one the page goes on."""
    page = visit().page
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    page.get_by_role("textbox", name="Token").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("isn’t valid".replace("’", "'"))
    page.get_by_role("textbox", name="Token").fill(TOKENS["bob"])
    page.get_by_role("button", name="Sign in").click()
    expect(dialog).to_be_hidden()
    ask(page, QUESTION, via)
    completed(page)


def test_a_link_to_a_run_keeps_the_run(visit: Callable[[str], Tab]) -> None:
    """The token alone leaves the address. A closed dialog says why there is nothing."""
    page = visit(f"#token={TOKENS['alice']}").page
    ask(page, QUESTION)
    completed(page)
    place = page.url.partition("#")[2]
    other = visit(f"#{place}&token={TOKENS['alice']}").page
    completed(other)
    assert other.url.partition("#")[2] == place
    third = visit(f"#{place}").page
    expect(third.get_by_role("dialog")).to_be_visible()
    third.keyboard.press("Escape")
    expect(third.locator("#report")).to_contain_text("Send a token")


@BOTH
def test_the_page_works_without_tls_by_a_name_on_the_network(
    browser: Browser, chromium: str, served: Served, via: str
) -> None:
    """There a browser sends no `Sec-Fetch-Site`: the page's origin must be found to be our own."""
    flags = [*CHROMIUM_FLAGS, "--host-resolver-rules=MAP box.lan 127.0.0.1"]
    other = browser.browser_type.launch(executable_path=chromium, args=flags)
    page = other.new_page()
    page.goto(f"{served.url.replace('127.0.0.1', 'box.lan')}/client#token={TOKENS['alice']}")
    page.wait_for_url("**/client")
    assert not page.evaluate("isSecureContext")
    ask(page, QUESTION, via)
    completed(page)
    other.close()


def test_a_revoked_token_ends_the_page_and_a_new_one_goes_on(visit: Callable[[str], Tab], served: Served) -> None:
    """Over a socket the page can't see the refusal; it asks the server why."""
    page = visit(f"#token={TOKENS['alice']}").page
    ask(page, "600 0.1", "ws")
    expect(page.locator("#link-text")).to_contain_text("Live")
    write_tokens(served.file, "bob", "ops")
    try:
        expect(page.get_by_role("dialog")).to_be_visible(timeout=30_000 * FACTOR)
    finally:
        write_tokens(served.file, *TOKENS)
    page.get_by_role("textbox", name="Token").fill(TOKENS["alice"])
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#link-text")).to_contain_text("Live", timeout=30_000 * FACTOR)
    page.get_by_role("button", name="Stop").click()
