"""A group: members who are written to in one pass, and have nothing else to do with each other."""

import logging
from dataclasses import dataclass, field
from typing import Any

import pytest

from askstream.server.bus import Batch
from askstream.server.bus.broadcast import Group
from askstream.server.events import EVERYTHING
from tests.conformance.journals import entries


class Lines:
    """A `Form` of a line for each event, and no heartbeat."""

    heartbeat = b""
    heartbeat_seconds = 0.0

    def encode(self, run_id: str, batch: Batch, /) -> bytes:
        return b"".join(each.line for each in batch.entries)


@dataclass(eq=False)
class Member:
    breaks: bool = False
    got: list[bytes] = field(default_factory=list[bytes])
    dismissals: list[Any] = field(default_factory=list[Any])

    def write(self, data: bytes) -> None:
        if self.breaks:
            raise RuntimeError("secret")
        self.got.append(data)

    def dismissed(self, cursor: int, *, ended: bool) -> None:
        self.dismissals.append((cursor, ended))


def test_one_that_cannot_be_written_to_goes_its_own_way_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Those before and behind it get the event, whoever publishes goes on, and it pulls what it hasn't got."""
    group = Group("r", Lines(), EVERYTHING, 3)
    members = [Member(), Member(breaks=True), Member()]
    for member in members:
        group.add(member, member.write)
    first, second = entries(4, 5)
    group.publish([first])
    group.publish([second])
    assert [member.got for member in members] == [[first.line, second.line], [], [first.line, second.line]]
    assert [member.dismissals for member in members] == [[], [(3, False)], []]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "secret" not in caplog.text
