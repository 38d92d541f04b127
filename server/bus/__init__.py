"""Publish and subscribe. A viewer is a cursor into a run's log; there is no queue for anybody.

Each run that is being written or watched has a channel: its recent events, and those who want the next one. A viewer
that is behind pulls from its cursor: from the channel where that reaches back far enough, else from the journal. One
that is level may join its group: viewers who want the same events in the same form, and who therefore have one cursor
and one frame together. The group writes to all of them in one pass, and nobody's task is woken for it.

So a slow viewer costs nothing but its cursor, and attaching leaves no hole: whatever is published between reading the
history and waiting, or joining, is simply behind the cursor when the viewer looks again.
"""

from askstream.server.bus.batch import Batch, Missing, batch_of
from askstream.server.bus.broadcast import Form, Write
from askstream.server.bus.bus import Bus
from askstream.server.bus.channel import RECENT_BYTES, Channel
from askstream.server.bus.viewer import Listener, Viewer

__all__ = [
    "RECENT_BYTES",
    "Batch",
    "Bus",
    "Channel",
    "Form",
    "Listener",
    "Missing",
    "Viewer",
    "Write",
    "batch_of",
]
