"""The tests' one unit of time. `TEST_TIME_FACTOR=5` stretches all of it, for a machine that is slow or busy.

A test writes every pause, pace and limit as a multiple of MS, never in plain seconds. The product's own constants and
promises are not stretched.
"""

import os

FACTOR = float(os.environ.get("TEST_TIME_FACTOR", "1"))

# A millisecond, in the seconds that asyncio and threads count in.
MS = 0.001 * FACTOR
# Pause between two looks for an effect of another process or thread.
GLANCE = 10 * MS
# Limit for anything that needs milliseconds on a quiet machine: a test fails instead of hanging.
PATIENCE = 20_000 * MS
