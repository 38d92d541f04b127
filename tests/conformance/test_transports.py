"""The promises of every transport, checked over all of them and over the one in docs/extending.md."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

from askstream.transports import base
from tests.docs.blocks import modules
from tests.docs.test_extending import PAGE
from tests.e2e.conftest import ServerProcess, started
from tests.e2e.viewers import ask, client_of, watch_sse, watch_ws


async def watch_lines(url: str, run_id: str) -> list[str]:
    async with client_of(url) as client:
        return (await client.get(f"/lines/{run_id}")).text.splitlines()


async def sse(url: str, run_id: str) -> list[str]:
    return await watch_sse(url, run_id, filters={"tokens": True})


async def ws(url: str, run_id: str) -> list[str]:
    return await watch_ws(url, run_id, filters={"tokens": True})


WATCH: dict[str, Callable[[str, str], Awaitable[list[str]]]] = {"sse": sse, "websocket": ws, "lines": watch_lines}


@pytest.fixture(scope="module", params=["true", "false"], ids=["direct", "plain"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with the third transport, which only a setting names, over direct and plain connections."""
    names = '["sse", "websocket", "lines:Lines"]'
    folder = tmp_path_factory.mktemp("data")
    (folder / "lines.py").write_text(modules(PAGE)["lines.py"])
    variables = {"ASKSTREAM_TRANSPORTS": names, "ASKSTREAM_DIRECT": request.param, "PYTHONPATH": str(folder)}
    with started(folder, **variables) as process:
        yield process


@pytest.mark.parametrize("name", WATCH)
async def test_live_and_late_viewers_get_the_log_byte_for_byte(server: ServerProcess, name: str) -> None:
    """Over each transport."""
    run_id = await ask(server.url, "What was revenue in March 2026?")
    live, reference = await asyncio.gather(WATCH[name](server.url, run_id), sse(server.url, run_id))
    assert live == reference
    assert await WATCH[name](server.url, run_id) == reference


def test_every_transport_in_the_table_can_be_loaded() -> None:
    """A row with a wrong name fails here, not at the first operator's."""
    assert len(base.factories(base.TRANSPORTS)) == len(base.TRANSPORTS)
    assert set(base.TRANSPORTS) <= set(WATCH)
    with pytest.raises(ValueError, match="pigeon"):
        base.factories(["pigeon"])
