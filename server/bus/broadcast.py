"""Viewers who are level with a run, want the same events in the same form, and are written to in one pass.

They have one cursor. Who joins is level, who falls behind leaves with the group's cursor and pulls what it lacks.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Protocol, TypeAlias

from askstream.server.bus.batch import Batch, batch_of
from askstream.server.events import Filter
from askstream.server.journal import Entry

log = logging.getLogger(__name__)

Write: TypeAlias = Callable[[bytes], None]
"""Takes bytes at any time, without being waited for. A member that can take no more leaves, from within it too."""


class Form(Protocol):
    """What bytes a connection gets for a batch. `heartbeat` fills a silence of so many seconds; empty means none."""

    @property
    def heartbeat(self) -> bytes: ...

    @property
    def heartbeat_seconds(self) -> float: ...

    def encode(self, run_id: str, batch: Batch, /) -> bytes: ...


class Member(Protocol):
    def dismissed(self, cursor: int, *, ended: bool) -> None:
        """Nothing more is written. `ended` says that the terminal event has been; else there is something to pull."""
        ...


class Group:
    """Made for its first member; of no use after its last."""

    __slots__ = ("_heart", "cursor", "form", "members", "run_id", "wanted", "wrote_at")

    def __init__(self, run_id: str, form: Form, wanted: Filter, cursor: int) -> None:
        self.run_id, self.form, self.wanted, self.cursor = run_id, form, wanted, cursor
        self.wrote_at = monotonic()
        self.members: dict[Member, Write] = {}  # who they are, and how each is written to
        self._heart: asyncio.TimerHandle | None = None

    def add(self, member: Member, write: Write) -> None:
        self.members[member] = write
        if self._heart is None and self.form.heartbeat:
            self._beat()

    def remove(self, member: Member) -> None:
        self.members.pop(member, None)
        if not self.members:
            self._stop()

    def publish(self, found: Sequence[Entry]) -> None:
        """Writes what follows the cursor to all members."""
        before, batch = self.cursor, batch_of(found, self.cursor, self.wanted)
        self.cursor = batch.cursor
        if batch.says_something:
            self._write(self.form.encode(self.run_id, batch), before)
        if batch.ended:
            self.dismiss(ended=True)

    def dismiss(self, *, ended: bool) -> None:
        """Lets all members go."""
        members, self.members = list(self.members), {}
        self._stop()
        for member in members:
            member.dismissed(self.cursor, ended=ended)

    def _write(self, data: bytes, before: int) -> None:
        """To all members. One that can't be written to goes its own way from `before`, and harms nobody else: neither
        the others nor the run that has just become durable."""
        self.wrote_at = monotonic()
        for member, write in tuple(self.members.items()):
            try:
                write(data)
            except Exception as problem:  # noqa: BLE001 - the edge of each connection
                log.error("run=%s: a viewer can't be written to: %s", self.run_id, type(problem).__name__)
                self.remove(member)
                member.dismissed(before, ended=False)

    def _beat(self) -> None:
        left = self.wrote_at + self.form.heartbeat_seconds - monotonic()
        if left <= 0:
            self._write(self.form.heartbeat, self.cursor)
            left = self.form.heartbeat_seconds
        if self.members:
            self._heart = asyncio.get_running_loop().call_later(left, self._beat)

    def _stop(self) -> None:
        if self._heart is not None:
            self._heart.cancel()
            self._heart = None
