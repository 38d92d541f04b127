"""The guard, row by row: facts in, a refusal or none out."""

from typing import Any

import pytest

from askstream.server.auth.facts import RequestFacts, facts_of
from askstream.server.auth.guard import Rules, check
from askstream.server.auth.locality import is_local
from askstream.server.auth.origins import LOOPBACK_ORIGINS, Origins, checked_host
from askstream.server.events.errors import HostNotAllowed, OriginNotAllowed, Refused
from askstream.server.proxies import LOOPBACK, networks

NAVIGATION = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
LISTED = ("https://app.example", "https://other.example:8443", "app://local", "null", *LOOPBACK_ORIGINS)
PASSES, HOST, ORIGIN = None, HostNotAllowed, OriginNotAllowed


def facts(headers: dict[str, str], **scope: Any) -> RequestFacts:
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    ends = {"client": ("127.0.0.1", 5), "server": ("127.0.0.1", 8)}
    return facts_of({"path": "/runs", "headers": scope.pop("pairs", pairs), **ends, **scope})


def refusal(
    found: RequestFacts, *, demands_token: bool = False, origins: tuple[str, ...] = LISTED
) -> type[Refused] | None:
    rules = Rules(hosts=frozenset({"ask.example", "box"}), origins=Origins(origins), trusted=networks(LOOPBACK))
    try:
        check(found, rules, is_local=is_local(found), demands_token=demands_token)
    except Refused as refused:
        return type(refused) if "ASKSTREAM_" in str(refused) else None  # each names the setting
    return None


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost:8000", PASSES),
        ("LocalHost.", PASSES),
        ("app.localhost", PASSES),
        ("127.0.0.1:8000", PASSES),
        ("192.0.2.7", PASSES),
        ("[::1]:8000", PASSES),
        ("[2001:db8::5]", PASSES),
        ("ASK.example.:443", PASSES),
        ("box", PASSES),
        ("evil.example", HOST),
        ("evil.example:8000", HOST),
        ("localhost.evil.example", HOST),
        ("notlocalhost", HOST),
        ("127.0.0.1.evil.example", HOST),
        ("127.0.0.1@evil.example", HOST),
        ("localhost, evil.example", HOST),
        ("localhost:8000:8000", HOST),
        ("::1", HOST),
        ("2130706433.evil.example", HOST),
        ("x" * 250 + ".localhost.evil.example", HOST),
        ("x" * 300 + ".localhost", HOST),  # longer than any name
        ("", HOST),
    ],
)
def test_a_host_must_be_this_machine_or_listed_where_no_token_is_demanded(host: str, expected: type[Refused]) -> None:
    """Port, case and a final dot don't matter. A rebound page has no token, so any host may stand beside one."""
    assert refusal(facts({"host": host})) is expected
    assert refusal(facts({"host": host}), demands_token=True) is PASSES


def test_only_http_1_0_may_have_no_host() -> None:
    assert refusal(facts({}, http_version="1.0")) is PASSES
    assert refusal(facts({}, http_version="1.1")) is HOST


def test_two_hosts_are_none() -> None:
    """A proxy and this server might choose different ones."""
    pairs = [(b"host", b"localhost"), (b"host", b"evil.example")]
    assert refusal(facts({}, pairs=pairs[:1])) is PASSES
    assert refusal(facts({}, pairs=pairs)) is HOST
    assert refusal(facts({}, pairs=pairs[::-1])) is HOST


