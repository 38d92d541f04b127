"""The next events of a run for one viewer, with its filter applied."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from askstream.server.events import TERMINAL_TYPES, Filter, Gap
from askstream.server.events.cursor import place
from askstream.server.journal import Entry


class Batch(NamedTuple):
    """The items that a viewer gets at once, in order. `cursor` is the last id passed, hidden events included.

    A `Gap` stands for events that this viewer asked for and that the journal no longer has. `hidden`: the newest event,
    no chunk, is hidden from this viewer: send it the cursor. `ended`: the log is complete, and the viewer has passed
    all of it. `drained`: this server is going away; ask another for what comes next.
    """

    items: Sequence[Entry | Gap]
    cursor: int
    hidden: bool = False
    ended: bool = False
    drained: bool = False

    @property
    def entries(self) -> list[Entry]:
        return [item for item in self.items if isinstance(item, Entry)]

    @property
    def has_news(self) -> bool:
        return bool(self.items or self.hidden or self.ended or self.drained)


def batch_of(found: Sequence[Entry], cursor: int, wanted: Filter) -> Batch:
    """Return the batch for a viewer at `cursor`. `found` are the entries that follow it, one or more."""
    newest = found[-1]
    items: Sequence[Entry | Gap]
    if len(found) == 1:
        items = found if wanted.wants(newest.event_type, newest.agent_name) else []
    elif wanted.wants_all({entry.event_type for entry in found}):
        items = found
    else:
        items = [entry for entry in found if wanted.wants(entry.event_type, entry.agent_name)]
    # Only chunks are ever dropped from a log that is still kept: a viewer that doesn't want them misses nothing.
    if newest.id - cursor != len(found) and wanted.wants_chunks:
        items = list(_with_gaps(found, cursor, wanted))
    # Hidden chunks alone send no cursor: they come by the hundred, and their agent's response follows.
    hidden = (not items or items[-1] is not newest) and newest.event_type != "agent_chunk"
    return Batch(items, newest.id, hidden, ended=newest.event_type in TERMINAL_TYPES)


def _with_gaps(found: Sequence[Entry], cursor: int, wanted: Filter) -> Iterator[Entry | Gap]:
    for entry in found:
        if place(cursor, entry.id) == "gap":
            yield Gap(from_=cursor + 1, to=entry.id - 1, reason="trimmed")
        if wanted.wants(entry.event_type, entry.agent_name):
            yield entry
        cursor = entry.id
