"""The hosts that requests may name, and the origins whose pages may use this server."""

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import ip_address

EVERY_ORIGIN = "*"
LOOPBACK_ORIGINS = ("http://localhost:*", "http://127.0.0.1:*", "http://[::1]:*")

_AUTHORITY = r"\[[\da-f:.]+\]|[^\s/:@?#\[\],*]+"
_HOST = re.compile(rf"({_AUTHORITY})(?::(\d{{0,5}}))?", re.IGNORECASE)
_ORIGIN = re.compile(rf"([a-z][a-z\d+.-]*)://({_AUTHORITY})(?::(\d{{1,5}}|\*))?", re.IGNORECASE)
# More characters than a DNS name, a colon and a port have. A longer header is cut to these, and is none.
LONGEST_HOST = 260
_DEFAULT_PORTS = ("", "80", "443")


def host_and_port(text: str) -> tuple[str, str] | None:
    """Return host and port of a `Host` header, None if it is none: in lower case, no final dot, no default port."""
    found = _HOST.fullmatch(text.strip())
    if found is None:
        return None
    port = found[2] or ""
    return found[1].lower().removesuffix("."), "" if port in _DEFAULT_PORTS else port


def place_of(origin: str) -> tuple[str, str] | None:
    """Return host and port of an origin, whatever its scheme; None for `null` and anything else."""
    _, separator, rest = origin.partition("://")
    return host_and_port(rest) if separator else None


@lru_cache(maxsize=256)
def is_known_host(header: bytes, names: frozenset[str]) -> bool:
    """Whether no foreign name can have led here: it is listed, an IP address, or a name that means this machine."""
    place = host_and_port(header.decode("latin-1")) if len(header) < LONGEST_HOST else None
    if place is None:
        return False
    host = place[0]
    return host in names or host == "localhost" or host.endswith(".localhost") or _is_address(host)


def _is_address(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def checked_host(name: str) -> str:
    """Return a host's name in lower case. Raises ValueError for one with a scheme, a path or a port."""
    if not re.fullmatch(_AUTHORITY, name, re.IGNORECASE):
        raise ValueError(f"expected a host such as ask.example.org, without scheme and port, got {name!r}")
    return name.lower().removesuffix(".")


class Origins:
    """Listed origins: `https://a.example`, `http://localhost:*` for every port, `null`, or `*` for all.

    `pattern` is a regular expression for what is listed, for a CORS middleware. Raises ValueError for anything else.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.every = EVERY_ORIGIN in names
        self.null = "null" in names
        self.pattern = "|".join(_pattern(name) for name in names if name != EVERY_ORIGIN) or r"(?!)"
        self._match = re.compile(self.pattern, re.IGNORECASE).fullmatch

    def lists(self, origin: str) -> bool:
        """Whether it is listed by itself, not by `*`."""
        return self._match(origin) is not None


def _pattern(name: str) -> str:
    if name == "null":
        return "null"
    found = _ORIGIN.fullmatch(name.rstrip("/"))
    if found is None:
        raise ValueError(f"expected an origin such as https://a.example or http://localhost:*, got {name!r}")
    scheme, host, port = found.groups()
    place = re.escape(f"{scheme}://{host}")
    return rf"{place}(?::\d+)?" if port == "*" else place + (re.escape(f":{port}") if port else "")
