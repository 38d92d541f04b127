"""What an idempotency key binds, and for how long."""

from server.journal.base import RunRecord

# Contract section 5, promise 5. Clients retry within minutes; a day also covers a job that runs every night.
KEY_SECONDS = 24 * 3600


def same_key(holder: RunRecord, asking: RunRecord) -> bool:
    """Whether `holder` is the run that a request with `asking`'s key has to join."""
    return (
        asking.idempotency_key is not None
        and holder.idempotency_key == asking.idempotency_key
        and holder.principal == asking.principal
        and holder.created_at > asking.created_at - KEY_SECONDS
    )
