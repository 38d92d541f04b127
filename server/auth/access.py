"""`Access`: who asks, and what that allows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from askstream.server.journal import NOBODY

# The key under which a request's scope has its `Access`.
ACCESS = "askstream.access"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """A principal as a request proved it. A hook may return one, too.

    `admin`: may also list, show and cancel the runs of others. `run_id`: may only watch this run, by a ticket. `key`
    names the token behind it, if there is one; the access ends with that, and at `expires_at`, in seconds of Unix time.
    """

    principal: str
    admin: bool = False
    run_id: str | None = None
    key: str = ""
    expires_at: float | None = None

    @property
    def administers(self) -> str | None:
        """The principal whose runs can be shown and cancelled; None: everybody's."""
        return None if self.admin else self.principal


ANONYMOUS = Access(principal=NOBODY)


def access_of(scope: Mapping[str, Any]) -> Access:
    """Return the access that the guard found. Raises KeyError where no guard stands before the application."""
    access: Access = scope[ACCESS]
    return access
