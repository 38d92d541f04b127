"""A model provider on a loopback port with scripted answers and the faults of real providers.

It writes HTTP byte by byte: clients are tested with bytes that no correct server would send.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

Body = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer. `raw` is sent as the whole body, unchanged."""

    text: Sequence[str] = ()
    calls: Sequence[tuple[str, str]] = ()  # name and arguments
    thoughts: Sequence[str] = ()
    reasoning: str = "reasoning_content"  # the field of the thoughts
    refusal: str | None = None
    finish: str | None = "auto"  # None: the stream ends without a reason
    usage: tuple[int, int] | None = (10, 5)
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    error: Body | None = None
    raw: bytes | None = None
    cut: bool = False  # the connection dies instead of the end
    pause: float = 0.0  # seconds between pieces
    hang: bool = False  # it never ends by itself
    hold: asyncio.Event | None = None  # waits for it before the last piece
    mute: asyncio.Event | None = None  # waits for it before the first byte
    drop: bool = False  # the connection dies before the first byte
    text_error: str | None = None  # an error's whole body


Script = Callable[[Body, int], Reply]
"""From a request and the number of earlier ones to the answer."""


@dataclass(slots=True)
class Provider:
    base_url: str
    requests: list[Body] = field(default_factory=list[Body])
    asked: asyncio.Event = field(default_factory=asyncio.Event)  # there has been a request
    answering: int = 0
    quiet: asyncio.Event = field(default_factory=asyncio.Event)  # no answer is on its way

    @contextmanager
    def busy(self) -> Generator[None]:
        self.answering += 1
        self.quiet.clear()
        try:
            yield
        finally:
            self.answering -= 1
            if not self.answering:
                self.quiet.set()


@asynccontextmanager
async def provider(script: Script | Sequence[Reply], *, port: int = 0) -> AsyncGenerator[Provider]:
    """Serve until the block ends. A sequence is used in order; its last reply is repeated."""

    def answer(body: Body, number: int) -> Reply:
        return script(body, number) if callable(script) else script[min(number, len(script) - 1)]

    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        me = asyncio.current_task()
        assert me is not None
        serving.add(me)
        try:
            while (body := await _request(reader)) is not None:
                number = len(fake.requests)
                fake.requests.append(body)
                fake.asked.set()
                with fake.busy():
                    await _respond(answer(body, number), body, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the other side is gone, or the block ends
        finally:
            serving.discard(me)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    fake = Provider(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
    try:
        yield fake
    finally:
        server.close()
        for connection in serving:
            connection.cancel()
        if serving:
            await asyncio.wait(serving)


async def _request(reader: asyncio.StreamReader) -> Body | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    lines = head.decode().split("\r\n")[1:]
    headers = dict(line.lower().split(": ", 1) for line in lines if line)
    return json.loads(await reader.readexactly(int(headers["content-length"])))


async def _respond(reply: Reply, body: Body, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _before_first_byte(reply, writer)
    if not body.get("stream") and reply.status == 200:
        if reply.hang:
            await _left(reader)
        _respond_whole(reply, str(body["model"]), writer)
        return
    if reply.status != 200:
        text = json.dumps({"error": reply.error or {"message": "sk-secret no"}}).encode()
        if reply.text_error is not None:
            text = reply.text_error.encode()
        _head(writer, reply, "application/json", [f"Content-Length: {len(text)}"])
        writer.write(text)
        return
    _head(writer, reply, "text/event-stream", ["Transfer-Encoding: chunked"])
    for piece in [reply.raw] if reply.raw is not None else _pieces(reply):
        if reply.hold is not None and piece == _DONE:
            await reply.hold.wait()
        _chunk(writer, piece)
        await writer.drain()
        await asyncio.sleep(reply.pause)
    if reply.hang:
        await _left(reader)
    if reply.cut:
        writer.transport.abort()
        raise ConnectionResetError
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def _before_first_byte(reply: Reply, writer: asyncio.StreamWriter) -> None:
    if reply.drop:
        writer.transport.abort()
        raise ConnectionResetError
    if reply.mute is not None:
        await reply.mute.wait()


async def _left(reader: asyncio.StreamReader) -> None:
    """Return never: the client leaves, or the block ends."""
    await reader.read()
    raise ConnectionResetError


def _respond_whole(reply: Reply, model: str, writer: asyncio.StreamWriter) -> None:
    """Answer a client that doesn't stream. It gets the same answer, without faults."""
    calls = [
        {"id": f"call-{i}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for i, (name, arguments) in enumerate(reply.calls)
    ]
    message = {"role": "assistant", "content": "".join(reply.text) or None, "tool_calls": calls or None}
    finish = reply.finish if reply.finish != "auto" else "tool_calls" if calls else "stop"
    choice = {"index": 0, "message": message, "finish_reason": finish}
    usage = None
    if reply.usage is not None:
        prompt, completion = reply.usage
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    body = {"id": "c", "object": "chat.completion", "created": 0, "model": model, "choices": [choice], "usage": usage}
    text = json.dumps(body).encode()
    _head(writer, reply, "application/json", [f"Content-Length: {len(text)}"])
    writer.write(text)


def _head(writer: asyncio.StreamWriter, reply: Reply, kind: str, more: list[str]) -> None:
    given = [f"{name}: {value}" for name, value in reply.headers.items()]
    lines = [f"HTTP/1.1 {reply.status} Whatever", f"Content-Type: {kind}", *more, *given]
    writer.write("\r\n".join([*lines, "", ""]).encode())


def _chunk(writer: asyncio.StreamWriter, piece: bytes) -> None:
    if piece:
        writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")


_DONE = b"data: [DONE]\n\n"


def _pieces(reply: Reply) -> list[bytes]:
    deltas: list[Body] = [{reply.reasoning: thought, "content": None} for thought in reply.thoughts]
    deltas += [{"content": text} for text in reply.text]
    deltas += [
        {"tool_calls": [{"index": i, "id": f"call-{i}", "function": {"name": name, "arguments": arguments}}]}
        for i, (name, arguments) in enumerate(reply.calls)
    ]
    if reply.refusal is not None:
        deltas.append({"refusal": reply.refusal})
    chunks = [_event([{"index": 0, "delta": delta, "finish_reason": None}]) for delta in deltas]
    if reply.cut or reply.finish is None or reply.hang:
        return chunks
    finish = reply.finish if reply.finish != "auto" else "tool_calls" if reply.calls else "stop"
    chunks.append(_event([{"index": 0, "delta": {}, "finish_reason": finish}]))
    if reply.usage is not None:
        chunks.append(_event([], usage=reply.usage))
    return [*chunks, _DONE]


def _event(choices: list[Body], *, usage: tuple[int, int] | None = None) -> bytes:
    body: Body = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "fake", "choices": choices}
    if usage is not None:
        prompt, completion = usage
        total = prompt + completion
        body["usage"] = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}
    return b"data: " + json.dumps(body).encode() + b"\n\n"
