"""The private names of AutoGen's teams and agents. provider.py has those of its model clients.

AutoGen has no public way to drive a team turn by turn with its own termination condition, to list its members, or
to read its messages back from a saved state. A test fails if an upgrade moves a name of PRIVATE or VITAL_COROUTINES.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from inspect import isawaitable
from typing import Any, TypeAlias, cast

from autogen_agentchat.agents import AssistantAgent, UserProxyAgent
from autogen_agentchat.base import ChatAgent, Response, Team, TerminationCondition
from autogen_agentchat.messages import (
    BaseAgentEvent,
    BaseChatMessage,
    MessageFactory,
    StructuredMessage,
    ToolCallExecutionEvent,
)
from autogen_agentchat.teams import BaseGroupChat, DiGraph, GraphFlow, RoundRobinGroupChat, SelectorGroupChat, Swarm
from autogen_core import CancellationToken
from autogen_core.models import ChatCompletionClient, FunctionExecutionResult
from autogen_core.tools import StaticStreamWorkbench, ToolResult, Workbench
from pydantic import BaseModel

from askstream.agents.calls import ModelCaller
from askstream.agents.own_client import OwnClient
from askstream.agents.tap import ModelCalls, Speaker, Tap, speaking
from askstream.server.events.errors import RunFailed

_PARTICIPANTS = "_participants"
_TERMINATION = "_termination_condition"
_MAX_TURNS = "_max_turns"
_FACTORY = "_message_factory"
_GRAPH = "_graph"
_MANAGER = "_group_chat_manager_name"
_OUTPUT_TYPE = "_output_content_type"
_WORKBENCHES = "_workbench"
_SELECTOR = "_selector_func"
_INPUT_IS_ASYNC = "_is_async"
PRIVATE: Mapping[type[Any], tuple[str, ...]] = {
    BaseGroupChat: (_PARTICIPANTS, _TERMINATION, _MAX_TURNS, _FACTORY, _MANAGER),
    GraphFlow: (_GRAPH,),
    SelectorGroupChat: (_SELECTOR,),
    AssistantAgent: (_OUTPUT_TYPE, _WORKBENCHES),
    UserProxyAgent: (_INPUT_IS_ASYNC,),
}

# The coroutine in which an agent runs its tools. AutoGen never checks how it ends: if it dies, because a tool raised
# CancelledError or a handoff's arguments are no JSON object, its agent waits on a queue for ever.
VITAL_COROUTINES = frozenset({"_execute_tool_calls"})

# A team's stop reason when only a step's limit of one turn stopped it.
ONE_TURN = "Maximum number of turns 1 reached."

_TOOL_END = "askstream.one_end"

# Input functions that read the server's console: the default of `UserProxyAgent`, and the one in AutoGen's tutorials.
_CONSOLE = (UserProxyAgent("nobody").input_func, input)
_NO_WAY_TO_WAIT = (
    "{} asks a person for input, and this kind of team can't be stopped and resumed while it waits. Put it directly "
    "into a round robin, a selector team, a swarm or a straight graph, or give it an input_func that answers by itself."
)

TurnBegins = Callable[[str, str], Awaitable[None]]
Ask: TypeAlias = Callable[[str, str], Awaitable[str]]
"""From the name of an agent that stands for a person, and its prompt, to the person's input."""


def names(team: Team) -> frozenset[str]:
    """The names of the members that can get a turn."""
    return frozenset(member.name for member in cast("list[ChatAgent | Team]", getattr(team, _PARTICIPANTS, [])))


def members(team: Team) -> list[ChatAgent]:
    """All agents of a team, including those of nested teams."""
    found: list[ChatAgent] = []
    for member in cast("list[ChatAgent | Team]", getattr(team, _PARTICIPANTS, [])):
        found.extend(members(member) if isinstance(member, Team) else [member])
    return found


