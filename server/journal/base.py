"""The journal's protocol: the append-only log of runs' events, and no viewer sees an event that isn't in it.

Nothing here assumes one process. Redis Streams can implement it: a stream a run with the event's id as entry id,
a hash for the record, a Lua script for the conditions of `append`, pub/sub as the notification of `watch`.

A worked failure that `append`'s conditions prevent: a server stalls in the middle of a run and is taken for dead.
Its run goes on elsewhere as attempt 2, which appends events 8 and 9. The first server wakes and appends its own event
8. Without the fence, viewers of the first 8 and of the second would have different logs for ever.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from askstream.server.events import Usage

RunState: TypeAlias = Literal["running", "waiting", "completed", "failed", "cancelled"]

# Bytes of a read, and of a write to a viewer that is behind: few system calls, and still fair to other viewers.
READ_BYTES = 64 * 1024
# Seconds of running time that a record is kept after its log has expired: a late viewer gets 410, and doesn't wait.
RECORD_SECONDS = 7 * 24 * 3600
# Seconds that an idempotency key is held (transports/PROTOCOL.md, promise 5). Clients retry within minutes; a day also
# covers a nightly job.
KEY_SECONDS = 24 * 3600
# A count of tokens that nobody knows. The columns of earlier files are NOT NULL.
UNKNOWN: Final = -1


class Entry(NamedTuple):
    """An event as the log holds it: `line` is the encoded envelope; type and agent stand beside it for filters.

    A tuple, since reading a log creates tens of thousands: creating a frozen dataclass costs three times as much.
    """

    id: int
    event_type: str
    agent_name: str
    line: bytes


def first_bytes(entries: list[Entry], start: int, limit: int = READ_BYTES) -> list[Entry]:
    """Return the entries from `start` on, up to `limit` bytes of lines; at least one, if there is one."""
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


class Append(NamedTuple):
    """The arguments of `Journal.append`."""

    update: RunUpdate
    entries: Sequence[Entry]
    checkpoint: bytes | None


# The principal of all who need no token.
NOBODY = "anonymous"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """The facts about a run beside its events. Times are Unix seconds. `options` is the request's rest, as JSON.

    `prompt_tokens` and `completion_tokens` are UNKNOWN where the model's server didn't count them.
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
    def usage(self) -> Usage:
        return Usage(
            None if self.prompt_tokens == UNKNOWN else self.prompt_tokens,
            None if self.completion_tokens == UNKNOWN else self.completion_tokens,
        )

    @property
    def update(self) -> RunUpdate:
        return RunUpdate(*_UPDATED(self))

    def updated(self, to: RunUpdate) -> "RunRecord":
        """Return this record with a later update of the same run."""
        return replace(self, **to._asdict())


def tokens_of(usage: Usage) -> tuple[int, int]:
    """The two counts as a record has them."""
    return (
        UNKNOWN if usage.prompt_tokens is None else usage.prompt_tokens,
        UNKNOWN if usage.completion_tokens is None else usage.completion_tokens,
    )


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
    """The team's state after the event `last_id`, in the orchestrator's own form. A run can resume from it."""

    last_id: int
    state: bytes


@dataclass(frozen=True, slots=True)
class ListPosition:
    """The position in a listing, newest first: the next page has the runs that were created before this one."""

    created_at: float
    run_id: str


class Journal(Protocol):
    """`survives`: the log outlives this process, so that the next one can resume its runs.

    All methods raise JournalError when the store fails. A cancelled write may have happened or not.
    """

    survives: bool

    async def create(self, record: RunRecord, entries: Sequence[Entry]) -> RunRecord:
        """Begin a run's log. Return `record`, or the one that already holds its principal's `idempotency_key`.

        In that case nothing is written. Of any number of calls with one key exactly one writes.
        """
        ...

    async def by_idempotency_key(self, principal: str, idempotency_key: str, *, now: float) -> RunRecord | None:
        """Return the run that holds the key, as `create` would find it."""
        ...

    def append(
        self, update: RunUpdate, entries: Sequence[Entry], *, checkpoint: bytes | None = None
    ) -> Awaitable[None]:
        """Add `entries`, update the record, and save the checkpoint if one is given: all of it or nothing.

        The checkpoint belongs after the last of `entries`. An append that ends the run drops the checkpoint unless it
        brings one. That one stays until the log expires, or until a later run of its session ends with one.
        Done when all is durable. Raises Fenced if the log has a later attempt than `update.attempt`, and OutOfOrder if
        the first id doesn't follow the log's last.
        """
        ...

    async def claim(self, run_id: str) -> RunRecord | None:
        """Make the caller the run's only writer: raise its attempt. Return None if it is unknown or has ended."""
        ...

    async def read(self, run_id: str, after: int, *, limit: int = READ_BYTES) -> list[Entry]:
        """Return events after a cursor in id order, up to `limit` bytes of lines; at least one, if there is one."""
        ...

    def watch(self, run_id: str, after: int) -> AsyncIterator[Sequence[Entry]]:
        """Yield the events after a cursor as they become durable, from any writer. End after the terminal event."""
        ...

    async def record(self, run_id: str) -> RunRecord | None: ...

    async def checkpoint(self, run_id: str) -> Checkpoint | None:
        """Return the newest checkpoint; None if there is none, or the run's end has dropped it."""
        ...

    async def runs(
        self, principal: str | None, *, before: ListPosition | None = None, limit: int = 50
    ) -> list[RunRecord]:
        """Return a principal's runs, newest first: in the order of their creation, whatever their clock said. None:
        everybody's."""
        ...

    async def session(
        self, principal: str, session_id: str, *, before: ListPosition | None = None, limit: int = 50
    ) -> list[RunRecord]:
        """Return the runs of one session, newest first: as quickly if it has ten thousand as if it were new."""
        ...

    async def unfinished(self) -> list[RunRecord]:
        """Return the runs without a terminal event, oldest first."""
        ...

    async def forget(self, run_id: str) -> bool:
        """Delete a run that has ended, with its log. Return False if there is no such run; an active one stays."""
        ...

    async def compact(self, run_id: str) -> Size:
        """Drop the chunks of whole messages: their `agent_response` follows. Return the size of the rest.

        Only the run's writer may call it, between its appends. The other events stay, with their ids.
        """
        ...

    async def expire(self, *, now: float, running: float, keep_seconds: float, most_bytes: int) -> int:
        """Drop the logs of runs that ended `keep_seconds` ago, and the oldest ended ones while all exceed `most_bytes`.

        Time is that for which servers have run: `running` is how many seconds of it have passed since the last call. So
        a clock that jumps drops nothing. `now` only says when it happened. Never drop an active run's log. Also drop
        records whose log expired RECORD_SECONDS ago. Return the number of logs.
        """
        ...

    async def close(self) -> None:
        """Finish what was accepted. No call may follow."""
        ...


@runtime_checkable
class SupportsCheck(Protocol):
    """A journal that can find out whether it works, before a run needs it."""

    async def check(self, *, write: bool = False) -> None:
        """Raise JournalError if runs that are started now would be lost. `write`: find out by writing something."""
        ...


class ImmediateJournal(ABC):
    """A base class for a `Journal` that can also make appends durable within one call, without suspending.

    Optional: the first events of a burst become durable, and are shown, before the last ones are emitted.
    """

    @abstractmethod
    def write_now(self, appends: Sequence[Append]) -> Sequence[BaseException | None] | None:
        """Do as `append` does, with appends of different runs. Return the error of each, None for one that is durable.

        Return None, with nothing done, if that could hold up the event loop. `append` must then do it.
        """
