"""The tests' one unit of time. `TEST_TIME_FACTOR=5` stretches all of it, for a machine that is slow or busy.

A test writes every pause, pace and limit as a multiple of MS, never in plain seconds. The product's own constants are
not stretched, nor what a promise says in seconds.
"""

import os

FACTOR = float(os.environ.get("TEST_TIME_FACTOR", "1"))

# A millisecond, in the seconds that asyncio and threads count in.
MS = 0.001 * FACTOR
# How often to look for what another process or thread brings about.
GLANCE = 10 * MS
# How long anything may take that takes milliseconds on a quiet machine. It is only a way to fail instead of hanging.
PATIENCE = 20_000 * MS