def single_agent_team(agent: ChatAgent) -> RoundRobinGroupChat:
    """A team of one agent that has one turn."""
    kind: type[BaseModel] | None = getattr(agent, _OUTPUT_TYPE, None)
    types: list[type[BaseAgentEvent | BaseChatMessage]] | None = [StructuredMessage[kind]] if kind else None
    return RoundRobinGroupChat([agent], max_turns=1, custom_message_types=types)


def report_turns(agent: ChatAgent, begins: TurnBegins) -> None:
    """Await `begins` with the agent's name and description before each of its turns, and set the tap's speaker
    during the turn.

    Raises RunFailed for an agent that another run has used: it would mix the two runs' texts.
    """
    if "on_messages_stream" in vars(agent):
        raise RunFailed(
            "team_unavailable", f"{agent.name} has served another run already: the team's factory must make new agents."
        )
    takes_turn = agent.on_messages_stream
    speaker = Speaker(agent.name, needs_whole_only=isinstance(agent, AssistantAgent))

    async def reported(
        messages: Sequence[BaseChatMessage], cancellation_token: CancellationToken
    ) -> AsyncGenerator[BaseAgentEvent | BaseChatMessage | Response, None]:
        speaking.set(speaker)
        await begins(agent.name, agent.description)
        async for message in takes_turn(messages, cancellation_token):
            yield _without_tool_ends(message) if isinstance(message, Response) else message

    cast(Any, agent).on_messages_stream = reported


def wrap_own_clients(team: Team, caller: ModelCaller, model_calls: ModelCalls) -> None:
    """Give the model clients that agents brought along the run's rules. The agents must be fresh."""
    for agent in members(team):
        for name, value in list(vars(agent).items()):
            if isinstance(value, ChatCompletionClient) and not isinstance(value, Tap):
                setattr(agent, name, OwnClient(value, caller, model_calls))


def intercept_inputs(team: Team, ask: Ask) -> frozenset[str]:
    """Await `ask` where a `UserProxyAgent` would read the server's console. Return the names of those agents.

    An agent with another input function keeps it. Raises RunFailed `team_unavailable` if the team can't be resumed at
    the agent's turn.
    """
    inputs = [agent for agent in members(team) if isinstance(agent, UserProxyAgent) and agent.input_func in _CONSOLE]
    resumable = getattr(team, _PARTICIPANTS) if can_step(team) else ()
    for agent in inputs:
        if not any(agent is member for member in resumable):
            raise RunFailed("team_unavailable", _NO_WAY_TO_WAIT.format(agent.name))
        agent.input_func = _asking(agent.name, ask)
        setattr(agent, _INPUT_IS_ASYNC, True)
    return frozenset(agent.name for agent in inputs)


def _asking(name: str, ask: Ask) -> Callable[[str, CancellationToken | None], Awaitable[str]]:
    async def answer(prompt: str, _token: CancellationToken | None) -> str:
        return await ask(name, prompt.strip())

    return answer


