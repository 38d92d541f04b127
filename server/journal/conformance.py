"""The promises of every journal, as tests for one of your own. The server never imports this.

    class TestMyJournal(JournalConformance):
        async def open(self, folder: Path) -> Journal:
            return MyJournal(folder / "journal")

pytest collects the class without a plug-in; so does unittest, if it also inherits from `unittest.TestCase`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

from askstream.server.events.errors import Fenced, JournalError, OutOfOrder
from askstream.server.journal.base import (
    RECORD_SECONDS,
    Checkpoint,
    Entry,
    Journal,
    ListPosition,
    RunRecord,
    RunUpdate,
    Size,
)

# A timeout for failures: each check takes a moment.
SECONDS = 60
_MEGABYTE, _PLENTY = 1_000_000, 2**30

Check: TypeAlias = Callable[["JournalConformance", Journal], Awaitable[None]]


def record(run_id: str = "r", **changes: Any) -> RunRecord:
    return replace(
        RunRecord(run_id=run_id, principal="p", session_id="s", question="q", model="m", created_at=1000.0), **changes
    )


def update(run_id: str = "r", **changes: Any) -> RunUpdate:
    """Return the update for an append to that record."""
    return record(run_id, **changes).update


def entry(number: int, event_type: str = "agent_thinking", *, size: int = 10) -> Entry:
    return Entry(number, event_type, "A", (b"%d" % number).ljust(size, b"."))


def entries(first: int, last: int, *, size: int = 10) -> list[Entry]:
    return [entry(number, size=size) for number in range(first, last + 1)]


def chunk(number: int, agent: str = "A") -> Entry:
    return Entry(number, "agent_chunk", agent, b"%d" % number)


async def _end_runs(journal: Journal, run_ids: str, *, size: int) -> None:
    """Create a run for each letter, and end it. The clock is set back between any two."""
    for number, run_id in enumerate(run_ids):
        started = record(run_id, session_id=run_id, last_id=1, log_bytes=size, log_events=1)
        await journal.create(started, [entry(1, size=size)])
        done = replace(started, last_id=2, ended_at=100.0 - number, state="completed")
        await journal.append(done.update, [entry(2, "completed")])


async def _expire(
    journal: Journal, *, now: float = 50.0, running: float = 1, keep: float = 1000, most_bytes: int = 2**30
) -> int:
    return await journal.expire(now=now, running=running, keep_seconds=keep, most_bytes=most_bytes)


def _promise(check: Check) -> Callable[["JournalConformance"], None]:
    """Make a test that checks one promise on a fresh journal."""

    def test(self: "JournalConformance") -> None:
        with TemporaryDirectory() as folder:
            asyncio.run(_keeps(self, check, Path(folder)))

    test.__name__, test.__qualname__, test.__doc__ = check.__name__, check.__qualname__, check.__doc__
    return test


async def _keeps(tests: "JournalConformance", check: Check, folder: Path) -> None:
    async with asyncio.timeout(SECONDS):
        journal = await tests.open(folder)
        try:
            await check(tests, journal)
        finally:
            await journal.close()


def _expect(got: object, expected: object) -> None:
    if got != expected:
        raise AssertionError(f"expected {expected!r}, got {got!r}")


@contextmanager
def _raises(error: type[JournalError]) -> Generator[None]:
    try:
        yield
    except error:
        return
    raise AssertionError(f"expected {error.__name__} to be raised")


class JournalConformance:
    """One test for each promise. `open` is yours."""

    async def open(self, folder: Path) -> Journal:
        """Open the journal of this folder: empty for an empty folder, the same one for the same folder.

        Each test has a folder of its own, and deletes it.
        """
        raise NotImplementedError

    @_promise
    async def test_appended_events_are_read_back_in_order_from_any_cursor(self, journal: Journal) -> None:
        """The record moves with them."""
        await journal.create(record(last_id=1), entries(1, 1))
        await journal.append(update(last_id=5, progress=50), entries(2, 5))
        for cursor in range(6):
            _expect(await journal.read("r", cursor), entries(cursor + 1, 5))
        _expect(await journal.record("r"), record(last_id=5, progress=50))

    @_promise
    async def test_a_read_is_bounded_and_never_empty_before_the_end(self, journal: Journal) -> None:
        """A viewer far behind reads in pieces, and each piece advances it, however small the bound."""
        await journal.create(record(last_id=9), entries(1, 9, size=100))
        _expect([e.id for e in await journal.read("r", 0, limit=350)], [1, 2, 3])
        _expect([e.id for e in await journal.read("r", 3, limit=1)], [4])
        _expect(await journal.read("r", 9), [])

    @_promise
    async def test_an_append_that_leaves_a_hole_or_repeats_is_refused_whole(self, journal: Journal) -> None:
        """Ids are contiguous for every writer."""
        await journal.create(record(last_id=2), entries(1, 2))
        for first in (2, 4):
            with _raises(OutOfOrder):
                await journal.append(update(last_id=first, state="failed"), entries(first, first))
        _expect(await journal.read("r", 0), entries(1, 2))
        _expect(await journal.record("r"), record(last_id=2))

    @_promise
    async def test_an_append_updates_all_fields_of_the_record(self, journal: Journal) -> None:
        """Each field has its own value, so that none is mistaken for another. The other fields don't change."""
        await journal.create(record(attempt=3), [])
        moved = update(
            attempt=3, state="completed", progress=11, last_id=1, prompt_tokens=12, completion_tokens=13, log_events=14,
            log_bytes=15, ended_at=16.0, digest="d",
        )  # fmt: skip
        await journal.append(moved, entries(1, 1))
        _expect(await journal.record("r"), record().updated(moved))

    @_promise
    async def test_an_earlier_attempt_can_write_no_more(self, journal: Journal) -> None:
        """The fence refuses events, checkpoint and record of a server that was taken for dead."""
        await journal.create(record(last_id=1), entries(1, 1))
        _expect(await journal.claim("r"), record(last_id=1, attempt=2))
        with _raises(Fenced):
            await journal.append(update(last_id=2), entries(2, 2), checkpoint=b"old")
        await journal.append(update(last_id=2, attempt=2), entries(2, 2))
        _expect(await journal.read("r", 0), entries(1, 2))
        _expect(await journal.checkpoint("r"), None)

    @_promise
    async def test_a_run_that_has_ended_or_never_was_cannot_be_claimed(self, journal: Journal) -> None:
        """No server resumes a run that is finished."""
        await journal.create(record(last_id=1), entries(1, 1))
        await journal.append(update(last_id=2, state="completed", ended_at=5.0), [entry(2, "completed")])
        _expect(await journal.claim("r"), None)
        _expect(await journal.claim("unknown"), None)
        _expect(await journal.record("r"), record(last_id=2, state="completed", ended_at=5.0))

    @_promise
    async def test_a_checkpoint_goes_with_its_events_and_stays_until_the_next(self, journal: Journal) -> None:
        """It names the event that it belongs after; an append without a checkpoint keeps it."""
        await journal.create(record(last_id=1), entries(1, 1))
        _expect(await journal.checkpoint("r"), None)
        await journal.append(update(last_id=3), entries(2, 3), checkpoint=b"first")
        await journal.append(update(last_id=4), entries(4, 4))
        _expect(await journal.checkpoint("r"), Checkpoint(3, b"first"))
        await journal.append(update(last_id=4), [], checkpoint=b"second")
        _expect(await journal.checkpoint("r"), Checkpoint(4, b"second"))

    @_promise
    async def test_the_end_of_a_run_drops_its_checkpoint_unless_it_brings_one(self, journal: Journal) -> None:
        """The session's next run begins with that one. A run that is still active keeps its own."""
        for run_id, session_id in (("a", "s"), ("b", "s"), ("c", "other"), ("active", "s")):
            await journal.create(record(run_id, session_id=session_id, last_id=1), entries(1, 1))
            await journal.append(
                update(run_id, session_id=session_id, last_id=2), entries(2, 2), checkpoint=run_id.encode()
            )
        for run_id, left in (("c", b"of c"), ("b", b"of b"), ("a", None)):
            done = update(run_id, last_id=3, ended_at=5.0, state="completed")
            await journal.append(done, [entry(3, "completed")], checkpoint=left)
        found = {run_id: await journal.checkpoint(run_id) for run_id in ("a", "b", "c", "active")}
        _expect(
            found,
            {
                "a": None,
                "b": Checkpoint(3, b"of b"),
                "c": Checkpoint(3, b"of c"),
                "active": Checkpoint(2, b"active"),
            },
        )

    @_promise
    async def test_a_checkpoint_goes_with_its_log(self, journal: Journal) -> None:
        """When that expires or is forgotten."""
        for number, run_id in enumerate("ab"):
            await journal.create(record(run_id, session_id=run_id, last_id=1), entries(1, 1))
            done = update(run_id, last_id=2, ended_at=float(number), state="completed")
            await journal.append(done, [entry(2, "completed")], checkpoint=b"left")
            _expect(await journal.expire(now=50.0, running=2.0, keep_seconds=2.0, most_bytes=_PLENTY), number)
        await journal.forget("b")
        _expect([await journal.checkpoint(run_id) for run_id in "ab"], [None, None])

    @_promise
    async def test_one_key_starts_one_run(self, journal: Journal) -> None:
        """Of a hundred equal requests at once one starts a run, and all get that run."""
        asked = [record(f"r{n}", idempotency_key="k") for n in range(100)]
        got = await asyncio.gather(*(journal.create(each, []) for each in asked))
        _expect(len({each.run_id for each in got}), 1)
        _expect(len(await journal.runs("p", limit=200)), 1)

    @_promise
    async def test_a_key_binds_one_principal_for_a_day(self, journal: Journal) -> None:
        """Another principal's key is another key, and so is the same key a day later."""
        day = 24 * 3600
        first = record("a", idempotency_key="k")
        _expect(await journal.create(first, []), first)
        for other in (
            record("b", idempotency_key="k", principal="other"),
            record("c", idempotency_key="other"),
            record("d", idempotency_key=None),
            record("e", idempotency_key=None),
            record("f", idempotency_key="k", created_at=1000.0 + day),
        ):
            _expect(await journal.create(other, []), other)
        late = record("g", idempotency_key="k", created_at=1000.0 + 2 * day - 1)
        _expect((await journal.create(late, [])).run_id, "f")

    @_promise
    async def test_a_key_leads_to_the_run_that_holds_it(self, journal: Journal) -> None:
        """The holder is the run that `create` returns."""
        await journal.create(record("a", idempotency_key="k"), [])
        _expect(await journal.by_idempotency_key("p", "k", now=1000.0), record("a", idempotency_key="k"))
        _expect(await journal.by_idempotency_key("p", "other", now=1000.0), None)
        _expect(await journal.by_idempotency_key("other", "k", now=1000.0), None)
        _expect(await journal.by_idempotency_key("p", "k", now=1000.0 + 24 * 3600), None)

    @_promise
    async def test_runs_are_listed_newest_first_and_page_by_page(self, journal: Journal) -> None:
        """Every run once, in the order of creation: a clock that is set back makes no run older."""
        for number in range(7):
            await journal.create(record(f"r{number}", created_at=float(number // 3 if number < 6 else 0)), [])
        await journal.create(record("other", principal="other"), [])
        seen: list[str] = []
        before: ListPosition | None = None
        while page := await journal.runs("p", before=before, limit=2):
            seen += [each.run_id for each in page]
            before = ListPosition(page[-1].created_at, page[-1].run_id)
        _expect(seen, ["r6", "r5", "r4", "r3", "r2", "r1", "r0"])

    @_promise
    async def test_a_listing_goes_on_behind_a_run_that_was_forgotten_meanwhile(self, journal: Journal) -> None:
        """No other run is left out or repeated."""
        for number in range(4):
            await journal.create(record(f"r{number}", created_at=float(number), last_id=1), entries(1, 1))
        done = update("r2", created_at=2.0, last_id=2, ended_at=9.0, state="completed")
        await journal.append(done, [entry(2, "completed")])
        await journal.forget("r2")
        for found in (
            await journal.runs("p", before=ListPosition(2.0, "r2")),
            await journal.session("p", "s", before=ListPosition(2.0, "r2")),
        ):
            _expect([each.run_id for each in found], ["r1", "r0"])

    @_promise
    async def test_everybodys_runs_are_listed_for_an_administrator(self, journal: Journal) -> None:
        """Newest first, from any page on."""
        for number, principal in enumerate(("p", "q", "p")):
            await journal.create(record(f"r{number}", principal=principal, created_at=float(number)), [])
        _expect([each.run_id for each in await journal.runs(None)], ["r2", "r1", "r0"])
        older = await journal.runs(None, before=ListPosition(2.0, "r2"), limit=1)
        _expect([each.run_id for each in older], ["r1"])

    @_promise
    async def test_unfinished_runs_are_listed_oldest_first(self, journal: Journal) -> None:
        """A server that starts resumes them in the order of their creation."""
        for number in (3, 1, 2):
            await journal.create(record(f"r{number}", created_at=float(number), last_id=1), entries(1, 1))
        await journal.append(
            update("r1", created_at=1.0, last_id=2, ended_at=9.0, state="cancelled"), [entry(2, "cancelled")]
        )
        _expect([each.run_id for each in await journal.unfinished()], ["r3", "r2"])

    @_promise
    async def test_only_a_run_that_has_ended_can_be_forgotten(self, journal: Journal) -> None:
        """Its events and record go with it; other runs stay."""
        await journal.create(record("a", last_id=1), entries(1, 1))
        await journal.create(record("b", last_id=1), entries(1, 1))
        _expect(await journal.forget("a"), False)
        await journal.append(update("a", last_id=2, ended_at=5.0, state="completed"), [entry(2, "completed")])
        _expect(await journal.forget("a"), True)
        _expect(await journal.forget("a"), False)
        _expect(await journal.record("a"), None)
        _expect(await journal.read("a", 0), [])
        _expect(await journal.read("b", 0), entries(1, 1))

    @_promise
    async def test_watching_gives_everything_from_the_cursor_to_the_terminal_event(self, journal: Journal) -> None:
        """Present and later events come once each; then the watch ends."""
        await journal.create(record(last_id=2), entries(1, 2))
        seen: list[int] = []

        async def watch() -> None:
            async for found in journal.watch("r", 1):
                seen.extend(each.id for each in found)

        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            group.create_task(watch())
            for number in range(3, 30):
                await journal.append(update(last_id=number), entries(number, number))
                if number % 7 == 0:
                    await asyncio.sleep(0)
            await journal.append(update(last_id=30, ended_at=5.0), [entry(30, "completed")])
        _expect(seen, list(range(2, 31)))

    @_promise
    async def test_a_cancelled_watcher_affects_no_other(self, journal: Journal) -> None:
        """The other watchers still get the next event."""
        await journal.create(record(last_id=1), entries(1, 1))

        async def watch() -> list[int]:
            return [each.id async for found in journal.watch("r", 0) for each in found]

        async with asyncio.timeout(10):
            gives_up, stays = asyncio.create_task(watch()), asyncio.create_task(watch())
            for _ in range(50):
                await asyncio.sleep(0)
            gives_up.cancel()
            await asyncio.wait({gives_up})
            await journal.append(update(last_id=2, ended_at=5.0), [entry(2, "completed")])
            _expect(await stays, [1, 2])

    @_promise
    async def test_compaction_drops_only_the_chunks_of_whole_messages(self, journal: Journal) -> None:
        """Chunks of an unfinished message stay, and so does every other event, with its id."""
        log = [entry(1), chunk(2), chunk(3, "B"), entry(4, "agent_response"), chunk(5), entry(6)]
        await journal.create(record(last_id=6), log)
        left = [entry(1), chunk(3, "B"), entry(4, "agent_response"), chunk(5), entry(6)]
        _expect(await journal.compact("r"), Size(5, sum(len(each.line) for each in left)))
        for cursor in range(7):
            _expect(await journal.read("r", cursor), [each for each in left if each.id > cursor])
        await journal.append(update(last_id=7), [entry(7)])
        _expect([each.id for each in await journal.read("r", 4)], [5, 6, 7])

    @_promise
    async def test_logs_expire_by_running_time_whatever_the_clock_says(self, journal: Journal) -> None:
        """The record stays for a while and says so. A clock that jumps by years drops nothing."""
        await _end_runs(journal, "a", size=10)
        _expect(await _expire(journal, running=10, keep=100), 0)
        await _end_runs(journal, "b", size=10)
        _expect(await _expire(journal, running=99, keep=100), 0)
        _expect(await _expire(journal, now=1e12, running=0, keep=100), 0)
        _expect(await _expire(journal, now=50.0, running=1, keep=100), 1)
        _expect([len(await journal.read(run_id, 0)) for run_id in "ab"], [0, 2])
        expired = await journal.record("a")
        assert expired is not None  # for type checkers
        _expect((expired.expired_at, expired.log_bytes, expired.state), (50.0, 0, "completed"))
        _expect(await _expire(journal, running=RECORD_SECONDS - 1, keep=2 * RECORD_SECONDS), 0)
        _expect(await journal.record("a"), expired)
        _expect(await _expire(journal, running=1, keep=2 * RECORD_SECONDS), 0)
        _expect([await journal.record(run_id) is not None for run_id in "ab"], [False, True])

    @_promise
    async def test_logs_expire_by_size_and_never_an_active_one(self, journal: Journal) -> None:
        """The first of those that ended meanwhile go first, even if a clock was set back between them.

        A journal may count what its files have, and keep an eighth of the bound free.
        """
        await journal.create(record("active", last_id=1, log_bytes=_MEGABYTE), [entry(1, size=_MEGABYTE)])
        await _end_runs(journal, "abcd", size=_MEGABYTE)
        _expect(await _expire(journal, most_bytes=_PLENTY), 0)
        _expect(await _expire(journal, most_bytes=3_600_000), 2)
        _expect(await _expire(journal, most_bytes=3_600_000), 0)
        left = [len(await journal.read(run_id, 0, limit=2 * _MEGABYTE)) for run_id in ("active", *"abcd")]
        _expect(left, [1, 0, 0, 2, 2])
        _expect(await _expire(journal, most_bytes=1_600_000), 2)
        _expect(len(await journal.read("active", 0)), 1)

    @_promise
    async def test_a_session_lists_its_runs_newest_first_and_page_by_page(self, journal: Journal) -> None:
        """Only those of its principal, in the order of creation."""
        for number in (2, 0, 1):
            await journal.create(record(f"r{number}", created_at=float(number)), [])
        await journal.create(record("other session", session_id="t"), [])
        await journal.create(record("other principal", principal="q"), [])
        _expect([each.run_id for each in await journal.session("p", "s")], ["r1", "r0", "r2"])
        _expect([each.run_id for each in await journal.session("p", "s", limit=2)], ["r1", "r0"])
        second = await journal.session("p", "s", before=ListPosition(0.0, "r0"), limit=2)
        _expect([each.run_id for each in second], ["r2"])

    @_promise
    async def test_an_unknown_run_has_no_record_and_no_events(self, journal: Journal) -> None:
        """Reading it is no error."""
        _expect(await journal.record("unknown"), None)
        _expect(await journal.read("unknown", 0), [])
        with _raises(JournalError):
            await journal.append(update("unknown"), entries(1, 1))

    def test_a_journal_that_survives_has_all_when_it_is_opened_again(self) -> None:
        """Events, record and checkpoint, if the journal's `survives` is true."""
        with TemporaryDirectory() as folder:
            asyncio.run(self._survives(Path(folder)))

    async def _survives(self, folder: Path) -> None:
        journal = await self.open(folder)
        await journal.create(record(last_id=1), entries(1, 1))
        await journal.append(update(last_id=3, progress=50), entries(2, 3), checkpoint=b"state")
        await journal.close()
        if journal.survives:
            again = await self.open(folder)
            _expect(await again.read("r", 0), entries(1, 3))
            _expect(await again.unfinished(), [record(last_id=3, progress=50)])
            _expect(await again.checkpoint("r"), Checkpoint(3, b"state"))
            await again.close()
