"""The private names of AutoGen's teams and agents. provider.py has those of its model clients.

AutoGen has no public way to drive a team turn by turn with its own termination condition, to list its members, or
to read its messages back from a saved state. A test fails if an upgrade moves a name of PRIVATE or VITAL_COROUTINES.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from inspect import isawaitable, signature
from typing import Any, TypeAlias, TypeVar, cast

from autogen_agentchat.agents import AssistantAgent, UserProxyAgent
from autogen_agentchat.base import (
    AndTerminationCondition,
    ChatAgent,
    OrTerminationCondition,
    Response,
    TaskResult,
    Team,
    TerminationCondition,
)
from autogen_agentchat.conditions import FunctionalTermination, TextMentionTermination
from autogen_agentchat.messages import (
    BaseAgentEvent,
    BaseChatMessage,
    MessageFactory,
    ModelClientStreamingChunkEvent,
    StructuredMessage,
    ToolCallExecutionEvent,
)
from autogen_agentchat.teams import BaseGroupChat, DiGraph, GraphFlow, RoundRobinGroupChat, SelectorGroupChat, Swarm
from autogen_agentchat.tools import AgentTool, TeamTool
from autogen_core import CancellationToken
from autogen_core.models import FunctionExecutionResult
from autogen_core.tools import StaticStreamWorkbench, ToolResult, Workbench
from pydantic import BaseModel

from askstream.agents import console, nesting
from askstream.agents.answer import USUAL_WORDS, AnswerRule
from askstream.agents.mending import mend
from askstream.agents.tap import Speaker, speaking
from askstream.server.events.errors import RunFailed
from askstream.server.foreign import Contained

T = TypeVar("T")

_PARTICIPANTS = "_participants"
_TERMINATION = "_termination_condition"
_MAX_TURNS = "_max_turns"
_FACTORY = "_message_factory"
_GRAPH = "_graph"
_MANAGER = "_group_chat_manager_name"
_QUEUE = "_output_message_queue"
_HAS_RUN = "_initialized"
_OUTPUT_TYPE = "_output_content_type"
_WORKBENCHES = "_workbench"
_SELECTOR = "_selector_func"
_INPUT_IS_ASYNC = "_is_async"
_TOOLS = "_tools"
_MENTIONED = "_termination_text"
_CONDITIONS = "_conditions"
_ERROR_TEXT = "_format_errors"
PRIVATE: Mapping[type[Any], tuple[str, ...]] = {
    BaseGroupChat: (_PARTICIPANTS, _TERMINATION, _MAX_TURNS, _FACTORY, _MANAGER, _QUEUE, _HAS_RUN),
    GraphFlow: (_GRAPH,),
    SelectorGroupChat: (_SELECTOR,),
    AssistantAgent: (_OUTPUT_TYPE, _WORKBENCHES),
    UserProxyAgent: (_INPUT_IS_ASYNC,),
    StaticStreamWorkbench: (_TOOLS, _ERROR_TEXT),
    TextMentionTermination: (_MENTIONED,),
    AndTerminationCondition: (_CONDITIONS,),
    OrTerminationCondition: (_CONDITIONS,),
}

# The coroutine in which an agent runs its tools. AutoGen never checks how it ends: if it dies, because a tool raised
# CancelledError or a handoff's arguments are no JSON object, its agent waits on a queue for ever.
VITAL_COROUTINES = frozenset({"_execute_tool_calls"})
# The coroutine in which the runtime handles a message. Teams report an Exception in it, and end with it. They wait for
# ever if it dies of anything else.
MESSAGE_HANDLERS = frozenset({"_on_message"})

# A team's stop reason when only a step's limit of one turn stopped it.
ONE_TURN = "Maximum number of turns 1 reached."

_TOOL_END = "askstream.one_end"
_IS_ALONE = "_askstream_is_alone"
_NEXT = object()
_FILTERED = " (with message filtering)"  # MessageFilterAgent's suffix of the inner agent's description

# The default input function of `UserProxyAgent`. It reads the server's console.
_DEFAULT_INPUT = UserProxyAgent("nobody").input_func


async def ask_person(prompt: str, _token: CancellationToken | None = None) -> str:
    """The input function that factories get. As a `UserProxyAgent`'s own it is replaced; inside another one it asks."""
    return await console.ask(prompt)


