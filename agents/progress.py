"""A run's progress in percent, computed from the agents that have finished a turn. It never falls."""

from collections.abc import Collection, Mapping

# The maximum before the end for a team without named steps, which may always have more to do.
MOST_OF_UNKNOWN = 90


class Progress:
    """`steps` maps an agent's name to the percent reached when it has finished; other agents add nothing."""

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
