"""The events of a run that a viewer wants. A filter hides events; it never renumbers them."""

from collections.abc import Set
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Filter:
    """None means no restriction. `agent_chunk` needs `tokens` as well as passing the rest."""

    include: frozenset[str] | None = None
    exclude: frozenset[str] = frozenset()
    agents: frozenset[str] | None = None
    tokens: bool = False

    def wants(self, event_type: str, agent_name: str) -> bool:
        if event_type == "agent_chunk" and not self.tokens:
            return False
        if self.include is not None and event_type not in self.include:
            return False
        return event_type not in self.exclude and (self.agents is None or agent_name in self.agents)

    def wants_all(self, event_types: Set[str]) -> bool:
        """Whether this viewer wants every event of these types, of any agent: then none must be checked by itself."""
        return self.agents is None and all(self.wants(event_type, "") for event_type in event_types)

    @property
    def wants_chunks(self) -> bool:
        """Whether this viewer would see the chunks of at least some agent."""
        included = self.include is None or "agent_chunk" in self.include
        return self.tokens and included and "agent_chunk" not in self.exclude


EVERYTHING = Filter(tokens=True)
