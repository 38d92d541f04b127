"""A broadcast: subscribers that are written to in one pass, and don't affect each other."""

import logging
from dataclasses import dataclass, field
from typing import Any

import pytest

from askstream.server.bus import Batch, Channel
from askstream.server.bus.channel import Broadcast
from askstream.server.events import EVERYTHING
from tests.conformance.journals import entries


class Lines:
    """An encoding of a line for each event, and no heartbeat."""

    heartbeat = b""
    heartbeat_seconds = 0.0

    def encode(self, run_id: str, batch: Batch, /) -> bytes:
        return b"".join(each.line for each in batch.entries)


@dataclass(eq=False)
class Subscriber:
    breaks: bool = False
    got: list[bytes] = field(default_factory=list[bytes])
    detached: list[Any] = field(default_factory=list[Any])

    def write(self, data: bytes) -> None:
        if self.breaks:
            raise RuntimeError("broken")
        self.got.append(data)

    def on_detached(self, cursor: int, *, ended: bool) -> None:
        self.detached.append((cursor, ended))


def test_a_subscriber_that_cannot_be_written_to_is_detached_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """The others get the event, the publisher goes on, and it is detached at the last event that it got."""
    broadcast = Broadcast("r", Lines(), EVERYTHING, 3)
    subscribers = [Subscriber(), Subscriber(breaks=True), Subscriber()]
    for subscriber in subscribers:
        broadcast.add(subscriber, subscriber.write)
    first, second = entries(4, 5)
    broadcast.publish([first])
    broadcast.publish([second])
    assert [each.got for each in subscribers] == [[first.line, second.line], [], [first.line, second.line]]
    assert [each.detached for each in subscribers] == [[], [(3, False)], []]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert caplog.records[0].exc_info


def test_a_subscriber_that_cannot_be_detached_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """All others are notified of the end."""

    class Stuck(Subscriber):
        def on_detached(self, cursor: int, *, ended: bool) -> None:
            raise RuntimeError("broken")

    broadcast, last = Broadcast("r", Lines(), EVERYTHING, 3), Subscriber()
    for subscriber in (Stuck(), last):
        broadcast.add(subscriber, subscriber.write)
    broadcast.detach_all(ended=True)
    assert last.detached == [(3, True)]
    assert caplog.records[0].exc_info


async def test_an_encoding_that_fails_affects_only_its_own_viewers(caplog: pytest.LogCaptureFixture) -> None:
    """The publisher goes on, and viewers with another encoding get the event."""

    class Broken(Lines):
        def encode(self, run_id: str, batch: Batch, /) -> bytes:
            raise RuntimeError("broken")

    channel, subscribers = Channel("r", base=3), [Subscriber(), Subscriber()]
    for subscriber, encoding in zip(subscribers, (Broken(), Lines()), strict=True):
        channel.broadcast(encoding, EVERYTHING).add(subscriber, subscriber.write)
    channel.extend(entries(4, 4))
    assert [each.got for each in subscribers] == [[], [entries(4, 4)[0].line]]
    assert [each.detached for each in subscribers] == [[(3, False)], []]
    assert caplog.records[0].exc_info
