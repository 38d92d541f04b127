"""A journal in memory: for tests, and for servers whose runs may die with them (`memory://`)."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

from server.events.errors import Fenced, OutOfOrder
from server.journal.base import READ_BYTES, Checkpoint, Entry, Page, RunRecord
from server.journal.doorbell import Doorbell, follow
from server.journal.keys import same_key


@dataclass(slots=True)
class _Log:
    record: RunRecord
    entries: list[Entry] = field(default_factory=list[Entry])
    checkpoint: Checkpoint | None = None


class MemoryJournal:
    def __init__(self) -> None:
        self._logs: dict[str, _Log] = {}
        self._doorbell = Doorbell()

    async def create(self, record: RunRecord, entries: Sequence[Entry]) -> RunRecord:
        for log in self._logs.values() if record.idempotency_key is not None else ():
            if same_key(log.record, record):
                return log.record
        self._logs[record.run_id] = _Log(record, list(entries))
        return record

    async def append(self, record: RunRecord, entries: Sequence[Entry], *, checkpoint: bytes | None = None) -> None:
        log = self._logs.get(record.run_id)
        if log is None or log.record.attempt != record.attempt:
            raise Fenced(f"attempt {record.attempt} of this run has been succeeded")
        if entries and entries[0].id != log.record.last_id + 1:
            raise OutOfOrder(f"expected id {log.record.last_id + 1}, got {entries[0].id}")
        log.entries.extend(entries)
        log.record = record
        if checkpoint is not None:
            log.checkpoint = Checkpoint(record.last_id, checkpoint)
        self._doorbell.ring(record.run_id)

    async def claim(self, run_id: str) -> RunRecord | None:
        log = self._logs.get(run_id)
        if log is None or log.record.ended:
            return None
        log.record = replace(log.record, attempt=log.record.attempt + 1)
        return log.record

    async def read(self, run_id: str, after: int, *, limit: int = READ_BYTES) -> list[Entry]:
        log = self._logs.get(run_id)
        found: list[Entry] = []
        size = 0
        for entry in log.entries[after:] if log else ():
            size += len(entry.line)
            if found and size > limit:
                break
            found.append(entry)
        return found

    def watch(self, run_id: str, after: int) -> AsyncIterator[Sequence[Entry]]:
        return follow(self, self._doorbell, run_id, after)

    async def record(self, run_id: str) -> RunRecord | None:
        log = self._logs.get(run_id)
        return log.record if log else None

    async def checkpoint(self, run_id: str) -> Checkpoint | None:
        log = self._logs.get(run_id)
        return log.checkpoint if log else None

    async def runs(self, principal: str, *, before: Page | None = None, limit: int = 50) -> list[RunRecord]:
        mine = (log.record for log in self._logs.values() if log.record.principal == principal)
        newest = sorted(mine, key=lambda r: (r.created_at, r.run_id), reverse=True)
        return [r for r in newest if before is None or (r.created_at, r.run_id) < (before.created_at, before.run_id)][
            :limit
        ]

    async def unfinished(self) -> list[RunRecord]:
        return sorted((log.record for log in self._logs.values() if not log.record.ended), key=lambda r: r.created_at)

    async def forget(self, run_id: str) -> bool:
        log = self._logs.get(run_id)
        if log is None or not log.record.ended:
            return False
        del self._logs[run_id]
        return True

    async def close(self) -> None:
        await asyncio.sleep(0)


def open_url(url: str, *, synchronous: str) -> MemoryJournal:
    """`memory://`; what `synchronous` says is moot here."""
    return MemoryJournal()
