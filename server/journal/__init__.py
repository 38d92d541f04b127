"""The journal: the append-only log of runs' events, behind one protocol, with a backend for each scheme of URL."""

from askstream.server.journal.backends import open_journal
from askstream.server.journal.base import (
    NOBODY,
    READ_BYTES,
    UNKNOWN,
    Append,
    Checkpoint,
    Entry,
    ImmediateJournal,
    Journal,
    ListPosition,
    RunRecord,
    RunState,
    RunUpdate,
    Size,
    SupportsCheck,
    first_bytes,
    holds_key,
    tokens_of,
)

__all__ = [
    "NOBODY",
    "READ_BYTES",
    "UNKNOWN",
    "Append",
    "Checkpoint",
    "Entry",
    "ImmediateJournal",
    "Journal",
    "ListPosition",
    "RunRecord",
    "RunState",
    "RunUpdate",
    "Size",
    "SupportsCheck",
    "first_bytes",
    "holds_key",
    "open_journal",
    "tokens_of",
]
