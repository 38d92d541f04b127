"""A viewer's place in a log: the `id` of the last event it has seen, 0 before the first."""

from typing import Literal, TypeAlias

Place: TypeAlias = Literal["new", "seen", "gap"]


def place(cursor: int, event_id: int) -> Place:
    """Return the place of `event_id` for a viewer that has seen everything up to `cursor`.

    `new` is the next event. `seen` is to be dropped. `gap`: at least one event lies between; it must be read from the
    journal or announced as gone, never skipped in silence.
    """
    if event_id <= cursor:
        return "seen"
    return "new" if event_id == cursor + 1 else "gap"


def parse(text: str) -> int | None:
    """Return the cursor that a client sent, or None if `text` isn't one. ASCII digits only, at most 18 of them: it
    must fit 63 bits, the widest integer that every journal can hold."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None
