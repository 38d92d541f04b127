"""Counts the connections of each principal: streams and WebSockets, under every server."""

from collections import Counter
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager

from askstream.server.events.errors import PrincipalLimit

# Seconds after which a refused client should try again.
RETRY = 5


class PrincipalConnections:
    """At most `most` for each principal that isn't in `exempt`."""

    def __init__(self, most: int = 200, exempt: Collection[str] = ()) -> None:
        self._most, self._exempt = most, exempt
        self._open = Counter[str]()

    def enter(self, principal: str) -> Callable[[], None]:
        """Count a connection, and return the idempotent function that ends it. Raises PrincipalLimit."""
        if principal not in self._exempt and self._open[principal] >= self._most:
            raise PrincipalLimit(f"You have {self._most} connections; close one of them.", retry_after=RETRY)
        self._open[principal] += 1
        left = False

        def leave() -> None:
            nonlocal left
            if not left:
                left = True
                self._leave(principal)

        return leave

    @contextmanager
    def entered(self, principal: str) -> Generator[Callable[[], None]]:
        """Do the same; an exception in the block ends it."""
        leave = self.enter(principal)
        try:
            yield leave
        except BaseException:
            leave()
            raise

    def _leave(self, principal: str) -> None:
        self._open[principal] -= 1
        if not self._open[principal]:
            del self._open[principal]
