"""Each setting of docs/proxies.md, in the real proxy: streams stream, sockets open, a dead server is noticed."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from askstream.transports.framing import Decoder
from tests.clients.proxies import PROXIES, behind, program_of
from tests.e2e.conftest import ServerProcess, started
from tests.e2e.viewers import ask, client_of, watch_ws

pytestmark = pytest.mark.long

# The page says so. A version that does better fails the test.
ENDS_CLEANLY = ("caddy",)


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[ServerProcess]:
    with started(tmp_path / "data", "--orchestrator", "tests.embedding.counting:counting") as server:
        yield server


@pytest.fixture(params=PROXIES)
def proxy(request: pytest.FixtureRequest, tmp_path: Path, upstream: ServerProcess) -> Iterator[str]:
    if program_of(request.param) is None:
        pytest.skip(f"{PROXIES[request.param][1]} isn't installed here; Debian has it as a package")
    folder = tmp_path / request.param
    folder.mkdir()
    with behind(request.param, folder, upstream.url) as url:
        yield url


@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
async def test_events_arrive_while_the_run_works(proxy: str, upstream: ServerProcess, accept: str) -> None:
    """One by one: when each arrives, the run is no further than the next."""
    run_id = await ask(proxy, "4 0.5")
    seen: list[int] = []
    async with (
        client_of(upstream.url) as direct,
        client_of(proxy) as client,
        client.stream("GET", f"/runs/{run_id}/events", headers={"Accept": accept}) as answer,
    ):
        async for data in answer.aiter_raw():
            found = [int(part.split(b",")[0]) for part in data.split(b'"id":')[1:]]
            if found and found[-1] < 5:
                now = (await direct.get(f"/runs/{run_id}")).json()["last_id"]
                assert now <= found[-1] + 1
            seen += found
    assert seen == [1, 2, 3, 4, 5, 6]


async def test_a_question_is_streamed(proxy: str) -> None:
    async with client_of(proxy) as client:
        answer = await client.post("/ask-stream", json={"question": "2 0"})
    events = [json.loads(message.data)["event"]["id"] for message in Decoder().feed(answer.content)]
    assert events == [1, 2, 3, 4]


async def test_a_socket_opens(proxy: str) -> None:
    run_id = await ask(proxy, "2 0.1")
    assert len(await watch_ws(proxy, run_id)) == 4


async def test_a_server_that_dies_is_no_end_of_the_stream(
    proxy: str, upstream: ServerProcess, request: pytest.FixtureRequest
) -> None:
    """The client gets an error, and not a stream that looks complete, but for those proxies."""
    run_id = await ask(proxy, "9 0.5")

    async def follow() -> None:
        async with client_of(proxy) as client, client.stream("GET", f"/runs/{run_id}/events") as answer:
            async for data in answer.aiter_raw():
                if b"agent_thinking" in data and upstream.process.poll() is None:
                    upstream.kill()

    if any(f"[{name}]" in request.node.name for name in ENDS_CLEANLY):
        await follow()
        return
    with pytest.raises(httpx2.TransportError):
        await follow()
