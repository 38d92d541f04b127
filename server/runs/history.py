"""Reads the past from the journal: a run's events, and a session's earlier questions and answers."""

from askstream.server.events import Completed, Event, decode
from askstream.server.journal import Journal, RunRecord
from askstream.server.runs.orchestrator import Exchange

# Earlier exchanges that a team gets. A follow-up refers to the last few; more would crowd a model's context.
EXCHANGES = 8


async def events(journal: Journal, run_id: str, after: int = 0) -> list[Event]:
    """Return a run's events after a cursor, without chunks."""
    found: list[Event] = []
    while entries := await journal.read(run_id, after):
        after = entries[-1].id
        found += [decode(entry.line) for entry in entries if entry.event_type != "agent_chunk"]
    return found


async def earlier_exchanges(journal: Journal, record: RunRecord) -> tuple[Exchange, ...]:
    """Return the session's exchanges before this run, oldest first, without runs that failed or were stopped."""
    runs = await journal.session(record.principal, record.session_id)
    earlier = [run for run in runs if run.state == "completed" and run.created_at <= record.created_at]
    exchanges: list[Exchange] = []
    for run in earlier[-EXCHANGES:]:
        last = await events(journal, run.run_id, run.last_id - 1)
        if last and isinstance(last[0].body, Completed):
            exchanges.append(Exchange(question=run.question, answer=last[0].body.final_response))
    return tuple(exchanges)
