"""Publish and subscribe. A viewer is a cursor into a run's log; there is no queue for each viewer.

Each run that is being written or viewed has a channel: its recent events and its viewers. A viewer that is behind pulls
from its cursor: from the channel if that reaches back far enough, else from the journal. A viewer that is caught up may
subscribe to a broadcast: the viewers that want the same events in the same encoding, and so share one cursor and one
frame. The broadcast writes to all of them in one pass and wakes no task.

So a slow viewer costs no more than its cursor and its socket's buffers. Attaching misses nothing: an event that is
published between reading the history and waiting, or subscribing, comes after the cursor, and the viewer finds it when
it looks again.
"""

from askstream.server.bus.batch import Batch, batch_of
from askstream.server.bus.bus import Bus
from askstream.server.bus.channel import RECENT_BYTES, Channel, Encoding, Write
from askstream.server.bus.viewer import Viewer, ViewerHandler

__all__ = ["RECENT_BYTES", "Batch", "Bus", "Channel", "Encoding", "Viewer", "ViewerHandler", "Write", "batch_of"]
