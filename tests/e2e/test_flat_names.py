"""None of our modules is imported under a common name, though in a checkout such an import would succeed."""

from pathlib import Path

from tests.e2e.conftest import ROOT, Start
from tests.e2e.viewers import ask, client_of, watch_sse, watch_ws

FOLDERS = {"agents", "server", "transports", "web"}


async def test_a_server_imports_only_one_package_of_ours(start: Start) -> None:
    """Asked over both transports, with the bundled team, the page, and the descriptions; from the checkout's folder."""
    server = start(ASKSTREAM_TRANSPORTS='["sse", "websocket", "tests.e2e.modules:Modules"]')
    run_id = await ask(server.url, "Generate a monthly business report for our sales performance")
    assert await watch_sse(server.url, run_id) == await watch_ws(server.url, run_id)
    async with client_of(server.url) as client:
        for path in ("/client", "/openapi.json", "/schemas/event.json", "/test-stream", "/runs"):
            assert (await client.get(path)).status_code == 200
        modules: dict[str, str] = (await client.get("/modules")).json()
    ours = {name for name, file in modules.items() if FOLDERS.intersection(_within_the_checkout(file).parts[:1])}
    assert len(ours) > 50
    assert {name.partition(".")[0] for name in ours} <= {"askstream", "__main__", "__mp_main__"}
    assert not FOLDERS.intersection(modules)


def _within_the_checkout(file: str) -> Path:
    """Return the file's path in the checkout, links resolved; the empty path for files outside of it."""
    path = Path(file).resolve()
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else Path()
