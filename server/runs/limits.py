"""How much a run may take. Defaults are the contract's, section 6; each one is a setting."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Times in seconds, sizes in bytes."""

    active_runs: int = 64
    messages: int = 40
    run_seconds: float = 900
    silence_seconds: float = 120
    event_bytes: int = 256 * 1024
    log_events: int = 10_000
    log_bytes: int = 16 * 1024 * 1024
    input_seconds: float = 600
    # None: a run that nobody watches goes on to its end.
    orphan_seconds: float | None = 300
    # Runs that wait for their turn in one session.
    queued: int = 8
    # Contract section 5, promise 4: a cancelled run has ended by then, whatever its tools do.
    cancel_seconds: float = 5
