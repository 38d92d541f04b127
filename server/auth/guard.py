"""The guard: one function that decides by a request's facts whether a foreign page may have caused it.

It runs for every request and every WebSocket's handshake, before anything is done for it. Browsers send `Origin` and
`Sec-Fetch-Site`, and no page can change them; curl and programs send neither, and pass.

    a  a foreign `Host`, where no token is demanded  421: a name that its owner pointed at this machine (DNS rebinding)
                                                          makes his page same-origin
    b  `Sec-Fetch-Site: same-origin`                 passes
    c  an `Origin`                                   passes if it is our own or listed, else 403
    d  no `Origin`, from another site                passes if a person opened it in a tab, else 403: an `<img>`, a
                                                     frame, a `fetch` with `no-cors`
    e  anything else                                 passes

The failure without a: a page of evil.example is loaded, then the name is pointed at 127.0.0.1. To the browser the page
and this server are one origin: it reads every run, and rules b and c see nothing foreign.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from askstream.server.auth.facts import RequestFacts
from askstream.server.auth.locality import IN_PROCESS
from askstream.server.auth.origins import LONGEST_HOST, Origins, host_and_port, is_known_host, place_of
from askstream.server.events.errors import HostNotAllowed, OriginNotAllowed
from askstream.server.proxies import is_trusted_client

_FOREIGN = (b"cross-site", b"same-site")
# A GET that starts a run: no other site may link to it.
_STARTING = "/test-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """`hosts`: further names of this server, in lower case. `trusted`: the proxies whose `X-Forwarded-Host` counts."""

    hosts: frozenset[str]
    origins: Origins
    trusted: Sequence[IPv4Network | IPv6Network]


def check(facts: RequestFacts, rules: Rules, *, is_local: bool, demands_token: bool) -> None:
    """Raises HostNotAllowed or OriginNotAllowed. `demands_token`: whether this client can do nothing without one."""
    headers = facts.headers
    if not demands_token and not is_known_host(headers.get(b"host", b"")[:LONGEST_HOST], rules.hosts):
        _check_host(facts)
    site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
    if site == b"same-origin":
        return
    if origin is not None:
        _check_origin(origin.decode("latin-1"), facts, rules, is_local=is_local, demands_token=demands_token)
    elif site in _FOREIGN and not _is_opened_by_person(facts):
        raise OriginNotAllowed(
            "A page of another site sent this request without its origin, as an image, a frame or a fetch with no-cors "
            "do. Use fetch, EventSource or WebSocket, and list the origin in ASKSTREAM_CORS_ORIGINS."
        )


def _check_host(facts: RequestFacts) -> None:
    """The host isn't known: only a request without one, as HTTP/1.0 allows, and one of a test may pass."""
    host = facts.header("host")
    if (host is not None or facts.http_version != "1.0") and (facts.client or ("",))[0] != IN_PROCESS:
        raise HostNotAllowed(
            f"This server isn't known as {(host or '')[:100]!r}. List its names in ASKSTREAM_HOSTS, "
            'such as ["ask.example.org"], or use its IP address.'
        )


def _check_origin(origin: str, facts: RequestFacts, rules: Rules, *, is_local: bool, demands_token: bool) -> None:
    if origin == "null":
        allowed = rules.origins.null and demands_token
    else:
        allowed = rules.origins.lists(origin) or _is_own(origin, facts, rules)
    # Without a token, from elsewhere, `*` would give every page what a proxy lets its visitors do.
    if not allowed and not (rules.origins.every and (is_local or demands_token)):
        raise OriginNotAllowed(
            f"Pages of {origin[:100]!r} may not use this server. List the origin in ASKSTREAM_CORS_ORIGINS, "
            'such as ["https://app.example.org"].'
        )


def _is_own(origin: str, facts: RequestFacts, rules: Rules) -> bool:
    place = place_of(origin)
    names = [facts.header("host")]
    if facts.client is not None and is_trusted_client(facts.client, rules.trusted):
        names.append(facts.header("x-forwarded-host"))
    return place is not None and any(name and host_and_port(name) == place for name in names)


def _is_opened_by_person(facts: RequestFacts) -> bool:
    headers = facts.headers
    return (
        facts.method == "GET"
        and headers.get(b"sec-fetch-mode") == b"navigate"
        and headers.get(b"sec-fetch-dest") == b"document"
        and facts.path != _STARTING
    )
