"""The journal: the append-only log of runs' events, behind one protocol, with a backend for each scheme of URL."""

from server.journal.base import READ_BYTES, Checkpoint, Entry, Head, Journal, Page, RunRecord, Size, State, first_bytes
from server.journal.stores import open_journal

__all__ = [
    "READ_BYTES",
    "Checkpoint",
    "Entry",
    "Head",
    "Journal",
    "Page",
    "RunRecord",
    "Size",
    "State",
    "first_bytes",
    "open_journal",
]
