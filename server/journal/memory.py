"""A journal in memory: for tests, and for servers whose runs may die with them (`memory://`)."""

import asyncio
import math
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, islice

from askstream.server.events.errors import Fenced, OutOfOrder
from askstream.server.journal.base import (
    READ_BYTES,
    RECORD_SECONDS,
    Checkpoint,
    Entry,
    ListPosition,
    RunRecord,
    RunUpdate,
    Size,
    first_bytes,
    holds_key,
)
from askstream.server.journal.notifier import AppendNotifier, follow


@dataclass(slots=True)
class _Log:
    record: RunRecord
    entries: list[Entry] = field(default_factory=list[Entry])
    checkpoint: Checkpoint | None = None
    number: int = 0
    kept_since: float | None = None  # by the clock of running time: its end, or its expiry


class MemoryJournal:
    survives = False

    def __init__(self) -> None:
        self._logs: dict[str, _Log] = {}  # in the order of their creation
        self._numbers = count(1)
        self._running = 0.0
        self._notifier = AppendNotifier()

    async def create(self, record: RunRecord, entries: Sequence[Entry]) -> RunRecord:
        if record.idempotency_key is not None:
            holder = await self.by_idempotency_key(record.principal, record.idempotency_key, now=record.created_at)
            if holder is not None:
                return holder
        self._logs[record.run_id] = _Log(record, list(entries), number=next(self._numbers))
        return record

    async def by_idempotency_key(self, principal: str, idempotency_key: str, *, now: float) -> RunRecord | None:
        for log in self._logs.values():
            holder = log.record
            if (holder.principal, holder.idempotency_key) == (principal, idempotency_key) and holds_key(holder, now):
                return holder
        return None

    async def append(self, update: RunUpdate, entries: Sequence[Entry], *, checkpoint: bytes | None = None) -> None:
        log = self._logs.get(update.run_id)
        if log is None or log.record.attempt != update.attempt:
            raise Fenced(f"attempt {update.attempt} of this run was replaced by a later one")
        if entries and entries[0].id != log.record.last_id + 1:
            raise OutOfOrder(f"expected id {log.record.last_id + 1}, got {entries[0].id}")
        log.entries.extend(entries)
        log.record = log.record.updated(update)
        if update.ended_at is not None:
            self._drop_checkpoints(log, all_ended=checkpoint is not None)
        if checkpoint is not None:
            log.checkpoint = Checkpoint(update.last_id, checkpoint)
        self._notifier.notify(update.run_id)

    def _drop_checkpoints(self, log: _Log, *, all_ended: bool) -> None:
        """Drop that of `log`; with `all_ended` also those of its session's other ended runs."""
        session = log.record.principal, log.record.session_id
        for each in self._logs.values() if all_ended else (log,):
            if each.record.ended and (each.record.principal, each.record.session_id) == session:
                each.checkpoint = None

    async def claim(self, run_id: str) -> RunRecord | None:
        log = self._logs.get(run_id)
        if log is None or log.record.ended:
            return None
        log.record = replace(log.record, attempt=log.record.attempt + 1)
        return log.record

    async def read(self, run_id: str, after: int, *, limit: int = READ_BYTES) -> list[Entry]:
        log = self._logs.get(run_id)
        if log is None:
            return []
        return first_bytes(log.entries, bisect_right(log.entries, after, key=lambda entry: entry.id), limit)

    def watch(self, run_id: str, after: int) -> AsyncIterator[Sequence[Entry]]:
        return follow(self, self._notifier, run_id, after)

    async def record(self, run_id: str) -> RunRecord | None:
        log = self._logs.get(run_id)
        return log.record if log else None

    async def checkpoint(self, run_id: str) -> Checkpoint | None:
        log = self._logs.get(run_id)
        return log.checkpoint if log else None

    async def runs(
        self, principal: str | None, *, before: ListPosition | None = None, limit: int = 50
    ) -> list[RunRecord]:
        return self._newest(lambda record: principal in (None, record.principal), before, limit)

    async def session(
        self, principal: str, session_id: str, *, before: ListPosition | None = None, limit: int = 50
    ) -> list[RunRecord]:
        return self._newest(lambda r: (r.principal, r.session_id) == (principal, session_id), before, limit)

    def _newest(self, wanted: Callable[[RunRecord], bool], before: ListPosition | None, limit: int) -> list[RunRecord]:
        end = self._number(before) if before is not None else math.inf
        newest = (log for log in reversed(self._logs.values()) if log.number < end and wanted(log.record))
        return [log.record for log in islice(newest, limit)]

    def _number(self, position: ListPosition) -> int:
        """Return the run's number, or the one that would be in its place had it not been forgotten meanwhile."""
        if position.run_id in self._logs:
            return self._logs[position.run_id].number
        earlier = (log.number for log in self._logs.values() if log.record.created_at < position.created_at)
        return max(earlier, default=0) + 1

    async def unfinished(self) -> list[RunRecord]:
        return [log.record for log in self._logs.values() if not log.record.ended]

    async def forget(self, run_id: str) -> bool:
        log = self._logs.get(run_id)
        if log is None or not log.record.ended:
            return False
        del self._logs[run_id]
        return True

    async def compact(self, run_id: str) -> Size:
        log = self._logs[run_id]
        whole = {e.agent_name: e.id for e in log.entries if e.event_type == "agent_response"}
        log.entries = [e for e in log.entries if e.event_type != "agent_chunk" or e.id > whole.get(e.agent_name, 0)]
        return Size(len(log.entries), sum(len(e.line) for e in log.entries))

    async def expire(self, *, now: float, running: float, keep_seconds: float, most_bytes: int) -> int:
        self._running += running
        ended = [log for log in self._logs.values() if log.record.ended]
        for log in ended:
            log.kept_since = self._running if log.kept_since is None else log.kept_since
        self._drop_records([log for log in ended if log.record.expired_at is not None])
        held, dropped = sum(log.record.log_bytes for log in self._logs.values()), 0
        kept = [log for log in ended if log.record.expired_at is None]
        for log in sorted(kept, key=lambda log: (_since(log), log.number)):
            if _since(log) > self._running - keep_seconds and held <= most_bytes:
                break
            held, dropped = held - log.record.log_bytes, dropped + 1
            log.entries, log.checkpoint, log.kept_since = [], None, self._running
            log.record = replace(log.record, expired_at=now, log_events=0, log_bytes=0)
        return dropped

    def _drop_records(self, expired: Sequence[_Log]) -> None:
        for log in expired:
            if _since(log) <= self._running - RECORD_SECONDS:
                del self._logs[log.record.run_id]

    async def close(self) -> None:
        await asyncio.sleep(0)


def _since(log: _Log) -> float:
    assert log.kept_since is not None
    return log.kept_since


def open_url(url: str, *, synchronous: str) -> MemoryJournal:
    """Open `memory://`. `synchronous` has no effect."""
    return MemoryJournal()