@pytest.mark.parametrize(
    ("origin", "host", "expected"),
    [
        ("http://localhost:8000", "localhost:8000", PASSES),
        ("http://localhost:3000", "localhost:8000", PASSES),  # listed by default, any port
        ("http://localhost", "localhost:8000", PASSES),
        ("http://127.0.0.1:9", "localhost:8000", PASSES),
        ("http://[::1]:9", "localhost:8000", PASSES),
        ("https://ask.example", "ask.example", PASSES),  # our own, behind a proxy that ends TLS
        ("https://ask.example", "ask.example:443", PASSES),
        ("http://ASK.example:80", "ask.example", PASSES),
        ("https://app.example", "localhost", PASSES),
        ("https://other.example:8443", "localhost", PASSES),
        ("app://local", "localhost", PASSES),
        ("https://localhost:3000", "localhost:8000", ORIGIN),  # another scheme than the listed one
        ("https://other.example", "localhost", ORIGIN),
        ("http://app.example", "localhost", ORIGIN),
        ("https://app.example.evil.example", "localhost", ORIGIN),
        ("https://evil.example", "localhost", ORIGIN),
        ("http://box:9", "box:8000", ORIGIN),
        ("http://localhost:3000@evil.example", "localhost", ORIGIN),
        ("http://localhost:", "box", ORIGIN),
        ("https://app.example, https://evil.example", "localhost", ORIGIN),
        ("app://other", "localhost", ORIGIN),
        ("file://", "localhost", ORIGIN),
        ("", "localhost", ORIGIN),
    ],
)
def test_an_origin_must_be_our_own_or_listed(origin: str, host: str, expected: type[Refused]) -> None:
    """For each method, and on a handshake."""
    for method in ("GET", "POST", "DELETE", "OPTIONS"):
        assert refusal(facts({"host": host, "origin": origin}, method=method)) is expected
    assert refusal(facts({"host": host, "origin": origin}), demands_token=True) is expected


def test_null_counts_only_where_a_token_is_demanded() -> None:
    """Any page can be null, by a sandboxed frame."""
    null = facts({"host": "localhost", "origin": "null"})
    assert refusal(null) is ORIGIN
    assert refusal(null, demands_token=True) is PASSES
    assert refusal(null, demands_token=True, origins=LOOPBACK_ORIGINS) is ORIGIN


def test_every_origin_counts_on_this_machine_or_with_a_token() -> None:
    """A proxy that authenticates lets its visitors in with no token of ours: there `*` would be every page."""
    headers = {"host": "localhost", "origin": "https://evil.example"}
    elsewhere = headers | {"x-forwarded-for": "203.0.113.5"}
    assert refusal(facts(headers), origins=("*",)) is PASSES
    assert refusal(facts(elsewhere), origins=("*",)) is ORIGIN
    assert refusal(facts(elsewhere), origins=("*",), demands_token=True) is PASSES


@pytest.mark.parametrize(
    ("client", "expected"), [("127.0.0.1", PASSES), ("203.0.113.5", ORIGIN)], ids=["trusted", "a stranger"]
)
def test_a_forwarded_host_counts_from_a_trusted_proxy_only(client: str, expected: type[Refused]) -> None:
    headers = {"host": "10.0.0.5:8000", "x-forwarded-host": "ask.example", "origin": "https://ask.example"}
    assert refusal(facts(headers, client=(client, 5)), origins=()) is expected


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize(
    ("method", "path", "more", "expected"),
    [
        ("GET", "/runs/1/events", NAVIGATION, PASSES),
        ("GET", "/client", NAVIGATION, PASSES),
        ("GET", "/test-stream", NAVIGATION, ORIGIN),
        ("POST", "/runs", NAVIGATION, ORIGIN),
        ("HEAD", "/client", NAVIGATION, ORIGIN),
        ("GET", "/client", NAVIGATION | {"sec-fetch-dest": "iframe"}, ORIGIN),
        ("GET", "/client", {"sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}, ORIGIN),
        ("GET", "/client", {"sec-fetch-dest": "document"}, ORIGIN),
        ("POST", "/runs/1/cancel", {"sec-fetch-mode": "no-cors", "sec-fetch-dest": "empty"}, ORIGIN),
        ("GET", "/runs", {}, ORIGIN),
    ],
)
def test_another_site_without_an_origin_may_only_open_a_tab(
    site: str, method: str, path: str, more: dict[str, str], expected: type[Refused]
) -> None:
    headers = {"host": "localhost", "sec-fetch-site": site, **more}
    for origins in (LISTED, ("*",)):
        for demands_token in (False, True):
            found = facts(headers, method=method, path=path)
            assert refusal(found, origins=origins, demands_token=demands_token) is expected


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "same-origin", "origin": "https://behind.a.proxy"},
        {"user-agent": "curl/8"},
    ],
)
def test_everything_else_passes(headers: dict[str, str]) -> None:
    """Programs, typed addresses, and a page of our own whose name a proxy has changed."""
    for method in ("GET", "POST", "DELETE"):
        assert refusal(facts({"host": "localhost", **headers}, method=method)) is PASSES


