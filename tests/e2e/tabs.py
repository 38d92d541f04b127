"""One page in a real browser, and the steps that its tests share."""

import re
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest
from playwright.sync_api import ConsoleMessage, Page, expect

from tests.timing import FACTOR

# A whole report by the offline analyst, on a machine that runs other tests at the same time.
RUN_MS = 120_000 * FACTOR
BOTH = pytest.mark.parametrize("via", ["sse", "ws"])


class Server(Protocol):
    url: str


@dataclass
class Tab:
    """One page, with the errors that it logged and the addresses that it requested."""

    page: Page
    url: str
    errors: list[str] = field(default_factory=list[str])
    asked: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self.page.set_default_timeout(30_000 * FACTOR)
        self.page.on("console", self._logged)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self._asks(request.url))
        self.page.on("websocket", lambda socket: self._asks(socket.url))

    def open(self, path: str = "/client") -> Page:
        self.page.goto(self.url + path)
        return self.page

    def elsewhere(self) -> list[str]:
        """The requested addresses of other hosts."""
        here = (self.url, self.url.replace("http", "ws", 1), "data:", "blob:")
        return [address for address in self.asked if not address.startswith(here)]

    def _logged(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def _asks(self, address: str) -> None:
        self.asked.append(address)


def choose(page: Page, via: str) -> None:
    page.get_by_text({"sse": "SSE", "ws": "WebSocket"}[via], exact=True).click()


def ask(page: Page, question: str, via: str = "sse") -> None:
    choose(page, via)
    page.get_by_label("Your question").fill(question)
    page.keyboard.press("Control+Enter")


def completed(page: Page) -> None:
    expect(page.locator(".bar.is-completed")).to_be_visible(timeout=RUN_MS)
    expect(page.locator(".notice.is-completed")).to_be_attached()


def run_of(tab: Tab) -> dict[str, Any]:
    """Return the server's resource of the run that the page shows."""
    match = re.search(r"run=([^&]+)", tab.page.url)
    assert match
    return tab.page.request.get(f"{tab.url}/runs/{match[1]}").json()
