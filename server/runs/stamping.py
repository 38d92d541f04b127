"""Stamping: a team's drafts become entries of its run's log. Pure: no asyncio, the time is an argument.

An entry has an id and a progress that never falls, and keeps within the limits. Each entry updates the counts of the
run's record, and the digest.
"""

import hashlib
from dataclasses import fields, replace
from datetime import datetime
from typing import Any, cast

from askstream.server.events import (
    AgentChunk,
    AgentResponse,
    Completed,
    Draft,
    EventBody,
    InputResolved,
    Json,
    ToolExecution,
    codec,
    decode,
    with_progress,
)
from askstream.server.events.errors import RunFailed
from askstream.server.events.schema import TYPE_NAMES
from askstream.server.journal import UNKNOWN, Entry, RunRecord, RunState, RunUpdate, Size, tokens_of
from askstream.server.runs.limits import Limits

# Characters that are kept of a tool's result if the whole would exceed the limit for one event.
EXCERPT_CHARACTERS = 4096


class Stamping:
    """Continues the counts of `record`. A method that raises has counted at most a message or a chunk."""

    def __init__(self, record: RunRecord, limits: Limits) -> None:
        self._run_id, self._attempt, self._limits = record.run_id, record.attempt, limits
        self.state: RunState = record.state
        self.last_id, self._progress = record.last_id, record.progress
        self._prompt_tokens, self._completion_tokens = record.prompt_tokens, record.completion_tokens
        self._log_events, self._log_bytes = record.log_events, record.log_bytes
        self._ended_at, self._final_digest = record.ended_at, record.digest
        self._digest = hashlib.sha256()
        self._kept_events = self._kept_bytes = 0  # the log without its chunks
        self._messages = self._messages_alone = 0  # alone: since a human answered
        self._most_messages: float = float("inf")  # in all; a limit once a human has answered
        self.chunks = 0  # since the log was compacted last

    def snapshot(self) -> RunUpdate:
        """Return the present counts. Later entries don't change the result."""
        tokens = self._prompt_tokens, self._completion_tokens
        size = self._log_events, self._log_bytes
        moving = self.state, self._progress, self.last_id, *tokens, *size, self._ended_at, self._final_digest
        return RunUpdate(self._run_id, self._attempt, *moving)

    def accept(self, draft: Draft, moment: datetime) -> Entry | None:
        """Return the entry of a team's draft. Raises RunFailed if it exceeds a limit.

        Return None for a chunk if the log is full: the whole text follows as its agent's response.
        """
        is_chunk = isinstance(draft.body, AgentChunk)
        events, size = self._kept_events, self._kept_bytes
        if is_chunk:
            events, size = self._log_events, self._log_bytes
        elif isinstance(draft.body, AgentResponse):
            self._count_message()
        elif isinstance(draft.body, InputResolved):
            self._count_reply(draft.body)
        if events > self._limits.log_events or size > self._limits.log_bytes:
            return self._refuse(is_chunk=is_chunk)
        self.chunks += is_chunk
        return self.stamp(draft, moment)

    def stamp(self, draft: Draft, moment: datetime) -> Entry:
        """Return the entry of a draft whatever the log's size: a run can always begin and end."""
        event_id = self.last_id + 1
        if getattr(draft.body, "progress", self._progress) < self._progress:
            draft = with_progress(draft, self._progress)
        line = codec.encode_as(draft, event_id, self._run_id, moment)
        if len(line) > self._limits.event_bytes:
            line = self._shorter_line(draft, moment, len(line))
        entry = Entry(event_id, TYPE_NAMES[type(draft.body)], draft.agent_name, line)
        self._count(draft.body, entry)
        return entry

    def end(self, draft: Draft, state: RunState, moment: datetime) -> Entry:
        """Return the entry of the terminal event. The digest covers it. Raises RunFailed if it is too large."""
        entry = self.stamp(draft, moment)
        self.state, self._ended_at, self._final_digest = state, moment.timestamp(), self._digest.hexdigest()
        return entry

    def add_earlier(self, entry: Entry) -> None:
        """Add an event that an earlier attempt wrote. The record counts it already, the digest doesn't."""
        if entry.event_type == "agent_response":
            self._messages, self._messages_alone = self._messages + 1, self._messages_alone + 1
        elif entry.event_type == "input_resolved":
            self._count_reply(decode(entry.line).body)
        if entry.event_type != "agent_chunk":
            self._digest.update(entry.line + b"\n")
            self._kept_events += 1
            self._kept_bytes += len(entry.line)

    def is_too_large(self, written: RunUpdate) -> bool:
        """Whether a run that isn't over has a log beyond its bound, by these durable counts."""
        most = self._limits
        is_large = written.log_events > most.log_events or written.log_bytes > most.log_bytes
        return is_large and written.ended_at is None

    def compacted(self, written: RunUpdate, left: Size) -> None:
        """Subtract what a compaction has dropped: the log had the size in `written`, and now has the size `left`."""
        self.chunks = 0
        self._log_events -= written.log_events - left.events
        self._log_bytes -= written.log_bytes - left.bytes

    def _count(self, body: EventBody, entry: Entry) -> None:
        """Usage is summed over responses; the terminal event's usage is the total. Inlined, for speed."""
        self.last_id = entry.id
        self._log_events += 1
        self._log_bytes += len(entry.line)
        self._progress = getattr(body, "progress", self._progress)
        if isinstance(body, AgentChunk):
            return
        self._digest.update(entry.line + b"\n")
        self._kept_events += 1
        self._kept_bytes += len(entry.line)
        if isinstance(body, AgentResponse):
            prompt, completion = body.usage.prompt_tokens, body.usage.completion_tokens
            if prompt is None or completion is None or self._prompt_tokens == UNKNOWN:
                self._prompt_tokens = self._completion_tokens = UNKNOWN
            else:
                self._prompt_tokens += prompt
                self._completion_tokens += completion
        elif isinstance(body, Completed):
            self._prompt_tokens, self._completion_tokens = tokens_of(body.usage)

    def _count_message(self) -> None:
        """Enforce the message limits for every orchestrator."""
        self._messages, self._messages_alone = self._messages + 1, self._messages_alone + 1
        if self._messages_alone > self._limits.messages or self._messages > self._most_messages:
            alone = self._messages_alone > self._limits.messages
            most = self._limits.messages if alone else self._most_messages
            raise RunFailed("message_limit", f"The team did not finish within the {most} messages allowed.")

    def _count_reply(self, body: EventBody) -> None:
        """Count from a human's answer: a team that talks with a human isn't a runaway."""
        if isinstance(body, InputResolved) and body.outcome == "answered":
            self._messages_alone = 0
            self._most_messages = max(self._limits.conversation_messages, self._limits.messages)

    def _refuse(self, *, is_chunk: bool) -> None:
        if not is_chunk:
            most = self._limits
            limit = f"{most.log_events:,} events or {most.log_bytes:,} bytes"
            raise RunFailed("log_full", f"The run's log has outgrown the {limit} allowed.")

    def _shorter_line(self, draft: Draft, moment: datetime, size: int) -> bytes:
        """The line of a draft after shortening; its own line, of `size` bytes, is longer than allowed."""
        most = self._limits.event_bytes
        for share in _SHARES:
            shorter = _shortened(draft, size, most // share)
            line = codec.encode_as(shorter, self.last_id + 1, self._run_id, moment)
            if len(line) <= most:
                return line
        raise RunFailed("event_too_large", f"An event ({draft.event_type}) was larger than the {most} bytes allowed.")


# The share of an event's bytes for each of its texts, as a divisor. A character takes up to six bytes, and an event has
# up to three long texts.
_SHARES = (2, 4, 8, 16, 32)


def _shortened(draft: Draft, size: int, most: int) -> Draft:
    """The same draft with its texts cut to `most` characters, with a mark, and with other long values cut down to an
    excerpt that says so."""
    cut = {name: _cut(value, size, most) for name, value in _values(draft.body) if name not in _NEVER_CUT}
    if isinstance(draft.body, ToolExecution) and isinstance(draft.body.result, str):
        cut["result"] = _excerpt(draft.body.result, size)
    return draft._replace(message=cut_text(draft.message, most), body=replace(cast(Any, draft.body), **cut))


# Clients look these up.
_NEVER_CUT = frozenset({"usage", "call_id", "message_id", "request_id", "session_id", "status", "error", "reason"})


def _values(body: EventBody) -> list[tuple[str, Any]]:
    return [(field.name, getattr(body, field.name)) for field in fields(body)]


def _cut(value: Any, size: int, most: int) -> Any:
    match value:
        case str():
            return cut_text(value, most)
        case dict() | list():
            given = cast(Json, value)
            return _excerpt(codec.text(given), size, given)
        case _:
            return value


def _excerpt(text: str, size: int, value: Json = None) -> Json:
    if len(text) <= EXCERPT_CHARACTERS:
        return text if value is None else value
    return {"truncated": True, "event_bytes": size, "excerpt": text[:EXCERPT_CHARACTERS]}


def cut_text(text: str, most: int) -> str:
    """The first `most` characters of a longer text, and a mark that says so."""
    if len(text) <= most:
        return text
    return f"{text[:most]}\n\n[Cut: the first {most:,} of {len(text):,} characters.]"
