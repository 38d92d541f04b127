"""The promises of every journal, checked over all of them; and the kit finds each broken promise."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from askstream.server.events.errors import OutOfOrder
from askstream.server.journal import READ_BYTES, Entry, Journal, ListPosition, RunRecord, RunUpdate, Size, open_journal
from askstream.server.journal.conformance import JournalConformance
from askstream.server.journal.memory import MemoryJournal
from tests.conformance.journals import Yielding


class TestMemory(JournalConformance):
    async def open(self, folder: Path) -> Journal:
        return open_journal("memory://")


class TestSqlite(JournalConformance):
    async def open(self, folder: Path) -> Journal:
        return open_journal(f"sqlite:///{folder / 'j.db'}")


class TestYieldingMemory(JournalConformance):
    async def open(self, folder: Path) -> Journal:
        return cast(Journal, Yielding(open_journal("memory://")))


class TestYieldingSqlite(JournalConformance):
    async def open(self, folder: Path) -> Journal:
        return cast(Journal, Yielding(open_journal(f"sqlite:///{folder / 'j.db'}")))


class Unfenced(MemoryJournal):
    async def append(self, update: RunUpdate, entries: Sequence[Entry], *, checkpoint: bytes | None = None) -> None:
        if update.run_id in self._logs:
            log = self._logs[update.run_id]
            log.record = replace(log.record, attempt=update.attempt)
        await super().append(update, entries, checkpoint=checkpoint)


class Patient(MemoryJournal):
    """Ignores an append that leaves a gap, as if it were a repeated one."""

    async def append(self, update: RunUpdate, entries: Sequence[Entry], *, checkpoint: bytes | None = None) -> None:
        try:
            await super().append(update, entries, checkpoint=checkpoint)
        except OutOfOrder:
            return


class Halfway(MemoryJournal):
    """Keeps half of an append that is refused."""

    async def append(self, update: RunUpdate, entries: Sequence[Entry], *, checkpoint: bytes | None = None) -> None:
        try:
            await super().append(update, entries, checkpoint=checkpoint)
        except OutOfOrder:
            self._logs[update.run_id].entries.extend(entries)
            raise


class Forgetful(MemoryJournal):
    """Loses the checkpoint with the next append."""

    async def append(self, update: RunUpdate, entries: Sequence[Entry], *, checkpoint: bytes | None = None) -> None:
        await super().append(update, entries, checkpoint=checkpoint)
        if checkpoint is None:
            self._logs[update.run_id].checkpoint = None


class Tidy(MemoryJournal):
    """Drops every checkpoint of a run that has ended."""

    async def append(self, update: RunUpdate, entries: Sequence[Entry], *, checkpoint: bytes | None = None) -> None:
        await super().append(update, entries, checkpoint=None if update.ended_at else checkpoint)


class Untidy(MemoryJournal):
    """Keeps the checkpoint of a run that has ended without one."""

    async def append(self, update: RunUpdate, entries: Sequence[Entry], *, checkpoint: bytes | None = None) -> None:
        last = await self.checkpoint(update.run_id)
        await super().append(update, entries, checkpoint=checkpoint)
        if update.ended_at and checkpoint is None:
            self._logs[update.run_id].checkpoint = last


class Generous(MemoryJournal):
    async def claim(self, run_id: str) -> RunRecord | None:
        return await super().claim(run_id) or await self.record(run_id)


class Unbounded(MemoryJournal):
    async def read(self, run_id: str, after: int, *, limit: int = READ_BYTES) -> list[Entry]:
        return await super().read(run_id, after)


class Repeating(MemoryJournal):
    async def watch(self, run_id: str, after: int) -> AsyncIterator[Sequence[Entry]]:
        async for found in super().watch(run_id, max(0, after - 1)):
            yield found


class EverybodysKeys(MemoryJournal):
    async def by_idempotency_key(self, principal: str, idempotency_key: str, *, now: float) -> RunRecord | None:
        found = [
            await MemoryJournal.by_idempotency_key(self, each, idempotency_key, now=now) for each in ("p", "other")
        ]
        return next((each for each in found if each is not None), None)


class Indiscreet(MemoryJournal):
    async def session(
        self, principal: str, session_id: str, *, before: ListPosition | None = None, limit: int = 50
    ) -> list[RunRecord]:
        return self._newest(lambda record: record.session_id == session_id, before, limit)


class Chronological(MemoryJournal):
    """Trusts the machine's clock for the order of a session."""

    async def session(
        self, principal: str, session_id: str, *, before: ListPosition | None = None, limit: int = 50
    ) -> list[RunRecord]:
        found = await super().session(principal, session_id, before=before, limit=limit)
        return sorted(found, key=lambda record: -record.created_at)


class OldestFirst(MemoryJournal):
    async def runs(
        self, principal: str | None, *, before: ListPosition | None = None, limit: int = 50
    ) -> list[RunRecord]:
        return (await super().runs(principal, before=before, limit=limit))[::-1]


class Careless(MemoryJournal):
    async def forget(self, run_id: str) -> bool:
        return self._logs.pop(run_id, None) is not None


class Greedy(MemoryJournal):
    async def compact(self, run_id: str) -> Size:
        log = self._logs[run_id]
        log.entries = [entry for entry in log.entries if entry.event_type != "agent_chunk"]
        return await super().compact(run_id)


class Hoarding(MemoryJournal):
    async def expire(self, *, now: float, running: float, keep_seconds: float, most_bytes: int) -> int:
        return 0


class Jumpy(MemoryJournal):
    """Trusts the machine's clock for the age of logs."""

    async def expire(self, *, now: float, running: float, keep_seconds: float, most_bytes: int) -> int:
        ages = [now - (log.record.ended_at or now) for log in self._logs.values()]
        is_old = max(ages, default=0) > keep_seconds
        return await super().expire(
            now=now, running=running + is_old * 1e9, keep_seconds=keep_seconds, most_bytes=most_bytes
        )


class Backward(MemoryJournal):
    """Trusts the machine's clock for the order in which logs go."""

    async def expire(self, *, now: float, running: float, keep_seconds: float, most_bytes: int) -> int:
        self._logs = dict(sorted(self._logs.items(), key=lambda item: item[1].record.ended_at or 0))
        for number, log in enumerate(self._logs.values()):
            log.number = number
        return await super().expire(now=now, running=running, keep_seconds=keep_seconds, most_bytes=most_bytes)


class Mortal(MemoryJournal):
    """Claims to survive."""

    survives = True


class Finished(MemoryJournal):
    async def unfinished(self) -> list[RunRecord]:
        return []


BROKEN = [
    Unfenced, Patient, Halfway, Forgetful, Generous, Unbounded, Repeating, EverybodysKeys, Indiscreet, OldestFirst,
    Careless, Greedy, Hoarding, Mortal, Finished, Tidy, Untidy,
    Chronological, Jumpy, Backward,
]  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_the_kit_finds_a_broken_promise(kind: type[MemoryJournal]) -> None:
    """Each of these journals breaks one promise."""

    class Tests(JournalConformance):
        async def open(self, folder: Path) -> Journal:
            return kind()

    tests = Tests()
    checks: list[Callable[[], None]] = [getattr(tests, name) for name in dir(tests) if name.startswith("test_")]
    assert len(checks) > 15
    assert [check for check in checks if _fails(check)]


def _fails(check: Callable[[], None]) -> bool:
    try:
        check()
    except AssertionError:
        return True
    return False
