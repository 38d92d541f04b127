"""Reads the past from the journal: a run's events, and what a session's next run has of the earlier ones."""

import logging
from dataclasses import dataclass

from askstream.server.events import Completed, Event, decode
from askstream.server.journal import Journal, ListPosition, RunRecord
from askstream.server.runs.orchestrator import Exchange

log = logging.getLogger("__main__")

# Earlier exchanges that a team gets. A follow-up refers to the last few; more would crowd a model's context.
EXCHANGES = 8
# Runs of a session that are looked through for these, failed ones included.
SEARCHED = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A session's exchanges before a run, oldest first, and the session state from the last of these runs."""

    exchanges: tuple[Exchange, ...] = ()
    state: bytes | None = None


async def events(journal: Journal, run_id: str, after: int = 0, *, only: str | None = None) -> list[Event]:
    """Return a run's events after a cursor: all but chunks, or one type. Raises ValueError if one is damaged."""
    found: list[Event] = []
    while entries := await journal.read(run_id, after):
        after = entries[-1].id
        kept = (e for e in entries if (e.event_type != "agent_chunk" if only is None else e.event_type == only))
        found += [decode(entry.line) for entry in kept]
    return found


async def earlier(journal: Journal, record: RunRecord) -> Past:
    """Return the session's past before this run, without runs that failed or were stopped."""
    completed = await _completed(journal, record)
    exchanges: list[Exchange] = []
    for run in completed:
        try:
            last = await events(journal, run.run_id, run.last_id - 1)
        except ValueError:
            log.exception("run=%s can't be read: its session goes on without it", run.run_id)
            continue
        if last and isinstance(last[0].body, Completed):
            exchanges.append(Exchange(question=run.question, answer=last[0].body.final_response))
    left = await journal.checkpoint(completed[-1].run_id) if completed else None
    return Past(exchanges=tuple(exchanges), state=left.state if left else None)


async def _completed(journal: Journal, record: RunRecord) -> list[RunRecord]:
    """Return the last EXCHANGES completed runs before `record`, oldest first. Look no further back than SEARCHED."""
    found: list[RunRecord] = []
    position = ListPosition(record.created_at, record.run_id)
    for _ in range(SEARCHED // EXCHANGES):
        page = await journal.session(record.principal, record.session_id, before=position, limit=EXCHANGES)
        found += (run for run in page if run.state == "completed")
        if len(page) < EXCHANGES or len(found) >= EXCHANGES:
            break
        position = ListPosition(page[-1].created_at, page[-1].run_id)
    return found[:EXCHANGES][::-1]
