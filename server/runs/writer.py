"""The single writer of one run's log: gives events their ids, and shows them to viewers once they are durable.

While one append is on its way to the disk, what happens meanwhile gathers and goes with the next: a run that is
faster than the disk gets fewer and larger appends, not a longer queue.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from server.bus import Channel
from server.events import (
    AgentChunk,
    AgentResponse,
    Completed,
    Draft,
    Event,
    ToolExecution,
    Usage,
    codec,
    encode,
    with_progress,
)
from server.events.errors import JournalError, RunFailed
from server.journal import Entry, Journal, RunRecord, Size, State
from server.runs.limits import Limits

stream_log = logging.getLogger("stream_events")

# What may wait for the disk before `emit` makes the team wait. A second's worth of a very fast run.
PENDING_BYTES = 1024 * 1024
# What makes a compaction worth its while: it reads the whole log, once for so many chunks.
COMPACT_CHUNKS = 500
# How much of a tool's result is kept when the whole would pass the limit for one event.
EXCERPT_CHARACTERS = 4096


class Writer:
    """A `Sink`. `pump` must run beside whoever emits; it ends after `end`, or when the log can't be written."""

    def __init__(
        self,
        record: RunRecord,
        journal: Journal,
        channel: Channel,
        limits: Limits,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self.record = record
        self._journal, self.channel, self._limits, self._clock = journal, channel, limits, clock
        self._durable = record  # what the journal holds; `record` runs ahead of it
        self._messages = 0
        self._digest = hashlib.sha256()
        self._lasting = Size(0, 0)  # the log without its chunks
        self._chunks = 0  # since the log was compacted last
        self._pending: list[Entry] = []
        self._size = 0
        self._state: bytes | None = None
        self._asked = self._saved = 0  # checkpoints asked for and durable
        self._work = asyncio.Event()
        self._settled = asyncio.Event()
        self._broken: JournalError | None = None
        self._ending = False
        self.emitted = 0  # counts all calls of emit, for whoever watches for silence

    @property
    def durable(self) -> RunRecord:
        return self._durable

    def now(self) -> datetime:
        return self._clock()

    def first(self, draft: Draft) -> Entry:
        """The entry of the run's first event, for `Journal.create`; `created` follows once that has succeeded."""
        return self._stamp(draft)

    def created(self, entry: Entry) -> None:
        self._publish([entry], self.record)

    async def read_back(self) -> None:
        """Takes in what earlier attempts wrote, so that the digest is one over the whole log."""
        last = 0
        while entries := await self._journal.read(self.record.run_id, last):
            last = entries[-1].id
            for entry in entries:
                self._messages += entry.event_type == "agent_response"
                self._take_in(entry)

    async def emit(self, draft: Draft) -> None:
        self.emitted += 1
        self._count(draft)
        while self._size > PENDING_BYTES:
            await self._turn()
        self._accept(draft)

    async def checkpoint(self, state: bytes) -> None:
        self._save(state)
        await self.flush()

    async def wait_for_human(self, draft: Draft, state: bytes) -> None:
        """Asks for input: the event, the checkpoint to go on from and the run's state become durable as one."""
        self._accept(draft)
        self.record = replace(self.record, state="waiting")
        self._save(state)
        await self.flush()

    async def go_on(self, draft: Draft) -> None:
        """The wait is over. Returns once that is durable."""
        self._accept(draft)
        self.record = replace(self.record, state="running")
        await self.flush()

    async def flush(self) -> None:
        """Returns once everything that was handed over so far is durable."""
        last, asked = self.record.last_id, self._asked
        while self._durable.last_id < last or self._saved < asked:
            await self._turn()

    def _save(self, state: bytes) -> None:
        self._state = state
        self._asked += 1
        self._work.set()

    async def end(self, draft: Draft, state: State) -> None:
        """Writes the terminal event; what is emitted after it is refused. Returns once it is durable.

        Raises JournalError where it can't be, and RunFailed, with nothing written, where it is too large.
        """
        entry = self._stamp(draft)
        self._ending = True
        self.record = replace(
            self.record, state=state, ended_at=self._clock().timestamp(), digest=self._digest.hexdigest()
        )
        self._pending.append(entry)
        self._work.set()
        while not self._durable.ended:
            await self._turn()

    async def pump(self) -> None:
        """Moves what was emitted into the journal, and from there to the viewers."""
        try:
            while not self._durable.ended:
                await self._work.wait()
                self._work.clear()
                await self._append()
                self._settle()
        except JournalError as problem:
            self._broken = problem
            self._settle()

    async def _append(self) -> None:
        entries, self._pending, self._size = self._pending, [], 0
        state, self._state = self._state, None
        record, asked = self.record, self._asked
        await self._journal.append(record, entries, checkpoint=state)
        self._saved = asked
        self._publish(entries, record)
        await self._compact(record)

    async def _compact(self, written: RunRecord) -> None:
        """Keeps the log within its bound, as far as chunks of whole messages are what makes it large."""
        if written.ended or not self._exceeds(written.size) or self._chunks < COMPACT_CHUNKS:
            return
        left = await self._journal.compact(written.run_id)
        self._chunks = 0
        self.record = replace(
            self.record,
            log_events=self.record.log_events - written.log_events + left.events,
            log_bytes=self.record.log_bytes - written.log_bytes + left.bytes,
        )

    def _exceeds(self, size: Size) -> bool:
        return size.events > self._limits.log_events or size.bytes > self._limits.log_bytes

    def _publish(self, entries: Sequence[Entry], record: RunRecord) -> None:
        self._durable = record
        self.channel.extend(entries)
        for entry in entries:
            level = logging.DEBUG if entry.event_type == "agent_chunk" else logging.INFO
            stream_log.log(level, "run=%s id=%d %s %s", record.run_id, entry.id, entry.event_type, entry.agent_name)

    def _accept(self, draft: Draft) -> None:
        if self._broken is not None:
            raise self._broken
        if self._ending:
            raise RunFailed("internal", "The run has ended.")  # told to a team that was given up
        if isinstance(draft.body, AgentChunk):
            if self._exceeds(self.record.size):
                return  # the whole text follows as its agent's response; until then the log has no room for pieces
            self._chunks += 1
        elif self._exceeds(self._lasting):
            raise RunFailed("log_full", f"The run's log has outgrown the {self._limits.log_events:,} events allowed.")
        entry = self._stamp(draft)
        self._pending.append(entry)
        self._size += len(entry.line)
        self._work.set()

    def _stamp(self, draft: Draft) -> Entry:
        """Gives the draft its id, and moves the record on. Nothing has changed when it raises."""
        draft = with_progress(draft, self.record.progress)
        line = self._encoded(draft)
        entry = Entry(self.record.last_id + 1, draft.event_type, draft.agent_name, line)
        self.record = _moved(self.record, entry, draft)
        self._take_in(entry)
        return entry

    def _take_in(self, entry: Entry) -> None:
        if entry.event_type != "agent_chunk":
            self._digest.update(entry.line + b"\n")
            self._lasting = Size(self._lasting.events + 1, self._lasting.bytes + len(entry.line))

    def _encoded(self, draft: Draft) -> bytes:
        line = encode(self._event(draft))
        if len(line) <= self._limits.event_bytes:
            return line
        line = encode(self._event(_shortened(draft, len(line))))
        if len(line) > self._limits.event_bytes:
            kind, most = draft.event_type, self._limits.event_bytes
            raise RunFailed("event_too_large", f"An event ({kind}) was larger than the {most} bytes allowed.")
        return line

    def _event(self, draft: Draft) -> Event:
        record = self.record
        return Event(record.last_id + 1, record.run_id, self._clock(), draft.agent_name, draft.message, draft.body)

    def _count(self, draft: Draft) -> None:
        """The limit that no orchestrator can forget."""
        self._messages += isinstance(draft.body, AgentResponse)
        if self._messages > self._limits.messages:
            most = self._limits.messages
            raise RunFailed("message_limit", f"The team did not finish within the {most} messages allowed.")

    def _settle(self) -> None:
        self._settled.set()
        self._settled = asyncio.Event()

    async def _turn(self) -> None:
        if self._broken is not None:
            raise self._broken
        await self._settled.wait()


def _moved(record: RunRecord, entry: Entry, draft: Draft) -> RunRecord:
    """The record after this event. Usage adds up response by response; the terminal event's own is the whole."""
    progress = getattr(draft.body, "progress", record.progress)
    used = Usage(record.prompt_tokens, record.completion_tokens)
    match draft.body:
        case AgentResponse(usage=usage):
            used += usage
        case Completed(usage=usage):
            used = usage
        case _:
            pass
    return replace(
        record,
        last_id=entry.id,
        log_events=record.log_events + 1,
        log_bytes=record.log_bytes + len(entry.line),
        progress=progress,
        prompt_tokens=used.prompt_tokens,
        completion_tokens=used.completion_tokens,
    )


def _shortened(draft: Draft, size: int) -> Draft:
    """The same draft with a tool's result cut down to an excerpt that says so; anything else stays as it is."""
    if not isinstance(draft.body, ToolExecution):
        return draft
    text = codec.text(draft.body.result)[:EXCERPT_CHARACTERS]
    return replace(draft, body=replace(draft.body, result={"truncated": True, "event_bytes": size, "excerpt": text}))
