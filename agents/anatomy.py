"""What we know of a team's inside. The only place that touches names which AutoGen keeps private.

There is no public way to drive a team turn by turn with its own termination condition, to ask who its members are,
or to read its messages back from a saved state. Each private name is in PRIVATE, and a test that looks for all of
them fails should an upgrade move one.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.base import ChatAgent, Response, Team, TerminationCondition
from autogen_agentchat.messages import BaseAgentEvent, BaseChatMessage, MessageFactory
from autogen_agentchat.teams import BaseGroupChat, DiGraph, GraphFlow, RoundRobinGroupChat, SelectorGroupChat, Swarm
from autogen_core import CancellationToken

from agents.tap import Speaker, speaking
from server.events.errors import RunFailed

_PARTICIPANTS = "_participants"
_TERMINATION = "_termination_condition"
_MAX_TURNS = "_max_turns"
_FACTORY = "_message_factory"
_GRAPH = "_graph"
_MANAGER = "_group_chat_manager_name"
PRIVATE: Mapping[type[BaseGroupChat], tuple[str, ...]] = {
    BaseGroupChat: (_PARTICIPANTS, _TERMINATION, _MAX_TURNS, _FACTORY, _MANAGER),
    GraphFlow: (_GRAPH,),
}

# The coroutine in which an agent runs its tools. Nobody looks at how it ends: should it die, because a tool raised
# CancelledError or a handoff was called with arguments that are no object, its agent waits on a queue for ever.
VITAL = frozenset({"_execute_tool_calls"})

# What a team says when it stopped for nothing else than the limit of one turn that a step sets.
ONE_TURN = "Maximum number of turns 1 reached."

TurnBegins = Callable[[str, str], Awaitable[None]]


def members(team: Team) -> list[ChatAgent]:
    """All agents of a team, those of the teams inside it included."""
    found: list[ChatAgent] = []
    for member in cast("list[ChatAgent | Team]", getattr(team, _PARTICIPANTS, [])):
        found.extend(members(member) if isinstance(member, Team) else [member])
    return found


def announce_turns(agent: ChatAgent, begins: TurnBegins) -> None:
    """Has `begins` awaited, with the agent's name and description, before each of its turns, and names the speaker
    to the tap for as long as the turn lasts.

    Raises RunFailed for an agent that has been through this before: it would mix what two runs say.
    """
    if "on_messages_stream" in vars(agent):
        raise RunFailed(
            "team_unavailable", f"{agent.name} has served another run already: the team's factory must make new agents."
        )
    takes_turn = agent.on_messages_stream
    speaker = Speaker(agent.name, takes_whole=isinstance(agent, AssistantAgent))

    async def announced(
        messages: Sequence[BaseChatMessage], cancellation_token: CancellationToken
    ) -> AsyncGenerator[BaseAgentEvent | BaseChatMessage | Response, None]:
        speaking.set(speaker)
        await begins(agent.name, agent.description)
        async for message in takes_turn(messages, cancellation_token):
            yield message

    cast(Any, agent).on_messages_stream = announced


def can_step(team: Team) -> bool:
    """Whether a team can be stopped after each turn and resumed from what it saves: its kind is one of those that
    were seen to, and it runs as its kind does."""
    if not isinstance(team, RoundRobinGroupChat | SelectorGroupChat | Swarm | GraphFlow):
        return False
    if type(team).run_stream is not BaseGroupChat.run_stream:
        return False
    return not isinstance(team, GraphFlow) or _is_line(getattr(team, _GRAPH))


def _is_line(graph: DiGraph) -> bool:
    """Elsewhere a saved state lacks which of several edges have been walked."""
    targets = [edge.target for node in graph.nodes.values() for edge in node.edges]
    return (
        len(targets) == len(set(targets))
        and all(len(node.edges) <= 1 for node in graph.nodes.values())
        and len(graph.get_start_nodes()) == 1
        and not graph.get_has_cycles()
    )


def take_rule(team: BaseGroupChat) -> tuple[TerminationCondition | None, int | None]:
    """Takes from a team that has not run yet what ends it, its condition and its limit of turns; from now on it
    stops after each turn."""
    rule = getattr(team, _TERMINATION), getattr(team, _MAX_TURNS)
    setattr(team, _TERMINATION, None)
    setattr(team, _MAX_TURNS, 1)
    return rule


def thread(team: BaseGroupChat, state: Mapping[str, Any]) -> list[BaseAgentEvent | BaseChatMessage]:
    """The messages of a saved state, oldest first, as the team's manager has them."""
    factory: MessageFactory = getattr(team, _FACTORY)
    saved = state["agent_states"][getattr(team, _MANAGER)]["message_thread"]
    return [factory.create(message) for message in saved]
