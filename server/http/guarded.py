"""Stands before the application: every request and every WebSocket's handshake passes the gate here.

The middleware is pure ASGI, so that it sees handshakes as well. Our own server asks `admitted` before it accepts a
WebSocket without an ASGI request.
"""

import re
from functools import partial

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from askstream.server.auth import ACCESS, Access, Gate, facts_of
from askstream.server.events.errors import Refused
from askstream.server.problems import refuse

_TICKET = re.compile(rb"(?<=ticket=)[^&]*")


class Guarded:
    """Middleware. The scope that it passes on has the request's `Access`, and no ticket: servers log query strings."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app, self._gate = app, gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        facts = facts_of(scope)
        if b"ticket" in facts.query:  # in the scope itself, which the server logs from, not in a copy
            scope["query_string"] = _TICKET.sub(b"redacted", facts.query)
        answer = partial(_answer, send)
        try:
            scope[ACCESS] = self._gate.decide(facts) or await self._gate.ask_hook(facts)
        except Refused as refusal:
            await refuse(refusal, scope, receive, answer)
            return
        await self._app(scope, receive, answer)


def admitted(gate: Gate, scope: Scope) -> Access | None:
    """Return who asks for a WebSocket; None if the application has to refuse it, or to ask a hook."""
    try:
        return gate.decide(facts_of(scope))
    except Refused:
        return None


async def _answer(send: Send, message: Message) -> None:
    """Send. Keeps responses that say nothing else out of caches, and the types of all from being guessed."""
    if message["type"].endswith("response.start"):
        headers: list[tuple[bytes, bytes]] = [*message["headers"]]
        present = dict(headers)
        if b"cache-control" not in present:
            headers.append((b"cache-control", b"no-store"))
        if b"x-content-type-options" not in present:
            headers.append((b"x-content-type-options", b"nosniff"))
        message = {**message, "headers": headers}
    await send(message)
