"""A run's progress in percent, computed from the agents that have finished a turn. It never falls."""

from collections.abc import Collection, Mapping

# A team that doesn't name its steps may always have more to do.
MOST_OF_UNKNOWN = 90


class Progress:
    """`steps` gives what is reached when the agent of that name has finished; one that isn't in it adds nothing."""

    def __init__(self, steps: Mapping[str, int], *, now: int = 0) -> None:
        self._steps = steps
        self.now = now

    def finished(self, agent_name: str) -> None:
        self.now = max(self.now, self._steps.get(agent_name, 0))


class SpeakerProgress(Progress):
    """For a team without named steps: the share of its members that have spoken."""

    def __init__(self, members: Collection[str], *, now: int = 0) -> None:
        super().__init__({}, now=now)
        self._members = frozenset(members)
        self._silent = set(members)

    def finished(self, agent_name: str) -> None:
        self._silent.discard(agent_name)
        if self._members:
            share = 1 - len(self._silent) / len(self._members)
            self.now = max(self.now, round(MOST_OF_UNKNOWN * share))
