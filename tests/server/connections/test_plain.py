"""Plain connections by themselves: a server's `send` and `receive` are played here."""

import asyncio
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from starlette.types import Message

from askstream.server.auth import ACCESS, ANONYMOUS
from askstream.server.connections import SocketRoute
from askstream.server.connections.plain import HIGH_WATER, PlainSocket, PlainStream

TEXT = b"x" * 1000
# Only these modules' calls count, not the event loop's own for a message.
_COUNTED = ("askstream.", "starlette.", __name__)


class Handler:
    def __init__(self) -> None:
        self.connection: Any = None
        self.pauses = 0

    def opened(self, connection: Any, /) -> None:
        self.connection = connection

    def paused(self) -> None:
        self.pauses += 1

    def received(self, text: str | bytes) -> None: ...

    def control(self) -> None: ...

    def stalled(self) -> None: ...

    def lost(self) -> None: ...


class Client:
    """Reads nothing while `reads` isn't set."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.reads = asyncio.Event()
        self.reads.set()

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        await self.reads.wait()

    async def receive(self) -> Message:
        await asyncio.Event().wait()
        raise AssertionError("an event that nobody sets was set")


def _stream(handler: Handler) -> PlainStream:
    return PlainStream(handler, abort=None, probe=b"", send_seconds=15)


def _socket(handler: Handler) -> PlainSocket:
    return PlainSocket(handler, abort=None, send_seconds=15)


@pytest.mark.parametrize("make", [_stream, _socket])
async def test_more_than_a_buffer_full_pauses_the_handler_until_it_is_sent(
    make: Callable[[Handler], PlainStream | PlainSocket],
) -> None:
    handler, client = Handler(), Client()
    client.reads.clear()
    connection: Any = make(handler)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        serving = group.create_task(connection.serve(client.receive, client.send))
        connection.write(connection.frame([TEXT]))
        while not client.sent:  # noqa: ASYNC110
            await asyncio.sleep(0)
        fitting = HIGH_WATER // len(TEXT)
        for _ in range(fitting):  # behind the one that is on its way
            connection.write(connection.frame([TEXT]))
        assert (handler.pauses, connection.is_paused) == (0, False)
        connection.write(connection.frame([TEXT]))
        assert (handler.pauses, connection.is_paused) == (1, True)
        client.reads.set()
        await connection.writable()
        assert not connection.is_paused
        carried = sum(len(message.get("text") or message.get("body") or "") for message in client.sent)
        assert carried == (fitting + 2) * len(TEXT)
        serving.cancel()


async def test_a_streams_pieces_that_wait_leave_in_one_message() -> None:
    handler, client = Handler(), Client()
    connection = _stream(handler)
    for text in (b"a", b"b", b"c"):
        connection.write(connection.frame([text]))
    connection.finish()
    await connection.serve(client.receive, client.send)
    assert [message["body"] for message in client.sent] == [b"abc", b""]


async def test_a_sockets_texts_are_messages_of_their_own() -> None:
    handler, client = Handler(), Client()
    connection = _socket(handler)
    connection.write(connection.frame([b"a", b"b"]))
    connection.write(connection.frame([b"c"]))
    connection.close(1000, "")
    await connection.serve(client.receive, client.send)
    assert [message.get("text") for message in client.sent] == ["a", "b", "c", None]


async def test_a_message_to_a_caught_up_client_needs_four_calls() -> None:
    """`write`, the task that sends, the message, and the server's own `send`: Starlette puts nothing between them."""
    handler, client, calls = Handler(), Client(), list[str]()
    opening = [{"type": "websocket.connect"}]

    async def receive() -> Message:
        return opening.pop() if opening else await client.receive()

    def count(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and frame.f_globals["__name__"].startswith(_COUNTED):
            calls.append(frame.f_code.co_name)

    route = SocketRoute("/", lambda _: handler, subprotocol="b", send_seconds=15)
    scope: dict[str, Any] = {"type": "websocket", "path": "/", "headers": [], "subprotocols": [], ACCESS: ANONYMOUS}
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        serving = group.create_task(route.handle(scope, receive, client.send))
        while handler.connection is None:  # noqa: ASYNC110
            await asyncio.sleep(0)
        connection, write = handler.connection, handler.connection.write
        write(connection.frame([b"first"]))  # its first message also starts the watch for a stalled client
        while len(client.sent) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
        data = connection.frame([b"second"])
        sys.setprofile(count)
        write(data)
        await asyncio.sleep(0)  # the task that sends is scheduled before this one
        sys.setprofile(None)
        assert client.sent[-1] == {"type": "websocket.send", "text": "second"}
        serving.cancel()
    assert calls[:-1] == ["write", "_pump", "_message", "send"]  # the last one resumes this test
