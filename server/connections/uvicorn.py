"""uvicorn's protocols, which also offer their connection to the application, as an ASGI extension.

ASGI has a task wait for each message, and no word for "cut this connection now". For thousands of viewers of one run
those tasks are what costs most, in time and in memory. So under this server an application may `take` a connection,
write to it itself, and return; and a WebSocket need not begin as a request at all: it may be made `welcome`. Under
another server there is neither; ASGI's own way always works.

Whoever changes bodies on their way (compression, say) must take the extension out of the scope.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State
from websockets.server import ServerProtocol

from askstream.server.connections.direct import Hearer, Owner, Rest, Socket
from askstream.server.connections.handshake import Handshake, recognise

EXTENSION = "askstream.connection"


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A client that may have a WebSocket, and offers these subprotocols. `accept` it at once, with one of them."""

    subprotocols: Sequence[str]
    accept: Callable[[Hearer, str | None], Socket]


Welcome: TypeAlias = Callable[[Upgrade], None]


class Http(HttpToolsProtocol):
    """HTTP/1.1 on httptools. `welcomes` take WebSockets in, by path: those that ask for one as nearly all clients do.

    To others, and at other paths, uvicorn and the application talk as ASGI wants it.
    """

    def __init__(self, *args: Any, welcomes: Mapping[bytes, Welcome] | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._welcomes = welcomes or {}

    def on_message_begin(self) -> None:
        super().on_message_begin()
        _offer(cast(Any, self.scope), abort=self.transport.abort, take=self.take)

    def take(self, owner: Owner) -> Rest | None:
        """The rest of the present response, in chunks. None where it hasn't begun, has no chunks or won't be the last
        on its connection, and where the client has more to say."""
        cycle = self.cycle
        if not cycle.response_started or cycle.response_complete or cycle.disconnected or not cycle.chunked_encoding:
            return None
        if cycle.keep_alive or cycle.more_body or self.pipeline:
            return None
        self.connections.discard(self)
        rest = Rest(self.transport, owner, cast(Any, self.connections), is_paused=self.flow.write_paused)
        self.flow.resume_reading()
        cycle.disconnected = True  # lets the application return without having completed its response
        _forget(self, "parser", "scope", "cycle")
        return rest

    def handle_websocket_upgrade(self) -> None:
        welcome = self._welcomes.get(self.url.partition(b"?")[0])
        handshake = recognise(self.headers) if welcome is not None and self._may_upgrade() else None
        if welcome is None or handshake is None:
            super().handle_websocket_upgrade()
        else:
            welcome(Upgrade(handshake.subprotocols, partial(self._accept, handshake)))

    def _may_upgrade(self) -> bool:
        """Whether this is a `GET` in HTTP/1.1, and none before it waits for its answer."""
        return (
            self.scope["method"] == "GET"
            and self.scope["http_version"] == "1.1"
            and (not self.cycle or self.cycle.response_complete)
        )

    def _accept(self, handshake: Handshake, hearer: Hearer, subprotocol: str | None) -> Socket:
        self.connections.discard(self)
        self.transport.write(handshake.answer(subprotocol))
        core = ServerProtocol(state=State.OPEN, max_size=self.config.ws_max_size, logger=self.logger)
        connections = cast(Any, self.connections)
        socket = Socket(self.transport, hearer, connections, core, is_paused=self.flow.write_paused)
        _forget(self, "parser", "scope", "cycle")
        return socket


class WebSocket(WebSocketsSansIOProtocol):
    """WebSocket on websockets' sans-IO core."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.transport.write(b"".join(self.conn.data_to_send()))  # uvicorn would leave it waiting for an answer
            self.transport.close()

    async def run_asgi(self) -> None:
        _offer(cast(Any, self.scope), abort=self.transport.abort)
        await super().run_asgi()


def _offer(scope: dict[str, Any], **possible: Callable[..., object]) -> None:
    scope["extensions"] = {**scope.get("extensions", {}), EXTENSION: possible}


def _forget(protocol: object, *parts: str) -> None:
    """Without circles between the parts of a request that nobody needs any more, they are gone at once."""
    for part in parts:
        setattr(protocol, part, None)
