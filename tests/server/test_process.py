"""The server as the command runs it: which connections it accepts itself, and which it leaves to the application."""

from pathlib import Path
from typing import Any, cast

import pytest
from uvicorn.server import ServerState

from askstream.server.app import create_app
from askstream.server.process import config
from askstream.server.settings import Settings
from tests.transports.connections import FakeTransport

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: askstream.v1\r\n\r\n"
)


@pytest.mark.parametrize("direct", [True, False])
async def test_a_websocket_is_accepted_at_once_unless_connections_are_plain(tmp_path: Path, direct: bool) -> None:
    """Its response is written before anything else runs, or else by a task of the application."""
    async with create_app(Settings(data=tmp_path)).open() as app:
        configured, state, line = config(app, direct=direct), ServerState(), FakeTransport()
        configured.load()
        http = cast(Any, configured.http_protocol_class)(config=configured, server_state=state, app_state={})
        http.connection_made(line)
        http.client = ("127.0.0.1", 50000)  # the fake has no address
        http.data_received(UPGRADE)
        assert bool(line.written) == direct
        assert bool(state.tasks) != direct
        for task in state.tasks:
            task.cancel()
        if direct:
            assert b"\r\nSec-WebSocket-Protocol: askstream.v1\r\n" in line.written[0]
            line.lose()
