"""One viewer on one connection. A broadcast writes to a viewer that is caught up; a task pulls for one behind.

A viewer's way between pulling and being written to
===================================================

A viewer (server/bus/viewer.py) is a cursor, and there are two ways to move it. A task can pull with `step`, which may
read the journal. Or the viewer can subscribe to a broadcast, which writes to all of its viewers in one pass and
needs no task. `Delivery` switches between the two. Its states differ in what exists:

    state      task   broadcast   who has the cursor
    pulling    yes    no          the viewer
    live       no     yes         the broadcast, once for all of its viewers
    done       no     no          none: the viewer is closed

A connection is paused while its client has enough to read. A paused delivery is always pulling, and its task waits in
`Connection.writable`: nothing is kept for a slow client but its cursor.

    from       to         when                                                    called by
    (new)      live       `subscribe` succeeds                                    transport: `begin`
    (new)      pulling    the connection is paused, or `subscribe` fails          transport: `begin`
    pulling    pulling    the task has written one batch                          the task
    pulling    live       the client reads, and `subscribe` succeeds              the task
    live       pulling    the connection is paused                                transport: `pause`
    live       pulling    the write or the encoding failed; the channel dropped   broadcast: `on_detached`
                          events after the cursor; the server drains, or can't
                          follow the run
    live       done       the terminal event has been written                     broadcast: `on_ended`
    pulling    done       the batch written says that the log is complete,        the task
                          or that the server drains
    any        done       the client disconnected or unsubscribed                 transport: `stop`

`subscribe` fails if one read from the channel's memory doesn't bring the viewer up to date, the log has ended, or the
server drains. In a drain the task's next batch is the notice. A log that can't be read ends the task with an exception;
the transport then closes the connection, and calls `stop`.

No event is lost or repeated, for four reasons. All of this runs in one event loop, so code without `await` is one step.

1. The cursor changes hands in one step. `subscribe` reads what the viewer lacks, joins the broadcast and writes, all
   without `await`: no event is published in between. `unsubscribe` copies the broadcast's cursor back in the same way.
2. Only one side writes. `_pull` starts no second task, and the task ends as soon as `subscribe` has succeeded.
3. A broadcast encodes a batch, then moves its cursor, then writes. A viewer whose write fails is detached at the cursor
   from before. A pull moves the cursor before `send`; only `stop` and the server's end cancel it in between, and then
   the viewer is gone. Its client reconnects with the last id that it has.
4. Events that are no longer kept are sent as a `Gap` (server/bus/batch.py), never skipped.

The order in 3 matters: a write can pause the connection before it returns. If the cursor moved after the writes:

    broadcast at 7     event 8 is published and written to A, whose buffer is now full
    A's connection     calls `paused`, the transport calls `pause`, A unsubscribes and copies the cursor 7
    broadcast          moves to 8 for all others
    A's client         reads on; A's task pulls after 7 and writes event 8 a second time
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeAlias

from askstream.server.bus import Viewer
from askstream.server.connections import Connection
from askstream.transports.formats import FramedFormat

Spawn: TypeAlias = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None] | None"]
"""Runs a task and handles its exception; returns None if the connection is being closed."""


@dataclass(slots=True, eq=False)
class Delivery:
    """`begin` once; `pause` whenever the connection is paused; `stop` at the end, in any state.

    `done` is called once everything has been written: with True if this server drains, False if the log is complete.
    """

    viewer: Viewer
    connection: Connection
    encoding: FramedFormat
    spawn: Spawn
    done: Callable[[bool], None]
    _task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        connection = self.connection
        if connection.is_paused or not self.viewer.subscribe(self, connection.write, self.encoding):
            self._pull()

    def pause(self) -> None:
        """Pull when the client reads on. Until then nothing is kept for this viewer but its cursor."""
        if not self.viewer.is_closed:
            self.viewer.unsubscribe()
            self._pull()

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self.viewer.close()

    def on_ended(self) -> None:
        self._finish(drained=False)

    def on_detached(self) -> None:
        self._pull()

    def _pull(self) -> None:
        if self._task is None:
            self._task = self.spawn(self._catch_up())

    async def _catch_up(self) -> None:
        """Pull until live or done. Raises AskstreamError if the log can't be read."""
        connection, viewer = self.connection, self.viewer
        try:
            more = True
            while more:
                await connection.writable()
                # `subscribe` may write so much that the connection is paused; `pause` has unsubscribed the viewer then.
                is_live = viewer.subscribe(self, connection.write, self.encoding)
                more = connection.is_paused if is_live else await self._move()
        finally:
            self._task = None

    async def _move(self) -> bool:
        """Pull once and write what is new; return whether more may follow."""
        batch = await self.viewer.step()
        if batch.has_news:
            await self.connection.send(self.encoding.encode(self.viewer.run_id, batch))
        if batch.ended or batch.drained:
            self._finish(drained=batch.drained)
            return False
        return True

    def _finish(self, *, drained: bool) -> None:
        self.viewer.close()
        self.done(drained)
