"""The page of an application that FastAPI has mounted at /ai, in a real browser: all its requests go to /ai."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.tabs import BOTH, Tab, ask, completed, run_of
from tests.embedding.conftest import Server

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address, which ends with `/ai`."""
    server = Server("uvicorn", "tests.embedding.hosts:mounted", tmp_path_factory.mktemp("mounted"))
    try:
        yield server.url + "/ai"
    finally:
        server.release()


@BOTH
def test_the_page_under_a_prefix_asks_streams_and_resumes(browser: Browser, mounted: str, via: str) -> None:
    """It loads without an error, watches a run over either transport, and resumes it after a reload."""
    tab = Tab(browser.new_page(), mounted)
    page = tab.open()
    ask(page, "30 0.1", via)
    page.wait_for_url("**/ai/client#run=*")
    expect(page.locator("#timeline")).to_contain_text("2")
    page.reload()
    completed(page)
    name = {"sse": "SSE", "ws": "WebSocket"}[via]
    expect(page.locator("#link-text")).to_have_text(f"All {run_of(tab)['last_id']:,} events received over {name}")
    page.get_by_text("Recent runs").click()
    expect(page.locator("#recent-list li").first).to_contain_text("30 0.1")
    for name in ("OpenAPI", "Event schema", "Health"):
        address = page.get_by_role("link", name=name).evaluate("link => link.href")
        assert page.request.get(address).ok
    assert (tab.errors, tab.elsewhere()) == ([], [])
    assert any("/ai/ask-stream" in address or "/ai/ws" in address for address in tab.asked)
    page.close()
