"""The prefix that a proxy has stripped: which proxies are trusted, its form, and that a path holds its root."""

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from askstream.server import addresses
from askstream.server.proxies import LOOPBACK, ForwardedPrefix, checked_prefix, networks

TRUSTED = networks(LOOPBACK)


async def seen(scope: dict[str, Any], *, root_path: str = "", prefixes: tuple[str, ...] = ()) -> Scope:
    """Return the scope that an application behind the middleware gets."""
    got: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        got.append(scope)

    headers = [(b"x-forwarded-prefix", prefix.encode("latin-1")) for prefix in prefixes]
    whole = {"type": "http", "path": "/runs", "client": ("127.0.0.1", 50000), "headers": headers, **scope}
    await ForwardedPrefix(app, root_path=root_path, trusted=TRUSTED)(whole, _receive, _send)
    return got[0]


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_a_trusted_proxys_prefix_is_put_back(kind: str) -> None:
    """Into the root, the path and the raw path alike: what follows the root stays the route."""
    scope = await seen({"type": kind, "path": "/runs/ä", "raw_path": b"/runs/%C3%A4"}, prefixes=("/ai/v1/",))
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/ai/v1", "/ai/v1/runs/ä", b"/ai/v1/runs/%C3%A4")
    assert addresses.run(scope, "7") == "/ai/v1/runs/7"


@pytest.mark.parametrize(
    ("client", "counts"),
    [
        (("127.0.0.1", 50000), True),
        (("127.8.8.8", 50000), True),
        (("::1", 50000), True),
        (("::ffff:127.0.0.1", 50000), True),
        (("203.0.113.5", 0), True),  # uvicorn's mark of a client behind a proxy that uvicorn trusts
        (("203.0.113.5", 50000), False),
        (("testclient", 50000), False),
        (None, False),
    ],
)
async def test_only_a_trusted_proxys_prefix_counts(client: tuple[str, int] | None, counts: bool) -> None:
    scope = await seen({"client": client}, prefixes=("/ai",))
    assert scope.get("root_path", "") == ("/ai" if counts else "")
    assert scope["path"] == ("/ai/runs" if counts else "/runs")


@pytest.mark.parametrize(
    "prefixes",
    [("ai",), ("//evil.example",), ("/a b",), ("/a?b",), ("/ä",), ("/a\nb",), ("/",), ("/a", "/b"), ("/%61",)],
)
async def test_a_prefix_that_is_no_path_is_ignored(prefixes: tuple[str, ...]) -> None:
    """Addresses contain it, and must not lead to another host."""
    assert "root_path" not in await seen({}, prefixes=prefixes)


@given(st.text())
async def test_no_prefix_leads_to_another_host(text: str) -> None:
    try:
        checked = checked_prefix(text)
    except ValueError:
        return
    assert checked == "" or (checked[0] == "/" and checked[1] != "/" and checked.isascii())


async def test_an_ignored_prefix_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None: ...

    middleware = ForwardedPrefix(app, root_path="", trusted=TRUSTED)
    scope = {"type": "http", "path": "/", "client": ("::1", 1), "headers": [(b"x-forwarded-prefix", b"no")]}
    with caplog.at_level(logging.DEBUG, "askstream"):
        await middleware(scope, _receive, _send)
        await middleware(scope, _receive, _send)
    assert [record.levelname for record in caplog.records] == ["DEBUG"]


async def test_the_setting_goes_before_the_header() -> None:
    """And counts for every client."""
    scope = await seen({"client": ("203.0.113.5", 1)}, root_path="/set", prefixes=("/header",))
    assert (scope["root_path"], scope["path"]) == ("/set", "/set/runs")


async def test_a_prefix_goes_before_the_path_of_a_mount() -> None:
    scope = await seen({"root_path": "/ai", "app_root_path": "", "path": "/ai/runs"}, prefixes=("/outer",))
    assert (scope["root_path"], scope["path"]) == ("/outer/ai", "/outer/ai/runs")


@pytest.mark.parametrize(
    "server", [{"root_path": "/ai"}, {"root_path": "/ai/sub", "app_root_path": "/ai", "path": "/ai/sub/runs"}]
)
async def test_a_prefix_that_the_server_sets_is_used_once(server: dict[str, Any]) -> None:
    """`uvicorn --root-path /ai` behind a proxy that sends the header as well."""
    scope = await seen(server, root_path="/ai", prefixes=("/ai",))
    assert scope["root_path"] == server["root_path"]


async def _receive() -> Any:
    raise AssertionError("middleware reads nothing")


async def _send(_message: Any) -> None:
    raise AssertionError("middleware sends nothing")
