"""The journal's protocol: the append-only log of runs' events, the only source that any viewer reads from.

Nothing here assumes one process. Redis Streams can implement it: a stream a run with the event's id as entry id,
a hash for the record, a Lua script for the conditions of `append`, pub/sub as the notification of `watch`.

A worked failure that `append`'s conditions prevent: a server stalls in the middle of a run, is given up for dead
and its run goes on elsewhere as attempt 2, which has appended events 8 and 9. The first server wakes and appends its
own event 8. Without the fence a viewer who saw the first 8 and one who saw the second could never agree again.
"""

from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Literal, NamedTuple, Protocol, TypeAlias

RunState: TypeAlias = Literal["running", "waiting", "completed", "failed", "cancelled"]

# One read, and one write to a lagging viewer: large enough to make system calls rare, small enough to be fair.
READ_BYTES = 64 * 1024
# How long the record of a run whose log has expired is kept, to tell a late viewer that there is nothing to wait for.
RECORD_SECONDS = 7 * 24 * 3600
# How long an idempotency key is held: contract section 5, promise 5. Clients retry within minutes; a day also covers a
# job that runs every night.
KEY_SECONDS = 24 * 3600


class Entry(NamedTuple):
    """An event as the log holds it: `line` is the encoded envelope; type and agent stand beside it for filters.

    A tuple, since reading a log makes them by the ten thousand: a frozen dataclass takes three times as long to make.
    """

    id: int
    event_type: str
    agent_name: str
    line: bytes


def first_bytes(entries: list[Entry], start: int, limit: int = READ_BYTES) -> list[Entry]:
    """The entries from `start` on, up to `limit` bytes of lines; at least one, if there is one."""
    size = 0
    for end in range(start, len(entries)):
        size += len(entries[end].line)
        if size > limit and end > start:
            return entries[start:end]
    return entries[start:]


class RunUpdate(NamedTuple):
    """The fields of a run's record that an append updates; RunRecord explains them. The others never change."""

    run_id: str
    attempt: int
    state: RunState
    progress: int
    last_id: int
    prompt_tokens: int
    completion_tokens: int
    log_events: int
    log_bytes: int
    ended_at: float | None
    digest: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """The facts about a run beside its events. Times are Unix seconds. `options` is the request's rest, as JSON.

    `log_events` and `log_bytes` measure what the journal still holds of the log, lines alone. A run whose log has
    expired keeps its record for a while, so that a late viewer gets 410 and not 404. `digest` is the SHA-256, in hex,
    over the event lines, each with its newline and chunks left out; None until the end.
    """

    run_id: str
    principal: str
    session_id: str
    question: str
    model: str
    created_at: float
    options: bytes = b"{}"
    idempotency_key: str | None = None
    fingerprint: str = ""
    attempt: int = 1
    state: RunState = "running"
    progress: int = 0
    last_id: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    log_events: int = 0
    log_bytes: int = 0
    ended_at: float | None = None
    expired_at: float | None = None
    digest: str | None = None

    @property
    def ended(self) -> bool:
        return self.ended_at is not None

    @property
    def update(self) -> RunUpdate:
        return RunUpdate(*_UPDATED(self))

    def updated(self, to: RunUpdate) -> "RunRecord":
        """This record with a later head of the same run."""
        return replace(self, **to._asdict())


_UPDATED = attrgetter(*RunUpdate._fields)


def holds_key(holder: RunRecord, now: float) -> bool:
    """Whether a request of the same principal with `holder`'s key, made now, has to join it."""
    return holder.created_at > now - KEY_SECONDS


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a log: events, and the bytes of their lines."""

    events: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The team's state after the event `last_id`, in the orchestrator's own form. A run can go on from it."""

    last_id: int
    state: bytes


@dataclass(frozen=True, slots=True)
class ListPosition:
    """The position in a listing, newest first: the next page has the runs before this one."""

    created_at: float
    run_id: str


class Journal(Protocol):
    """`survives` says whether the log outlives this process, so that a run can be left to the next one.

    All methods raise JournalError when the store fails. Cancelling a write leaves open whether it happened.
    """

    survives: bool

    async def create(self, record: RunRecord, entries: Sequence[Entry]) -> RunRecord:
        """Begins a run's log. Returns `record`, or the one that holds its principal's `idempotency_key` already.

        In that case nothing is written. Of any number of calls with one key exactly one writes.
        """
        ...

    async def by_idempotency_key(self, principal: str, idempotency_key: str, *, now: float) -> RunRecord | None:
        """The run that holds the key, as `create` would find it."""
        ...

    def append(
        self, update: RunUpdate, entries: Sequence[Entry], *, checkpoint: bytes | None = None
    ) -> Awaitable[None]:
        """Adds `entries` and moves the record to `update`, and the checkpoint if one is given, all of it or nothing.

        A checkpoint is taken after the last of `entries`.
        Done when that is durable. Raises Fenced where the log knows a later attempt than `update.attempt`, and
        OutOfOrder where the first id isn't the one after the log's last.
        """
        ...

    async def claim(self, run_id: str) -> RunRecord | None:
        """Makes the caller the run's only writer: counts its attempt up. None for one that is unknown or has ended."""
        ...

    async def read(self, run_id: str, after: int, *, limit: int = READ_BYTES) -> list[Entry]:
        """The events after a cursor in id order, at least one if there is one, else up to `limit` bytes of lines."""
        ...

    def watch(self, run_id: str, after: int) -> AsyncIterator[Sequence[Entry]]:
        """The events after a cursor as they become durable, whoever writes them. Ends after the terminal event."""
        ...

    async def record(self, run_id: str) -> RunRecord | None: ...

    async def checkpoint(self, run_id: str) -> Checkpoint | None:
        """The checkpoint that an append saved last; None if there was none."""
        ...

    async def runs(self, principal: str, *, before: ListPosition | None = None, limit: int = 50) -> list[RunRecord]:
        """A principal's runs, newest first."""
        ...

    async def session(self, principal: str, session_id: str) -> list[RunRecord]:
        """The runs of one session, oldest first."""
        ...

    async def unfinished(self) -> list[RunRecord]:
        """The runs without a terminal event, oldest first."""
        ...

    async def forget(self, run_id: str) -> bool:
        """Deletes a run that has ended, with its log. False where there is no such run; an active one stays."""
        ...

    async def compact(self, run_id: str) -> Size:
        """Drops the chunks of messages that are whole: each has its `agent_response` behind it. What is left.

        Only the run's writer may call it, between its appends. The other events stay where they are.
        """
        ...

    async def expire(self, *, now: float, ended_before: float, most_bytes: int) -> int:
        """Drops the logs of runs that ended before then, and of the oldest ended ones while all exceed `most_bytes`.

        Never those of an active run. Records whose log expired RECORD_SECONDS ago go as well. How many it dropped.
        """
        ...

    async def close(self) -> None:
        """Finishes what was accepted. No call may follow."""
        ...