TurnBegins = Callable[[str, str, Sequence[BaseChatMessage]], Awaitable[None]]
"""Awaited with the agent's name, its description and what it hears."""
Yields = Callable[[BaseAgentEvent | BaseChatMessage], None]
AgentFails = Callable[[str, Exception], None]
ToolFails = Callable[[str, str, Exception], None]
"""Called with the agent's name, the tool's, and what the tool raised."""

# The report, and the agent and the tool of the present call. A workbench may be shared by runs, so it can't have them
# itself.
_tool_fails: ContextVar[ToolFails | None] = ContextVar("tool_fails", default=None)
_calling: ContextVar[tuple[str, str] | None] = ContextVar("calling", default=None)
Ask: TypeAlias = Callable[[str, str], Awaitable[str]]
"""From the name of an agent that needs a person's input, and its prompt, to the input."""


def names(team: Team) -> frozenset[str]:
    """The names of the members that can get a turn."""
    return frozenset(member.name for member in cast("list[ChatAgent | Team]", getattr(team, _PARTICIPANTS, [])))


def members(team: Team) -> list[ChatAgent]:
    """All agents of a team, including those of nested teams."""
    found: list[ChatAgent] = []
    for member in cast("list[ChatAgent | Team]", getattr(team, _PARTICIPANTS, [])):
        found.extend(members(member) if isinstance(member, Team) else [member])
    return found


def report_sent(team: BaseGroupChat, sent: Callable[[], None]) -> None:
    """Call `sent` for each message that the team puts into the queue that its stream reads from."""
    queue: asyncio.Queue[object] = getattr(team, _QUEUE)
    put = queue.put

    async def reporting(item: object) -> None:
        if isinstance(item, BaseAgentEvent | BaseChatMessage):  # else it is the end of the stream
            sent()
        await put(item)

    cast(Any, queue).put = reporting


def has_run(team: Team | ChatAgent) -> bool:
    """Whether a team has run. A copy of it would share its agents, which its runtime's functions hold."""
    return bool(getattr(team, _HAS_RUN, False))


def single_agent_team(agent: ChatAgent) -> RoundRobinGroupChat:
    """A team of one agent that has one turn."""
    kind: type[BaseModel] | None = getattr(agent, _OUTPUT_TYPE, None)
    types: list[type[BaseAgentEvent | BaseChatMessage]] | None = [StructuredMessage[kind]] if kind else None
    team = RoundRobinGroupChat([agent], max_turns=1, custom_message_types=types)
    setattr(team, _IS_ALONE, True)
    return team


def is_single_agent(team: Team) -> bool:
    """Whether `single_agent_team` made it. Its limit of one turn is ours: an agent alone has no reason to stop."""
    return getattr(team, _IS_ALONE, False)


def report_turns(
    agent: ChatAgent, begins: TurnBegins, yields: Yields, fails: AgentFails, tool_fails: ToolFails
) -> None:
    """Await `begins` before each of the agent's turns, and set the tap's speaker during the turn. Call `yields` with
    each of its messages before the team gets it, `fails` with its name and what its turn raised, and `tool_fails` for
    its tools.

    Raises RunFailed for an agent that another run has used: it would mix the two runs' texts.
    """
    if "on_messages_stream" in vars(agent):
        raise RunFailed(
            "team_unavailable", f"{agent.name} has served another run already: the team's factory must make new agents."
        )
    takes_turn = agent.on_messages_stream
    speaker = Speaker(agent.name, needs_whole_only=isinstance(agent, AssistantAgent))
    description = own_description(agent)

    async def reported(
        messages: Sequence[BaseChatMessage], cancellation_token: CancellationToken
    ) -> AsyncGenerator[BaseAgentEvent | BaseChatMessage | Response, None]:
        _tool_fails.set(tool_fails)
        await begins(agent.name, description, messages)
        turn = _contained(takes_turn(messages, cancellation_token), partial(fails, agent.name))
        async for message in _as_speaker(speaker, turn):
            said = message.chat_message if isinstance(message, Response) else message
            if not isinstance(said, ModelClientStreamingChunkEvent):  # halves in two pieces are joined later
                mend(said)
                yields(said)
            yield _without_tool_ends(message) if isinstance(message, Response) else message

    cast(Any, agent).on_messages_stream = reported


