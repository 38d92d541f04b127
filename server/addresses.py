"""Builds the addresses that answers name: the one place that knows under which prefix the application is served.

ASGI's `root_path` is that prefix: the path of a mount, what `--root-path` says, or what a trusted proxy has stripped.
"""

from urllib.parse import quote

from starlette.types import Scope


def root(scope: Scope) -> str:
    """Return the prefix, '' if there is none. It has no slash at its end."""
    prefix: str = scope.get("root_path", "")
    return prefix.rstrip("/")


def at(scope: Scope, path: str) -> str:
    """Return the address of one of the application's paths, which begins with a slash."""
    return root(scope) + path


def run(scope: Scope, run_id: str) -> str:
    """Return the address of a run's resource."""
    return f"{root(scope)}/runs/{run_id}"


def runs(scope: Scope, *, limit: int, before: str, everyone: bool = False) -> str:
    """Return the address of the page of runs after the mark `before`."""
    return at(scope, f"/runs?limit={limit}&before={before}{'&everyone=true' if everyone else ''}")


def session(scope: Scope, session_id: str, *, limit: int, before: str) -> str:
    """Return the address of the page of a session's runs before the mark `before`."""
    return at(scope, f"/sessions/{quote(session_id, safe='')}?limit={limit}&before={before}")
