"""What a run has come to so far: the part of its record that moves with every event."""

from dataclasses import fields
from functools import partial

from server.events import AgentResponse, Body, Completed
from server.journal import RunRecord

_COUNTED = ("state", "progress", "last_id", "prompt_tokens", "completion_tokens", "log_events", "log_bytes")
_MOVING = (*_COUNTED, "ended_at", "digest")


class Tally:
    """Counts event by event, and is made into a record only when one is written: that costs more than counting."""

    __slots__ = (*_MOVING, "_record")

    def __init__(self, record: RunRecord) -> None:
        self.state, self.progress, self.last_id = record.state, record.progress, record.last_id
        self.prompt_tokens, self.completion_tokens = record.prompt_tokens, record.completion_tokens
        self.log_events, self.log_bytes = record.log_events, record.log_bytes
        self.ended_at, self.digest = record.ended_at, record.digest
        fixed = {f.name: getattr(record, f.name) for f in fields(record) if f.name not in _MOVING}
        self._record = partial(RunRecord, **fixed)

    def count(self, body: Body, size: int) -> None:
        """One event more, of `size` bytes. Usage adds up by responses; the terminal event's own is the whole."""
        self.last_id += 1
        self.log_events += 1
        self.log_bytes += size
        self.progress = getattr(body, "progress", self.progress)
        match body:
            case AgentResponse(usage=used):
                self.prompt_tokens += used.prompt_tokens
                self.completion_tokens += used.completion_tokens
            case Completed(usage=used):
                self.prompt_tokens, self.completion_tokens = used.prompt_tokens, used.completion_tokens
            case _:
                pass

    def record(self) -> RunRecord:
        return self._record(
            state=self.state,
            progress=self.progress,
            last_id=self.last_id,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            log_events=self.log_events,
            log_bytes=self.log_bytes,
            ended_at=self.ended_at,
            digest=self.digest,
        )
