"""Whether to wait for more before something is written, by what comes together now and what earlier waits brought."""

# How often in a row nothing is waited for, after a wait that brought nothing. One wait in so many is what it costs to
# notice that there is more to come again.
AT_ONCE = 16


class Joining:
    """Of one writer, who asks `pays` where it could wait, and says in `waited` what came of it.

    Events may come one after the other, each as soon as the one before has been seen: a wait would only hold them up.
    Where several come at once, by themselves or from several runs, more is expected, and waited for.
    """

    __slots__ = ("_at_once",)

    def __init__(self) -> None:
        self._at_once = 0

    def pays(self, events: int) -> bool:
        """Whether to wait for more than there are by now. Several at once are a sign that more follow."""
        if events > 1:
            self._at_once = 0
        if not self._at_once:
            return True
        self._at_once -= 1
        return False

    def waited(self, events: int) -> None:
        """A wait is over, after which so many go together."""
        if events < 2:
            self._at_once = AT_ONCE