def own_description(agent: ChatAgent) -> str:
    """The agent's description, empty if it is the default of its class, which says nothing about the agent."""
    text = agent.description.removesuffix(_FILTERED)
    return "" if text in _defaults(type(agent)) | _defaults(AssistantAgent) else text


def _defaults(kind: type[ChatAgent]) -> set[str]:
    """The descriptions that the classes of an agent give it by default."""
    makers = [vars(ancestor)["__init__"] for ancestor in kind.__mro__ if "__init__" in vars(ancestor)]
    found = [signature(make).parameters.get("description") for make in makers]
    return {parameter.default for parameter in found if parameter and isinstance(parameter.default, str)}


async def _as_speaker(speaker: Speaker | None, stream: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """The items of `stream`, which is at work as `speaker`. Between two items the turn is its caller's again."""
    while True:
        caller = speaking.get()
        speaking.set(speaker)
        try:
            item = await anext(stream)
        except StopAsyncIteration:
            return
        finally:
            speaking.set(caller)
        yield item


def silence_manager(team: Team) -> None:
    """Make the model calls of an inner team's manager, such as a selector's choice, nobody's text."""
    runs = team.run_stream

    def run_stream(**options: Any) -> AsyncGenerator[Any, None]:
        return _as_speaker(None, runs(**options))

    cast(Any, team).run_stream = run_stream


def answer_rule(team: Team, author: str | None) -> AnswerRule:
    """The rule for the team's answer: the words that end it or a team inside it, and who stands for a person."""
    inner = nesting.teams(team)
    words = {word for one in inner for word in _ending_words(getattr(one, _TERMINATION, None))}
    people = frozenset(agent.name for agent in nesting.agents(team) if isinstance(agent, UserProxyAgent))
    return AnswerRule(tuple(sorted(words, key=len, reverse=True)), author, people)


def _ending_words(condition: TerminationCondition | None) -> Iterator[str]:
    if condition is None:
        return
    if isinstance(condition, TextMentionTermination):
        yield getattr(condition, _MENTIONED)
    elif isinstance(condition, AndTerminationCondition | OrTerminationCondition):
        for part in getattr(condition, _CONDITIONS):
            yield from _ending_words(part)
    elif isinstance(condition, FunctionalTermination) or not type(condition).__module__.startswith("autogen_"):
        yield from USUAL_WORDS


def serve_inputs(team: Team, *, suspend: Ask, wait: Ask) -> frozenset[str]:
    """Await one of two functions where a `UserProxyAgent` would read the server's console, or its own input function
    calls `input`. Return the names of the agents that stand for a person.

    `suspend` may stop the team: it is for an agent in whose turn the team can be resumed. `wait` is for the others.
    """
    stands_for_person: set[str] = set()
    resumable = {id(member) for member in getattr(team, _PARTICIPANTS)} if can_step(team) else set[int]()
    for agent in nesting.agents(team):
        if isinstance(agent, UserProxyAgent):
            own, ask = agent.input_func, _bound(suspend if id(agent) in resumable else wait, agent.name)
            if own in (_DEFAULT_INPUT, ask_person) or console.reads_console(own):
                stands_for_person.add(agent.name)
                agent.input_func = _asking(ask)
            else:
                agent.input_func = console.served(own, ask, is_async=getattr(agent, _INPUT_IS_ASYNC))
            setattr(agent, _INPUT_IS_ASYNC, True)
    return frozenset(stands_for_person)


def _bound(ask: Ask, name: str) -> console.AskPerson:
    async def bound(prompt: str) -> str:
        return await ask(name, prompt)

    return bound


def _asking(ask: console.AskPerson) -> Callable[[str, CancellationToken | None], Awaitable[str]]:
    async def answer(prompt: str, _token: CancellationToken | None) -> str:
        return await ask(prompt)

    return answer


def input_request() -> str | None:
    """The id of the event that announces the current call of an input function, None outside of one."""
    try:
        return UserProxyAgent.InputRequestContext.request_id()
    except RuntimeError:
        return None


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
    """Report the end of each of an agent's tool calls at once, by an event for which `is_tool_end` is true, and what
    a tool raises to the turn's `tool_fails`.

    AutoGen reports the calls of one round together, after the last has ended, and keeps only an error's text.
    """
    for bench in cast("list[Workbench]", getattr(agent, _WORKBENCHES, None) or []):
        if isinstance(bench, StaticStreamWorkbench) and "call_tool_stream" not in vars(bench):
            cast(Any, bench).call_tool_stream = _with_tool_ends(bench.call_tool_stream)
            setattr(bench, _ERROR_TEXT, _with_report(getattr(bench, _ERROR_TEXT)))
            for tool in cast("list[object]", getattr(bench, _TOOLS)):
                if isinstance(tool, AgentTool | TeamTool):
                    cast(Any, tool).run_json_stream = _at_once(tool.run_json_stream)


def _at_once(runs: Callable[..., AsyncGenerator[Any, None]]) -> Callable[..., AsyncGenerator[Any, None]]:
    """Let each message of an agent or team that is run as a tool pass at once: the workbench keeps every item until
    the next one comes, since the last is the result. `_with_tool_ends` drops the items in between."""

    async def run_json_stream(*args: Any, **options: Any) -> AsyncGenerator[Any, None]:
        async for item in runs(*args, **options):
            yield item
            if not isinstance(item, TaskResult):
                yield _NEXT

    return run_json_stream


def _with_report(text_of: Callable[[Exception], str]) -> Callable[[Exception], str]:
    def reporting(error: Exception) -> str:
        fails, calling = _tool_fails.get(), _calling.get()
        if fails is not None and calling is not None:
            fails(*calling, error)
        return text_of(error)

    return reporting


def at_work() -> str | None:
    """The name of the agent that is at work here, itself or in one of its tools; None outside of a turn."""
    speaker, calling = speaking.get(), _calling.get()
    if speaker is not None:
        return speaker.name
    return calling[0] if calling is not None else None


async def _contained(turn: AsyncGenerator[T, None], fails: Callable[[Exception], None]) -> AsyncGenerator[T, None]:
    while (message := await _next_of(turn, fails)) is not None:
        yield message


async def _next_of(turn: AsyncGenerator[T, None], fails: Callable[[Exception], None]) -> T | None:
    """The turn's next message, None after the last. Contains what the agent raises, so that its team reports it."""
    try:
        with Contained():
            return await anext(turn, None)
    except Exception as problem:
        fails(problem)
        raise


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
        speaker = speaking.get()
        _calling.set((speaker.name, name) if speaker is not None else None)
        # A tool that asks a model by itself writes no text of the agent's.
        async for item in _as_speaker(None, calls(name, arguments, cancellation_token, call_id)):
            if item is _NEXT:
                continue
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

    async def ends(self, messages: Sequence[BaseAgentEvent | BaseChatMessage]) -> str | None:
        """The reason if the team has ended with `messages`, which are all since the last call; else None."""
        stop = await self._condition(messages) if self._condition is not None and messages else None
        return None if stop is None else stop.content

    def out_of_turns(self, turns: int) -> str | None:
        """The reason if the team has ended after so many turns, in AutoGen's words; else None."""
        return f"Maximum number of turns {turns} reached." if turns == self.max_turns else None

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
