"""The gate: applies the guard to a request, and finds out who asks.

    mode     who needs a token
    auto     all but clients on this machine
    token    everybody, also on this machine: for a proxy that doesn't report its clients
    none     nobody: a proxy authenticates
    hook     everybody; a function of the operator's, or the one for JWTs, knows whom a request is from

A request is known by its ticket, its Bearer token, its cookie, or by the hook, in this order.
"""

import asyncio
import inspect
import logging
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

from askstream.server.auth import guard
from askstream.server.auth.access import ANONYMOUS, Access
from askstream.server.auth.facts import RequestFacts
from askstream.server.auth.guard import Rules
from askstream.server.auth.locality import is_local
from askstream.server.auth.signing import Signer
from askstream.server.auth.tokens import Tokens
from askstream.server.events.errors import AuthUnavailable, Forbidden, Unauthorized
from askstream.server.foreign import Contained

log = logging.getLogger("__main__")

Mode: TypeAlias = Literal["auto", "token", "none", "hook"]
Hook: TypeAlias = Callable[[RequestFacts], Awaitable[Any] | Any]
"""Returns the request's principal, as a name or an Access; None if it has none. May be async."""

# Addresses that need no token: they say nothing about anybody's runs.
PUBLIC = frozenset(
    ("/", "/client", "/login", "/health", "/ready", "/docs", "/openapi.json", "/asyncapi.json", "/schemas/event.json")
)
PUBLIC_FOLDER = "/static/"
# Seconds for a hook to answer.
HOOK_SECONDS = 10.0
COOKIE = "askstream"
_TICKET = re.compile(rb"(?:^|&)ticket=([^&]*)")
# The address of WebSockets: a ticket's holder may only subscribe there.
SOCKET = "/ws"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The operator's choices."""

    mode: Mode
    rules: Rules
    hook: Hook | None = None


class Gate:
    """Every request and every WebSocket's handshake passes it before anything else. `now` is Unix time."""

    def __init__(self, policy: Policy, tokens: Tokens, signer: Signer, *, now: Callable[[], float] = time.time) -> None:
        self._policy, self.tokens, self.signer, self.now = policy, tokens, signer, now
        self._announced: Callable[[], None] = partial(self._announce_token)

    @property
    def mode(self) -> Mode:
        return self._policy.mode

    def decide(self, facts: RequestFacts) -> Access | None:
        """Return who asks; None if only the hook can say. Raises Refused: 421, 403 or 401."""
        local, headers = is_local(facts), facts.headers
        demands_token = self._policy.mode in ("token", "hook") or (self._policy.mode == "auto" and not local)
        guard.check(facts, self._policy.rules, is_local=local, demands_token=demands_token)
        if facts.path in PUBLIC or facts.path.startswith(PUBLIC_FOLDER):
            return ANONYMOUS
        has_credentials = b"authorization" in headers or b"cookie" in headers or b"ticket" in facts.query
        known = self._known(facts) if has_credentials else None
        if known is not None or not demands_token:
            return known or ANONYMOUS
        if self._policy.hook is not None:
            return None
        self._announced()
        raise Unauthorized("Send a token: `Authorization: Bearer …`. The person who runs this server has it.")

    async def ask_hook(self, facts: RequestFacts) -> Access:
        """Return who asks, after `decide` has returned None. Raises Unauthorized, and AuthUnavailable if it fails."""
        hook = self._policy.hook
        found = None if hook is None else await _asked(hook, facts)
        if found is None:
            raise Unauthorized("This server doesn't know whom this request is from.")
        return found

    async def log_in(self, facts: RequestFacts, token: str) -> Access:
        """Return whose token this is. Raises Unauthorized and AuthUnavailable."""
        headers = {**facts.headers, b"authorization": f"Bearer {token}".encode("latin-1", "replace")}
        return self._from_bearer(token) or await self.ask_hook(facts._replace(headers=headers))

    def is_valid(self, access: Access) -> bool:
        """Whether a request with this access would be served now."""
        if access.expires_at is not None and self.now() >= access.expires_at:
            return False
        return not access.key or self.tokens.by_id(access.key) is not None

    def _known(self, facts: RequestFacts) -> Access | None:
        if (ticket := ticket_of(facts.query)) is not None:
            access = self.signer.verified("ticket", ticket, self.now())
            if access is None or access.run_id is None:
                raise Unauthorized("This ticket isn't valid, or no longer; ask for another.")
            _check_ticket_use(facts, access.run_id)
            return access
        if self._policy.mode == "none":
            return None
        if token := bearer_of(facts):
            return self._from_bearer(token)
        cookie = _cookies(facts).get(cookie_name(facts))
        return self.signer.verified("cookie", cookie, self.now()) if cookie else None

    def _from_bearer(self, token: str) -> Access | None:
        """Return whose token this is, None if the hook may know. Raises Unauthorized."""
        key = self.tokens.find(token)
        if key is not None:
            return Access(principal=key.name, admin=key.admin, key=key.id)
        if self._policy.hook is None:
            raise Unauthorized("This token isn't valid, or no longer.")
        return None

    def own_token(self) -> str | None:
        """Return the server's own token, which is made if no other is set up; None if others are. Raises OSError."""
        return self.tokens.make() if not self.tokens.keys() or self.tokens.made.exists() else None

    def _announce_token(self) -> None:
        """Make the server's own token, if none is set up, and log where it is: once."""
        self._announced = lambda: None
        try:
            if self.own_token():
                log.warning("a client on another machine needs a token; there is one in %s", self.tokens.made)
        except OSError as problem:
            log.error("a client needs a token, and %s can't be written: %s", self.tokens.made, problem.strerror)


