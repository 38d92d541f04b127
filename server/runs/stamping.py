"""What a run has come to so far: the part of its record that moves with every event."""

from askstream.server.events import AgentResponse, Body, Completed
from askstream.server.journal import Head, State


class Tally:
    """A head that counts event by event."""

    __slots__ = Head._fields

    def __init__(self, head: Head) -> None:
        self.state: State = head.state
        self.run_id, self.attempt, _, self.progress, self.last_id = head[:5]
        self.prompt_tokens, self.completion_tokens, self.log_events, self.log_bytes = head[5:9]
        self.ended_at, self.digest = head[9:]

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

    def head(self) -> Head:
        """As it is now. What is counted later doesn't change it."""
        return Head(
            self.run_id,
            self.attempt,
            self.state,
            self.progress,
            self.last_id,
            self.prompt_tokens,
            self.completion_tokens,
            self.log_events,
            self.log_bytes,
            self.ended_at,
            self.digest,
        )
