"""All channels of this server, with their writers and viewers, and runs that no writer here writes."""

import asyncio
import logging
from time import monotonic

from askstream.server.bus.channel import Channel
from askstream.server.bus.viewer import Viewer
from askstream.server.events import EVERYTHING, Filter
from askstream.server.foreign import Contained
from askstream.server.journal import Journal
from askstream.server.scheduling import ReplayGate

log = logging.getLogger(__name__)


class Bus:
    """Fans out the events of runs. Runs without a writer here are followed in the journal."""

    def __init__(self, journal: Journal, group: asyncio.TaskGroup) -> None:
        self._journal, self._group = journal, group
        self.drain_count = 0
        self.replay_gate = ReplayGate()
        self._channels: dict[str, Channel] = {}
        self._followers: dict[str, asyncio.Task[None]] = {}

    def open(self, run_id: str, last_id: int) -> Channel:
        """Return the channel for the run's writer, which publishes with `Channel.extend` and ends with `release`.

        `last_id` is the last event that is durable already.
        """
        channel = self._channels.setdefault(run_id, Channel(run_id, base=last_id))
        channel.writers += 1
        channel.is_abandoned = False
        if run_id in self._followers:
            self._stop_following(run_id)
        return channel

    async def attach(self, run_id: str, *, after: int = 0, wanted: Filter = EVERYTHING) -> Viewer:
        """Return a viewer of a run that the journal knows, from the cursor `after` on."""
        channel = self._channels.get(run_id)
        if channel is None:
            record = await self._journal.record(run_id)
            last_id, ended = (record.last_id, record.ended) if record else (0, True)
            channel = self._channels.setdefault(run_id, Channel(run_id, base=last_id, ended=ended))
        viewer = Viewer(self, self._journal, channel, after, wanted)
        if not channel.writers and not channel.ended:
            self._follow(channel)
        return viewer

    def release(self, channel: Channel, *, writer: bool = False) -> None:
        """Remove a viewer or the writer, and the channel after the last one."""
        channel.writers -= writer
        channel.viewers -= not writer
        channel.unwatched_since = channel.unwatched_since if writer else monotonic()
        if channel.writers or channel.viewers:
            if not channel.writers and not channel.ended:
                self._follow(channel)  # the writer left before the end: another server may resume
            return
        if self._channels.get(channel.run_id) is channel:
            del self._channels[channel.run_id]
        self._stop_following(channel.run_id)

    def _stop_following(self, run_id: str) -> None:
        follower = self._followers.pop(run_id, None)
        if follower is not None:
            follower.cancel()

    def drain(self) -> None:
        """Send away all present viewers. Later ones are served, until the next call."""
        self.drain_count += 1
        for channel in list(self._channels.values()):
            channel.detach_viewers()

    def close(self) -> None:
        """Stop following the runs that no writer here writes."""
        for run_id in list(self._followers):
            self._stop_following(run_id)
            self._channels[run_id].abandon()

    @property
    def channels(self) -> int:
        return len(self._channels)

    def viewers(self, run_id: str) -> int:
        channel = self._channels.get(run_id)
        return channel.viewers if channel else 0

    def _follow(self, channel: Channel) -> None:
        if channel.run_id not in self._followers:
            channel.is_abandoned = False
            task = self._group.create_task(self._follow_journal(channel), name=f"follow {channel.run_id}")
            self._followers[channel.run_id] = task

    async def _follow_journal(self, channel: Channel) -> None:
        try:
            with Contained():
                async for entries in self._journal.watch(channel.run_id, channel.last_id):
                    channel.extend(entries)
        except Exception:
            log.exception("run=%s can't be followed", channel.run_id)
            if self._followers.get(channel.run_id) is asyncio.current_task():
                del self._followers[channel.run_id]  # the next viewer that attaches tries again
                channel.abandon()