async def _asked(hook: Hook, facts: RequestFacts) -> Access | None:
    """Return the hook's answer. Raises AuthUnavailable if it fails, or needs too long."""
    try:
        with Contained():
            async with asyncio.timeout(HOOK_SECONDS):
                answer = hook(facts)
                found = await answer if inspect.isawaitable(answer) else answer
        return _checked(found)
    except Exception as problem:
        log.exception("the authentication hook failed")
        raise AuthUnavailable("The server's authentication doesn't work; try again soon.", retry_after=5) from problem


def _checked(found: object) -> Access | None:
    match found:
        case None | Access():
            return found
        case str() if found:
            return Access(principal=found)
        case _:
            raise TypeError(f"expected a principal, as a str or an Access, or None; the hook returned {type(found)!r}")


def _check_ticket_use(facts: RequestFacts, run_id: str) -> None:
    """A ticket shows one run's state and events, and subscribes a socket to it. Raises Forbidden."""
    if facts.method not in ("GET", "HEAD") or facts.path not in (SOCKET, f"/runs/{run_id}", f"/runs/{run_id}/events"):
        raise Forbidden("A ticket shows the state and the events of one run; send a token for anything else.")


def bearer_of(facts: RequestFacts) -> str | None:
    scheme, _, token = (facts.header("authorization") or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def ticket_of(query: bytes) -> str | None:
    """Return the ticket in a query string. It has no character that would be encoded there."""
    found = _TICKET.search(query) if b"ticket" in query else None
    return found[1].decode("latin-1") if found else None


def cookie_name(facts: RequestFacts) -> str:
    """Return the cookie's name. Browsers send a host's cookies to all of its ports, so the port is a part of it."""
    _, _, port = (facts.header("host") or "").rpartition(":")
    return f"{COOKIE}_{port}" if port.isdigit() else COOKIE


def _cookies(facts: RequestFacts) -> dict[str, str]:
    pairs = (facts.header("cookie") or "").replace(",", ";").split(";")
    return {name: value for name, _, value in (pair.strip().partition("=") for pair in pairs)}