def force_first_speaker(team: BaseGroupChat, state: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Give the first turn after `state` to `name`, who had it before. Return the state to load. Call it before the
    team runs.

    A selector team's model would be asked again and might choose another; the other kinds choose by rules.
    """
    if not isinstance(team, SelectorGroupChat):
        return state
    own: Callable[[Sequence[Any]], Any] | None = getattr(team, _SELECTOR)
    first = [name]

    async def chosen(thread: Sequence[BaseAgentEvent | BaseChatMessage]) -> str | None:
        if first:
            return first.pop()
        speaker = own(thread) if own else None
        return await speaker if isawaitable(speaker) else speaker

    setattr(team, _SELECTOR, chosen)
    return state if own or not state else _with_previous(team, state, name)


def _with_previous(team: BaseGroupChat, state: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A selector team's state with its model's last choice, which it may not repeat."""
    states, manager = state["agent_states"], getattr(team, _MANAGER)
    return {**state, "agent_states": {**states, manager: {**states[manager], "previous_speaker": name}}}


def report_tool_ends(agent: ChatAgent) -> None:
    """Report the end of each of an agent's tool calls at once, by an event for which `is_tool_end` is true.

    AutoGen reports the calls of one round together, after the last has ended.
    """
    for bench in cast("list[Workbench]", getattr(agent, _WORKBENCHES, None) or []):
        if isinstance(bench, StaticStreamWorkbench) and "call_tool_stream" not in vars(bench):
            cast(Any, bench).call_tool_stream = _with_tool_ends(bench.call_tool_stream)


def is_tool_end(message: object) -> bool:
    """Whether `report_tool_ends` added a message: viewers get it, but it is no part of the conversation."""
    return isinstance(message, ToolCallExecutionEvent) and _TOOL_END in message.metadata


def _with_tool_ends(calls: Callable[..., AsyncGenerator[Any, None]]) -> Callable[..., AsyncGenerator[Any, None]]:
    async def reporting(
        name: str,
        arguments: Mapping[str, Any] | None = None,
        cancellation_token: CancellationToken | None = None,
        call_id: str | None = None,
    ) -> AsyncGenerator[Any, None]:
        async for item in calls(name, arguments, cancellation_token, call_id):
            speaker = speaking.get()
            if isinstance(item, ToolResult) and call_id is not None and speaker is not None:
                result = FunctionExecutionResult(
                    content=item.to_text(), name=name, call_id=call_id, is_error=item.is_error
                )
                yield ToolCallExecutionEvent(content=[result], source=speaker.name, metadata={_TOOL_END: call_id})
            yield item

    return reporting


def _without_tool_ends(response: Response) -> Response:
    inner = [message for message in response.inner_messages or () if not is_tool_end(message)]
    return replace(response, inner_messages=inner)


def can_step(team: Team) -> bool:
    """Whether a team can be stopped after each turn and resumed from its state: its kind is one that was tested, and
    it doesn't override `run_stream`."""
    if not isinstance(team, RoundRobinGroupChat | SelectorGroupChat | Swarm | GraphFlow):
        return False
    if type(team).run_stream is not BaseGroupChat.run_stream:
        return False
    return not isinstance(team, GraphFlow) or _is_straight(getattr(team, _GRAPH))


def _is_straight(graph: DiGraph) -> bool:
    """Whether no edges meet, fork or turn back: a saved state doesn't say which of several edges were walked."""
    targets = [edge.target for node in graph.nodes.values() for edge in node.edges]
    return (
        len(targets) == len(set(targets))
        and all(len(node.edges) <= 1 for node in graph.nodes.values())
        and len(graph.get_start_nodes()) == 1
        and not graph.get_has_cycles()
    )


class Termination:
    """A team's termination condition and maximum of turns."""

    def __init__(self, condition: TerminationCondition | None, max_turns: int | None) -> None:
        self._condition, self.max_turns = condition, max_turns

    @classmethod
    def of(cls, team: BaseGroupChat) -> "Termination":
        """Move them out of a team that has not run yet. The team then stops after each turn."""
        termination = cls(getattr(team, _TERMINATION), getattr(team, _MAX_TURNS))
        setattr(team, _TERMINATION, None)
        setattr(team, _MAX_TURNS, 1)
        return termination

    async def ends(self, messages: Sequence[BaseAgentEvent | BaseChatMessage]) -> bool:
        """Whether the team has ended with `messages`, which are all since the last call."""
        return self._condition is not None and bool(messages) and await self._condition(messages) is not None

    async def replay(self, messages: Sequence[BaseAgentEvent | BaseChatMessage], portions: Sequence[int]) -> None:
        """Show the condition the same messages as before the team was saved: no state has its counters."""
        for count in portions:
            portion, messages = messages[:count], messages[count:]
            await self.ends(portion)


def thread(team: BaseGroupChat, state: Mapping[str, Any]) -> list[BaseAgentEvent | BaseChatMessage]:
    """The messages of a saved state, oldest first."""
    factory: MessageFactory = getattr(team, _FACTORY)
    saved = state["agent_states"][getattr(team, _MANAGER)]["message_thread"]
    return [factory.create(message) for message in saved]
