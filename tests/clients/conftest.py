"""The ways to a server, as prefixes of its address: direct, plain, and below a mount in another application."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.e2e.conftest import started
from tests.embedding.conftest import ROOT, Server

# A client that reconnects does so at once.
BRISK = {"ASKSTREAM_RETRY_SECONDS": "0.001"}


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Servers whose team counts as far as it is asked, `"3 0"`: three events between `started` and `completed`."""
    counting = ("--orchestrator", "tests.embedding.counting:counting")
    with ExitStack() as stack:
        urls = {
            name: stack.enter_context(
                started(tmp_path_factory.mktemp(name), *counting, ASKSTREAM_DIRECT=direct, **BRISK)
            ).url
            for name, direct in (("direct", "true"), ("plain", "false"))
        }
        folder = tmp_path_factory.mktemp("mounted")
        host = Server("uvicorn", "tests.embedding.hosts:mounted", folder, cwd=ROOT, **BRISK)
        stack.callback(host.release)
        yield {**urls, "mounted": f"{host.url}/ai"}


@pytest.fixture(params=["direct", "plain", "mounted"])
def way(request: pytest.FixtureRequest, ways: dict[str, str]) -> str:
    return ways[request.param]


@pytest.fixture(params=["direct", "plain"])
def own_way(request: pytest.FixtureRequest, ways: dict[str, str]) -> str:
    """Under our own server: rules that only it can keep."""
    return ways[request.param]