def test_a_same_origin_page_of_a_foreign_name_is_refused_first() -> None:
    """DNS rebinding: the browser calls it the same origin."""
    headers = {"host": "evil.example", "origin": "http://evil.example", "sec-fetch-site": "same-origin"}
    assert refusal(facts(headers)) is HOST


@pytest.mark.parametrize(
    "name", ["a.example", "https://", "https://a/b", "https://*.a.example", "http://a:x", "https://a b"]
)
def test_an_origin_that_can_be_none_is_no_setting(name: str) -> None:
    with pytest.raises(ValueError, match="expected an origin such as"):
        Origins([name])


@pytest.mark.parametrize("name", ["http://a", "a:80", "a/b", "", "a,b"])
def test_a_host_that_can_be_none_is_no_setting(name: str) -> None:
    with pytest.raises(ValueError, match="expected a host such as"):
        checked_host(name)


@pytest.mark.parametrize(
    ("scope", "headers", "expected"),
    [
        ({}, {}, True),
        ({"client": ("127.8.9.1", 5)}, {}, True),
        ({"client": ("::1", 5)}, {}, True),
        ({"client": ("::ffff:127.0.0.1", 5)}, {}, True),
        ({"client": ("testclient", 5)}, {}, True),
        ({"client": ("192.0.2.2", 5)}, {}, False),
        ({"client": ("::ffff:192.0.2.2", 5)}, {}, False),
        ({"client": None}, {}, False),  # a UNIX socket: a proxy's
        ({}, {"x-forwarded-for": "127.0.0.1"}, True),
        ({}, {"x-forwarded-for": "::1, 127.0.0.1"}, True),
        ({}, {"x-forwarded-for": "203.0.113.5"}, False),
        ({}, {"x-forwarded-for": "127.0.0.1, 203.0.113.5"}, False),
        ({}, {"x-forwarded-for": "203.0.113.5, 127.0.0.1"}, False),
        ({}, {"x-forwarded-for": "127.0.0.1:4711"}, True),
        ({}, {"x-forwarded-for": "unknown"}, False),
        ({}, {"x-forwarded-for": ""}, False),
        ({}, {"x-real-ip": "203.0.113.5"}, False),
        ({}, {"x-forwarded-for": ",".join(["127.0.0.1"] * 32)}, True),
        ({}, {"x-forwarded-for": ",".join(["127.0.0.1"] * 33)}, False),
        ({}, {"x-forwarded-for": "127.0.0.1" + " " * 5000}, False),
        ({}, {"forwarded": "for=127.0.0.1;proto=http"}, True),
        ({}, {"forwarded": 'proto=http;For="[::1]:4711", for=127.0.0.1'}, True),
        ({}, {"forwarded": 'for="[2001:db8::1]:4711"'}, False),
        ({}, {"forwarded": "for=127.0.0.1, for=203.0.113.5"}, False),
        ({}, {"forwarded": "for=_hidden"}, False),
        ({}, {"forwarded": "proto=https"}, False),
        ({}, {"x-forwarded-for": "127.0.0.1", "forwarded": "for=203.0.113.5"}, False),
        # Another server has replaced the client by what the client itself claims.
        ({"client": ("127.0.0.1", 0), "server": ("192.0.2.2", 8)}, {"x-forwarded-for": "127.0.0.1"}, False),
        ({"client": ("testclient", 0)}, {"x-forwarded-for": "testclient"}, False),
    ],
)
def test_a_request_is_local_if_all_of_its_addresses_are_loopback(
    scope: dict[str, Any], headers: dict[str, str], expected: bool
) -> None:
    assert is_local(facts(headers, **scope)) is expected


def test_the_path_is_the_one_below_a_prefix() -> None:
    """As in a mount, by a server's own setting, or without any."""
    for root, path in (("/ai", "/ai/test-stream"), ("", "/test-stream"), ("/ai/", "/ai/test-stream")):
        assert facts({}, root_path=root, path=path).path == "/test-stream"
    assert facts({}, root_path="/ai", path="/aitest").path == "/aitest"
