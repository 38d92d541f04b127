"""Publish and subscribe. A viewer is a cursor into a run's log; there is no queue for anybody.

Each run that is being written or watched has a channel: its recent events, and those who want the next one. A viewer
that is behind pulls from its cursor: from the channel where that reaches back far enough, else from the journal. A
viewer that is caught up may subscribe to a broadcast: viewers who want the same events in the same encoding, and who
therefore have one cursor and one frame together. The broadcast writes to all of them in one pass, and nobody's task is
woken for it.

So a slow viewer costs nothing but its cursor, and attaching leaves no gap: whatever is published between reading the
history and waiting, or subscribing, is simply behind the cursor when the viewer looks again.
"""

from askstream.server.bus.batch import Batch, batch_of
from askstream.server.bus.bus import Bus
from askstream.server.bus.channel import RECENT_BYTES, Channel, Encoding, Write
from askstream.server.bus.viewer import Viewer, ViewerHandler

__all__ = ["RECENT_BYTES", "Batch", "Bus", "Channel", "Encoding", "Viewer", "ViewerHandler", "Write", "batch_of"]
