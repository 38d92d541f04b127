"""The facts about a request that decide whether it is served."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class RequestFacts(NamedTuple):
    """A request, or a WebSocket's handshake, which is a GET.

    `path` is below the prefix under which the application is served. Names of `headers` are in lower case; the values
    of a repeated one are joined with commas, so that it has no single value. `client` is the other end of the
    connection as the server reports it, None if unknown: host and port. `server` is the address of our end.
    """

    method: str
    path: str
    query: bytes
    scheme: str
    http_version: str
    headers: Mapping[bytes, bytes]
    client: tuple[str, int] | None
    server: str | None

    def header(self, name: str) -> str | None:
        """Return a header's value, None without it."""
        value = self.headers.get(name.lower().encode("latin-1"))
        return None if value is None else value.decode("latin-1").strip()


def facts_of(scope: Mapping[str, Any]) -> RequestFacts:
    """Return the facts in the scope of an ASGI request or WebSocket."""
    client, server = scope.get("client"), scope.get("server")
    root, path = scope.get("root_path", "").rstrip("/"), scope["path"]
    headers = dict(scope["headers"])
    if len(headers) != len(scope["headers"]):
        headers = _joined(scope["headers"])
    return RequestFacts(
        scope.get("method", "GET"),
        path[len(root) :] if root and path.startswith(f"{root}/") else path,
        scope.get("query_string", b""),
        scope.get("scheme", "http"),
        scope.get("http_version", "1.1"),
        headers,
        (client[0], client[1]) if client else None,
        server[0] if server else None,
    )


def _joined(pairs: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    joined: dict[bytes, bytes] = {}
    for name, value in pairs:
        joined[name] = b"%b, %b" % (joined[name], value) if name in joined else value
    return joined
