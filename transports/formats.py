"""How a run's log looks in the body of a response: as an event stream, or as lines; plain, or in HTTP's chunks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from askstream.server.bus import Batch
from askstream.server.journal import Entry
from askstream.transports.base import HEARTBEAT_SECONDS, drain_line, gap_line, lines, retry_spread
from askstream.transports.framing import HEARTBEAT, RETRY_MS, block, chunk, cursor_block, notice_block, retry_block

Encode: TypeAlias = Callable[[str, Batch], bytes]


@dataclass(frozen=True, slots=True)
class Body:
    """`opening` comes first, `heartbeat` into each silence; empty means none."""

    media_type: str
    opening: bytes
    heartbeat: bytes
    encode: Encode


@dataclass(frozen=True, slots=True)
class Chunked:
    """A body as bytes of a connection: the `Form` of viewers whose connection is ours."""

    body: Body
    heartbeat_seconds: float = HEARTBEAT_SECONDS

    @property
    def opening(self) -> bytes:
        return chunk(self.body.opening)

    @property
    def heartbeat(self) -> bytes:
        return chunk(self.body.heartbeat)

    def encode(self, run_id: str, batch: Batch, /) -> bytes:
        return chunk(self.body.encode(run_id, batch))


def _blocks(run_id: str, batch: Batch) -> bytes:
    parts = [
        block(item.id, item.line) if isinstance(item, Entry) else notice_block(gap_line(run_id, item))
        for item in batch.items
    ]
    if batch.hidden:
        parts.append(cursor_block(batch.cursor))
    if batch.drained:
        retry_ms = retry_spread()
        parts += [retry_block(retry_ms), notice_block(drain_line(run_id, retry_ms))]
    return b"".join(parts)


def _lines(run_id: str, batch: Batch) -> bytes:
    return b"".join(line + b"\n" for line in lines(run_id, batch))


EVENT_STREAM = Body("text/event-stream", retry_block(RETRY_MS), HEARTBEAT, _blocks)
LINES = Body("application/x-ndjson", b"", b"", _lines)
