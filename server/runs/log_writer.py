"""The single writer of one run's log: gives events their ids, and shows them to viewers once they are durable.

What happens in one turn of the event loop is one append, durable as one: an event, say, and the checkpoint that was
taken right after it. While an append is on its way to the disk, what happens meanwhile gathers and goes with the next:
a run that is faster than the disk gets fewer and larger appends, not a longer queue.
"""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from askstream.server.bus import Channel
from askstream.server.events import AgentChunk, AgentResponse, Draft, ToolExecution, codec, with_progress
from askstream.server.events.errors import JournalError, RunFailed
from askstream.server.journal import Entry, Head, Journal, RunRecord, Size, State
from askstream.server.runs.limits import Limits
from askstream.server.runs.stamping import Tally
from askstream.server.telemetry import StreamLog

T = TypeVar("T")

log = logging.getLogger(__name__)

# What may wait for the disk before `emit` makes the team wait. A second's worth of a very fast run.
PENDING_BYTES = 1024 * 1024
# What makes a compaction worth its while: it reads the whole log, once for so many chunks.
COMPACT_CHUNKS = 500
# How much of a tool's result is kept when the whole would pass the limit for one event.
EXCERPT_CHARACTERS = 4096


class Writer:
    """A `Sink`. After `end`, and after `close`, what is still emitted is refused."""

    def __init__(
        self,
        record: RunRecord,
        journal: Journal,
        channel: Channel,
        limits: Limits,
        *,
        clock: Callable[[], datetime],
        log: StreamLog,
    ) -> None:
        self._created, self._tally = record, Tally(record.head)
        self._journal, self.channel, self._limits = journal, channel, limits
        self._clock, self._log = clock, log
        self._loop = asyncio.get_running_loop()
        self._durable = record.head  # what the journal holds; the tally runs ahead of it
        self._messages = 0
        self._digest = hashlib.sha256()
        self._lasting_events = self._lasting_bytes = 0  # the log without its chunks
        self._chunks = 0  # since the log was compacted last
        self._pending: list[Entry] = []
        self._size = 0
        self._state: bytes | None = None
        self._asked = self._saved = 0  # checkpoints asked for and durable
        self._work: asyncio.Future[Any] | None = None  # the journal's; one at a time
        self._next: asyncio.Handle | None = None  # what will give it some
        self._settled: asyncio.Future[None] | None = None  # what others wait for: the next append is over
        self._broken: JournalError | None = None
        self._ending = False
        self.emitted = 0  # counts all calls of emit, for whoever watches for silence

    @property
    def record(self) -> RunRecord:
        """The record with all that was emitted, durable or not."""
        return self._created.moved(self._tally.head())

    @property
    def durable(self) -> RunRecord:
        """The record as the journal holds it."""
        return self._created.moved(self._durable)

    def now(self) -> datetime:
        return self._clock()

    def first(self, draft: Draft) -> Entry:
        """The entry of the run's first event, for `Journal.create`; `created` follows once that has succeeded."""
        return self._stamp(draft)

    def created(self, entry: Entry) -> None:
        self._publish([entry], self._tally.head())

    async def read_back(self) -> None:
        """Takes in what earlier attempts wrote, so that the digest is one over the whole log."""
        last = 0
        while entries := await self._journal.read(self._created.run_id, last):
            last = entries[-1].id
            for entry in entries:
                self._messages += entry.event_type == "agent_response"
                self._take_in(entry)

    async def emit(self, draft: Draft) -> None:
        self.emitted += 1
        if isinstance(draft.body, AgentResponse):
            self._count_message()
        while self._size > PENDING_BYTES:
            await self._turn()
        self._accept(draft)

    async def checkpoint(self, state: bytes) -> None:
        self._save(state)
        await self.flush()

    async def wait_for_human(self, draft: Draft, state: bytes) -> None:
        """Asks for input: the event, the checkpoint to go on from and the run's state become durable as one."""
        self._accept(draft)
        self._tally.state = "waiting"
        self._save(state)
        await self.flush()

    async def go_on(self, draft: Draft) -> None:
        """The wait is over. Returns once that is durable."""
        self._accept(draft)
        self._tally.state = "running"
        await self.flush()

    async def flush(self) -> None:
        """Returns once everything that was handed over so far is durable."""
        last, asked = self._tally.last_id, self._asked
        while self._durable.last_id < last or self._saved < asked:
            await self._turn()

    def _save(self, state: bytes) -> None:
        self._state = state
        self._asked += 1
        self._advance()

    async def end(self, draft: Draft, state: State) -> None:
        """Writes the terminal event; what is emitted after it is refused. Returns once it is durable.

        Raises JournalError where it can't be, and RunFailed, with nothing written, where it is too large.
        """
        entry = self._stamp(draft)
        self._ending = True
        tally = self._tally
        tally.state, tally.ended_at, tally.digest = state, self._clock().timestamp(), self._digest.hexdigest()
        self._pending.append(entry)
        self._advance()
        while self._durable.ended_at is None:
            await self._turn()

    def close(self) -> None:
        """For a run that is left without an end: writes nothing that isn't on its way already."""
        self._ending, self._pending, self._saved = True, [], self._asked

    def _advance(self) -> None:
        """There is something to append."""
        if self._next is None:
            self._next = self._loop.call_soon(self._append)

    def _append(self) -> None:
        """Appends what has gathered, if anything has and the journal isn't at work."""
        self._next = None
        if self._work is not None or self._broken is not None or (not self._pending and self._saved == self._asked):
            return
        entries, self._pending, self._size = self._pending, [], 0
        state, self._state = self._state, None
        head = self._tally.head()
        self._wait_for(
            self._journal.append(head, entries, checkpoint=state), partial(self._appended, head, entries, self._asked)
        )

    def _wait_for(self, work: Awaitable[T], then: Callable[[T], None]) -> None:
        future = self._work = asyncio.ensure_future(work)
        future.add_done_callback(partial(self._worked, then))

    def _worked(self, then: Callable[[T], None], work: asyncio.Future[T]) -> None:
        self._work = None
        try:
            then(work.result())
        except JournalError as problem:
            self._broken = problem
        except (Exception, asyncio.CancelledError) as problem:
            self._broken = JournalError(f"the journal failed: {type(problem).__name__}")
            log.debug("run=%s can't be written", self._created.run_id, exc_info=problem)
        self._settle()
        self._append()

    def _appended(self, head: Head, entries: Sequence[Entry], asked: int, _: None) -> None:
        self._saved = max(self._saved, asked)
        self._publish(entries, head)
        # A log is kept within its bound, as far as chunks of whole messages are what makes it large.
        if self._chunks >= COMPACT_CHUNKS and head.ended_at is None and self._exceeds(head.log_events, head.log_bytes):
            self._wait_for(self._journal.compact(head.run_id), partial(self._compacted, head))

    def _compacted(self, written: Head, left: Size) -> None:
        self._chunks = 0
        self._tally.log_events -= written.log_events - left.events
        self._tally.log_bytes -= written.log_bytes - left.bytes

    def _exceeds(self, events: int, size: int) -> bool:
        return events > self._limits.log_events or size > self._limits.log_bytes

    def _publish(self, entries: Sequence[Entry], head: Head) -> None:
        self._durable = head
        self.channel.extend(entries)
        for entry in entries:
            self._log.tell(head.run_id, entry.id, entry.event_type, entry.agent_name)

    def _accept(self, draft: Draft) -> None:
        if self._broken is not None:
            raise self._broken
        if self._ending:
            raise RunFailed("internal", "The run has ended.")  # told to a team that was given up
        if isinstance(draft.body, AgentChunk):
            if self._exceeds(self._tally.log_events, self._tally.log_bytes):
                return  # the whole text follows as its agent's response; until then the log has no room for pieces
            self._chunks += 1
        elif self._exceeds(self._lasting_events, self._lasting_bytes):
            raise RunFailed("log_full", f"The run's log has outgrown the {self._limits.log_events:,} events allowed.")
        entry = self._stamp(draft)
        self._pending.append(entry)
        self._size += len(entry.line)
        self._advance()

    def _stamp(self, draft: Draft) -> Entry:
        """Gives the draft its id, and counts it. Nothing has changed when it raises."""
        draft = with_progress(draft, self._tally.progress)
        line = self._line(draft)
        if len(line) > self._limits.event_bytes:
            line = self._shorter_line(draft, len(line))
        entry = Entry(self._tally.last_id + 1, draft.event_type, draft.agent_name, line)
        self._tally.count(draft.body, len(line))
        self._take_in(entry)
        return entry

    def _take_in(self, entry: Entry) -> None:
        if entry.event_type != "agent_chunk":
            self._digest.update(entry.line + b"\n")
            self._lasting_events += 1
            self._lasting_bytes += len(entry.line)

    def _line(self, draft: Draft) -> bytes:
        return codec.encode_as(draft, self._tally.last_id + 1, self._created.run_id, self._clock())

    def _shorter_line(self, draft: Draft, size: int) -> bytes:
        """That of a draft whose own line, of so many bytes, is longer than allowed."""
        line = self._line(_shortened(draft, size))
        if len(line) > self._limits.event_bytes:
            kind, most = draft.event_type, self._limits.event_bytes
            raise RunFailed("event_too_large", f"An event ({kind}) was larger than the {most} bytes allowed.")
        return line

    def _count_message(self) -> None:
        """The limit that no orchestrator can forget."""
        self._messages += 1
        if self._messages > self._limits.messages:
            most = self._limits.messages
            raise RunFailed("message_limit", f"The team did not finish within the {most} messages allowed.")

    def _settle(self) -> None:
        """The journal has done something, or will do nothing any more."""
        settled, self._settled = self._settled, None
        if settled is not None:
            settled.set_result(None)

    async def _turn(self) -> None:
        """Returns when the next append is over. Raises what broke the log."""
        if self._broken is not None:
            raise self._broken
        if self._settled is None:
            self._settled = self._loop.create_future()
        await asyncio.shield(self._settled)  # others may wait for the same, and none may cancel it for them


def _shortened(draft: Draft, size: int) -> Draft:
    """The same draft with a tool's result cut down to an excerpt that says so; anything else stays as it is."""
    if not isinstance(draft.body, ToolExecution):
        return draft
    text = codec.text(draft.body.result)[:EXCERPT_CHARACTERS]
    return draft._replace(body=replace(draft.body, result={"truncated": True, "event_bytes": size, "excerpt": text}))
