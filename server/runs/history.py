"""Reads the past from the journal: a run's events, and a session's earlier questions and answers."""

import logging

from askstream.server.events import Completed, Event, decode
from askstream.server.journal import Journal, RunRecord
from askstream.server.runs.orchestrator import Exchange

log = logging.getLogger("__main__")

# Earlier exchanges that a team gets. A follow-up refers to the last few; more would crowd a model's context.
EXCHANGES = 8


async def events(journal: Journal, run_id: str, after: int = 0, *, only: str | None = None) -> list[Event]:
    """Return a run's events after a cursor: all but chunks, or one type. Raises ValueError if one is damaged."""
    found: list[Event] = []
    while entries := await journal.read(run_id, after):
        after = entries[-1].id
        kept = (e for e in entries if (e.event_type != "agent_chunk" if only is None else e.event_type == only))
        found += [decode(entry.line) for entry in kept]
    return found


async def earlier_exchanges(journal: Journal, record: RunRecord) -> tuple[Exchange, ...]:
    """Return the session's exchanges before this run, oldest first, without runs that failed or were stopped."""
    runs = await journal.session(record.principal, record.session_id)
    earlier = [run for run in runs if run.state == "completed" and run.created_at <= record.created_at]
    exchanges: list[Exchange] = []
    for run in earlier[-EXCHANGES:]:
        try:
            last = await events(journal, run.run_id, run.last_id - 1)
        except ValueError:
            log.exception("run=%s can't be read: its session goes on without it", run.run_id)
            continue
        if last and isinstance(last[0].body, Completed):
            exchanges.append(Exchange(question=run.question, answer=last[0].body.final_response))
    return tuple(exchanges)
