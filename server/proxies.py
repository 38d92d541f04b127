"""Proxies in front of the server: which are trusted, and the path prefix that one of them has stripped.

A request's scheme and client come from the `X-Forwarded-*` headers of a trusted proxy, under any server. So
does the prefix under which clients see it.
"""

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from starlette.types import ASGIApp, Receive, Scope, Send

log = logging.getLogger(__name__)

Networks: TypeAlias = Sequence[IPv4Network | IPv6Network]

LOOPBACK = ("127.0.0.0/8", "::1")
_PREFIX = re.compile(r"(/[\w.~-]+)+", re.ASCII)
_HEADER = b"x-forwarded-prefix"


def networks(names: Iterable[str]) -> Networks:
    """Return the networks of addresses, or of networks such as 10.0.0.0/8. Raises ValueError for anything else."""
    return tuple(ip_network(name, strict=False) for name in names)


def checked_prefix(prefix: str) -> str:
    """Return the prefix without a slash at its end, '' for none. Raises ValueError if a proxy could not send it."""
    stripped = prefix.rstrip("/")
    if stripped and not _PREFIX.fullmatch(stripped):
        raise ValueError(f"expected a path such as /ai, of letters, digits and . ~ _ -, got {prefix!r}")
    return stripped


class ForwardedPrefix:
    """Middleware for HTTP and WebSocket: puts a prefix that a proxy has stripped back into `root_path` and `path`.

    The prefix is `root_path`, or else the header `X-Forwarded-Prefix` of a trusted proxy. Neither counts if the
    server or a host application sets `root_path` for all of its requests: that is the same prefix.
    """

    def __init__(self, app: ASGIApp, *, root_path: str, trusted: Networks) -> None:
        self._app, self._root_path, self._trusted = app, root_path, trusted
        self._ignored: Callable[[], None] = partial(self._log_ignored)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        prefix = self._root_path or (self._forwarded(scope) if _HEADER in dict(scope["headers"]) else "")
        await self._app(_under(prefix, scope) if prefix and not _outer_root(scope) else scope, receive, send)

    def _forwarded(self, scope: Scope) -> str:
        values = [value.decode("latin-1").strip() for name, value in scope["headers"] if name == _HEADER]
        if not values or not is_trusted(scope, self._trusted):
            return ""
        prefix = values[0].rstrip("/") if len(values) == 1 else ""
        if _PREFIX.fullmatch(prefix):
            return prefix
        self._ignored()
        return ""

    def _log_ignored(self) -> None:
        self._ignored = lambda: None
        log.debug("a proxy sends an X-Forwarded-Prefix that is no path such as /ai; it is ignored")


def is_trusted(scope: Scope, trusted: Networks) -> bool:
    """Whether the other end of the connection is a trusted proxy.

    uvicorn replaces a proxy's address by that of its client, with port 0, which no connection has. It does so only for
    proxies that it trusts, so they are trusted here.
    """
    return is_trusted_client(scope.get("client") or ("", -1), trusted)


def is_trusted_client(client: tuple[str, int], trusted: Networks) -> bool:
    """The same for the host and port of a connection's other end."""
    host, port = client
    if port == 0:
        return True
    try:
        address = ip_address(host)
    except ValueError:  # a UNIX socket, or a test's client
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in network for network in trusted)


def _outer_root(scope: Scope) -> str:
    """Return the root path before any mount of Starlette's."""
    return scope.get("app_root_path", scope.get("root_path", ""))


def _under(prefix: str, scope: Scope) -> Scope:
    """Return the scope as if no proxy had stripped the prefix: a path holds its root path, as in ASGI."""
    root, path = scope.get("root_path", "").rstrip("/"), scope["path"]
    raw = scope.get("raw_path")
    changed = {"root_path": prefix + root, "path": prefix + path}
    return {**scope, **changed, **({"raw_path": prefix.encode() + raw} if raw is not None else {})}
