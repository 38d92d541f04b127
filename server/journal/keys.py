"""What an idempotency key binds, and for how long."""

from askstream.server.journal.base import RunRecord

# Contract section 5, promise 5. Clients retry within minutes; a day also covers a job that runs every night.
KEY_SECONDS = 24 * 3600


def binds(holder: RunRecord, now: float) -> bool:
    """Whether a request that is made now, with the key of `holder` and by its principal, has to join it."""
    return holder.created_at > now - KEY_SECONDS
