"""Fixtures of all tests: the async backend, and a real browser if there is one."""

import os

import hypothesis
import pytest

from tools.browser import find_browser

# Chromium as root and on a closed network: no sandbox, and none of its background services.
CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


# A busy machine is slow, not wrong: no test asserts the time of one example.
hypothesis.settings.register_profile("askstream", deadline=None)
hypothesis.settings.load_profile("askstream")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests and fixtures run on asyncio alone, as the server does."""
    return "asyncio"


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium or Chrome that starts. Without one a test skips, or fails if a browser is required."""
    path = find_browser()
    if path is None and os.environ.get("TEST_REQUIRE_BROWSER"):
        pytest.fail("TEST_REQUIRE_BROWSER is set, and no Chromium or Chrome starts here", pytrace=False)
    if path is None:
        pytest.skip("no Chromium or Chrome starts here; install one, or name it: TEST_BROWSER=/path")
    return path


@pytest.fixture(scope="session")
def chromium_launch(chromium: str) -> dict[str, object]:
    """Keyword arguments for Playwright's `chromium.launch`; a test that asks for it is marked `browser`."""
    return {"executable_path": chromium, "args": list(CHROMIUM_FLAGS)}
