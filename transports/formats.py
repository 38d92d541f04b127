"""The wire formats of a batch: Server-Sent Events, lines of JSON, WebSocket messages.

A format makes messages; the connection frames them. A `FramedFormat` is both together. Viewers with equal encodings
share a broadcast: each batch is encoded once for all of them.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

from askstream.server.bus import Batch
from askstream.server.connections import Framer
from askstream.server.events import Drain, Gap, Notice, NoticeBody, encode_notice
from askstream.server.journal import Entry
from askstream.transports.framing import HEARTBEAT, block, cursor_block, notice_block, retry_block

# PROTOCOL.md, promise 8: the time over which a draining server spreads its viewers' reconnects.
SPREAD_MS = 10_000

Encode: TypeAlias = Callable[[str, Batch], Sequence[bytes]]


@dataclass(frozen=True, slots=True)
class WireFormat:
    """`preamble` comes first, `heartbeat` into each silence; empty means none."""

    media_type: str
    preamble: bytes
    heartbeat: bytes
    encode: Encode


@dataclass(frozen=True, slots=True)
class FramedFormat:
    """A format, framed for one kind of connection. It breaks silences of `heartbeat_seconds`, unless they are 0."""

    format: WireFormat
    frame: Framer
    heartbeat_seconds: float

    @property
    def heartbeat(self) -> Any:
        return self.frame([self.format.heartbeat])

    def encode(self, run_id: str, batch: Batch, /) -> Any:
        return self.frame(self.format.encode(run_id, batch))


def _blocks(run_id: str, batch: Batch) -> Sequence[bytes]:
    blocks: list[bytes] = []
    for item in batch.items:
        if isinstance(item, Entry):
            blocks.append(block(item.id, item.line))
        else:
            blocks.append(notice_block(_gap_line(run_id, item)))
    if batch.hidden:
        blocks.append(cursor_block(batch.cursor))
    if batch.drained:
        retry_ms = _retry_spread()
        blocks += [retry_block(retry_ms), notice_block(_drain_line(run_id, retry_ms))]
    return blocks


def _lines(run_id: str, batch: Batch) -> Sequence[bytes]:
    return [line + b"\n" for line in _texts(run_id, batch)]


def _texts(run_id: str, batch: Batch) -> Sequence[bytes]:
    texts = [item.line if isinstance(item, Entry) else _gap_line(run_id, item) for item in batch.items]
    if batch.drained:
        texts.append(_drain_line(run_id, _retry_spread()))
    return texts


def _gap_line(run_id: str, gap: Gap) -> bytes:
    """Return the notice for events that a viewer asked for and that the journal no longer has."""
    return _notice(run_id, f"Events {gap.from_} to {gap.to} are no longer kept.", gap)


def _drain_line(run_id: str, retry_ms: int) -> bytes:
    """Return the notice that this server is going away."""
    return _notice(run_id, "This server is going away; the run goes on. Reconnect.", Drain(retry_ms=retry_ms))


def _notice(run_id: str, message: str, body: NoticeBody) -> bytes:
    return encode_notice(Notice(run_id, datetime.now(UTC), message, body))


def _retry_spread() -> int:
    """Return the milliseconds after which one viewer should reconnect: random, so that not all come at once."""
    return random.randrange(SPREAD_MS)  # noqa: S311 - no secret: it only spreads


def sse(retry_seconds: float) -> WireFormat:
    """`retry_seconds`: after how long a client reconnects."""
    return WireFormat("text/event-stream; charset=utf-8", retry_block(round(retry_seconds * 1000)), HEARTBEAT, _blocks)


NDJSON = WireFormat("application/x-ndjson", b"", b"", _lines)
# The socket breaks silences itself: it may watch several runs, and any of them ends the silence.
WS_TEXT = WireFormat("", b"", b"", _texts)
