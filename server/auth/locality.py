"""Whether a request comes from this machine."""

import re
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import ip_address

from askstream.server.auth.facts import RequestFacts

# The client of Starlette's TestClient, which calls an application without a network. No server reports this address.
IN_PROCESS = "testclient"
_FORWARDED = b"forwarded"
_HEADERS = frozenset((b"x-forwarded-for", b"x-real-ip", _FORWARDED))
# More proxies than any network has in a row, with all that each may add.
MOST_PROXIES, MOST_CHARACTERS = 32, 4096
LONGEST_ADDRESS = 64
_FOR = re.compile(r'\bfor\s*=\s*("[^"]*"|[^;,\s]*)', re.IGNORECASE)
_WITH_PORT = re.compile(r"\[([^\]]*)\](?::\d+)?|([^:]*):\d+")


def is_local(facts: RequestFacts) -> bool:
    """Whether both ends of the connection, and all addresses that proxies have forwarded, are loopback.

    Other servers replace the client's address by a forwarded one, which a client may have made up. Then only our own
    end still shows where the connection comes from: a loopback address isn't reachable from elsewhere.
    """
    client = facts.client[0] if facts.client else ""
    if _HEADERS.isdisjoint(facts.headers):
        return is_loopback(client) or client == IN_PROCESS
    return all(is_loopback(address) for address in (client, facts.server or "", *_forwarded(facts)))


def _forwarded(facts: RequestFacts) -> Iterator[str]:
    """Yield each forwarded address; '' for one that can't be read."""
    for name in _HEADERS.intersection(facts.headers):
        value = facts.headers[name]
        if value.count(b",") >= MOST_PROXIES or len(value) > MOST_CHARACTERS:
            yield ""
        else:
            address_of = _for if name == _FORWARDED else _without_port
            yield from map(address_of, value.decode("latin-1").split(","))


def _for(element: str) -> str:
    """Return the client's address in an element of `Forwarded`."""
    found = _FOR.search(element)
    return _without_port(found[1].strip('"')) if found else ""


def _without_port(text: str) -> str:
    """Return the address of `192.0.2.1:80`, `[::1]:80` or `[::1]`; anything else as it is."""
    found = _WITH_PORT.fullmatch(text.strip())
    address = (found[1] or found[2] or "") if found else text.strip()
    return address if len(address) <= LONGEST_ADDRESS else ""


@lru_cache(maxsize=1024)
def is_loopback(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:  # a UNIX socket, `unknown`, or nothing
        return host == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
