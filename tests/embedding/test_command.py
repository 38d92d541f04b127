"""`askstream serve` behind a proxy that strips a prefix: its addresses, and its direct connections."""

import json
from collections.abc import Iterator

import httpx2
import pytest

from tests.e2e.conftest import ServerProcess, started
from tests.e2e.viewers import client_of, say, socket

FORWARDED = {"X-Forwarded-Prefix": "/out/side", "X-Forwarded-For": "203.0.113.5", "X-Forwarded-Proto": "https"}


@pytest.fixture(scope="module", params=["by option", "by header", "by a stranger"])
def way(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ServerProcess, dict[str, str], str]]:
    """A server, the headers of its proxy, and the prefix that clients see."""
    trusted = '["10.0.0.0/8"]' if request.param == "by a stranger" else '["127.0.0.1"]'
    options, headers, prefix = {
        "by option": (["--root-path", "/ask"], dict[str, str](), "/ask"),
        "by header": (list[str](), FORWARDED, "/out/side"),
        "by a stranger": (list[str](), FORWARDED, ""),
    }[request.param]
    open_to_all = {"ASKSTREAM_AUTH": "none"}  # the forwarded client is on another machine
    with started(tmp_path_factory.mktemp("data"), *options, ASKSTREAM_TRUSTED_PROXIES=trusted, **open_to_all) as server:
        yield server, headers, prefix


async def test_its_addresses_have_the_prefix(way: tuple[ServerProcess, dict[str, str], str]) -> None:
    """Also in the head of a stream that is written directly, and in redirects, which keep the client's scheme."""
    server, headers, prefix = way
    async with client_of(server.url) as client:
        client.headers.update(headers)
        landing = (await client.get("/")).json()
        assert (landing["docs"], landing["client"]) == (f"{prefix}/openapi.json", f"{prefix}/client")
        async with client.stream("GET", "/test-stream") as stream:
            assert stream.headers["location"] == f"{prefix}/runs/{stream.headers['x-run-id']}"
            assert [json.loads(line[6:]) async for line in stream.aiter_lines() if line.startswith("data: ")]
        sent = await client.get("/client/", follow_redirects=False)
        assert httpx2.URL(sent.headers["location"]).path == f"{prefix}/client"
        assert httpx2.URL(sent.headers["location"]).scheme == ("https" if headers and prefix else "http")


async def test_its_sockets_open(way: tuple[ServerProcess, dict[str, str], str]) -> None:
    """At the stripped path, as the proxy passes it on."""
    server, headers, _ = way
    async with socket(server.url, additional_headers=headers) as ws:
        assert (await say(ws, type="ping"))["ok"]


def test_a_prefix_that_can_be_none_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    with (
        pytest.raises(RuntimeError, match="root_path: Value error, expected a path such as /ai"),
        started(tmp_path_factory.mktemp("data"), "--root-path", "http://x"),
    ):
        pass
    with (
        pytest.raises(RuntimeError, match="trusted_proxies"),
        started(tmp_path_factory.mktemp("data"), ASKSTREAM_TRUSTED_PROXIES='["proxy"]'),
    ):
        pass
