"""AutoGen's kinds of teams, and the shapes of its samples."""

from typing import Any

from autogen_agentchat.agents import AssistantAgent, UserProxyAgent
from autogen_agentchat.base import Team
from autogen_agentchat.conditions import HandoffTermination, MaxMessageTermination, TextMentionTermination
from autogen_agentchat.teams import (
    DiGraphBuilder,
    GraphFlow,
    MagenticOneGroupChat,
    RoundRobinGroupChat,
    SelectorGroupChat,
    Swarm,
)

from tests.matrix.kinds import Cast, kind
from tests.matrix.script import chooses

DRAFTS = ("A first draft.", "Make it shorter.", "A draft.", "APPROVE")


async def look(at: str) -> str:
    """Look at something."""
    return f'{{"{at}": 3.10}}'


async def fail(at: str) -> str:
    """Fail."""
    raise ValueError(f"no {at}")


@kind("writer", "A draft.")
def writer_and_critic(cast: Cast) -> Team:
    return RoundRobinGroupChat(cast.pair(*DRAFTS), termination_condition=TextMentionTermination("APPROVE"))


@kind("assistant", "It is 3.1.", hangs_at=1)
def chainlit_agent(cast: Cast) -> AssistantAgent:
    """A single agent with tools, whose text streams."""
    calls = [["look", {"at": "sky"}], ["fail", {"at": "sea"}]]
    return cast.agent(
        "assistant", calls, "It is 3.1.", tools=[look, fail], model_client_stream=True, reflect_on_tool_use=True
    )


@kind("assistant", "A draft.")
def chainlit_team(cast: Cast) -> Team:
    assistant = cast.agent("assistant", "A first draft.", "A draft.", model_client_stream=True)
    critic = cast.agent("critic", "Make it shorter.", "APPROVE", model_client_stream=True)
    approved = TextMentionTermination("APPROVE", sources=["critic"])
    return RoundRobinGroupChat([assistant, critic], termination_condition=approved)


@kind("assistant", "Shall I go?", replies=("Go on.", "APPROVE"))
def chainlit_team_with_person(cast: Cast) -> Team:
    assistant = cast.agent("assistant", "Shall I stay?", "Shall I go?", model_client_stream=True)
    person: Any = UserProxyAgent("user", input_func=cast.ask)
    approved = TextMentionTermination("APPROVE", sources=["user"])
    return RoundRobinGroupChat([assistant, person], termination_condition=approved, max_turns=4)


@kind("yoda", "Help you, I shall.", replies=("No.", "TERMINATE"), hangs_at=2)
def fastapi_team(cast: Cast) -> Team:
    """Its end is a person's word; the sample itself has none."""
    members: list[Any] = [
        cast.agent("assistant", "I shall help you.", "I help."),
        cast.agent("yoda", "Help, I shall.", "Help you, I shall."),
        UserProxyAgent("user", input_func=cast.ask),
    ]
    return RoundRobinGroupChat(members, termination_condition=TextMentionTermination("TERMINATE", sources=["user"]))


@kind("assistant", "Hello.", hangs_at=0)
def streamlit_agent(cast: Cast) -> AssistantAgent:
    return cast.agent("assistant", "Hello.")


@kind("writer", "A draft.", hangs_at=2)
def selector_by_prompt(cast: Cast) -> Team:
    return SelectorGroupChat(
        cast.pair(*DRAFTS),
        cast.client,
        selector_prompt=chooses(cast.kind, "writer", "critic", "writer", "critic"),
        termination_condition=TextMentionTermination("APPROVE"),
    )


@kind("writer", "A draft.")
def selector_by_function(cast: Cast) -> Team:
    def selector(thread: Any) -> str:
        return "critic" if thread[-1].source == "writer" else "writer"

    ends = TextMentionTermination("APPROVE")
    return SelectorGroupChat(cast.pair(*DRAFTS), cast.client, selector_func=selector, termination_condition=ends)


@kind("writer", "A draft.", hangs_at=2)
def selector_by_candidates(cast: Cast) -> Team:
    """Two candidates remain for the model; one needs no choice."""

    def candidates(thread: Any) -> list[str]:
        return ["critic"] if thread[-1].source == "writer" else ["writer", "reader"]

    return SelectorGroupChat(
        [*cast.pair(*DRAFTS), cast.agent("reader", "I read.")],
        cast.client,
        selector_prompt=chooses(cast.kind, "writer", "", "writer", ""),
        candidate_func=candidates,
        termination_condition=TextMentionTermination("APPROVE"),
        allow_repeated_speaker=True,
        emit_team_events=True,
    )


def _to(name: str) -> list[Any]:
    return [[f"transfer_to_{name}", {}]]


@kind("writer", "It is done.", hangs_at=2)
def swarm(cast: Cast) -> Team:
    """A tool's result goes with the handoff."""
    planner = cast.agent("planner", [["look", {"at": "plan"}]], _to("writer"), tools=[look], handoffs=["writer"])
    writer = cast.agent("writer", _to("planner"), "It is done.", handoffs=["planner"])
    return Swarm([planner, writer], termination_condition=MaxMessageTermination(6) | TextMentionTermination("done"))


@kind("agent", "Paid back.", replies=("Flight 7",), hangs_at=2)
def swarm_with_person(cast: Cast) -> Team:
    """The question of the handoff is the thought beside it."""
    ends = HandoffTermination(target="user") | TextMentionTermination("TERMINATE")
    agent = cast.agent(
        "agent", _to("clerk"), [["look", {"at": "flight"}]], "Paid back. TERMINATE", tools=[look], handoffs=["clerk"]
    )
    clerk = cast.agent("clerk", _to("user"), _to("agent"), handoffs=["user", "agent"])
    return Swarm([agent, clerk], termination_condition=ends)


def _graph(*members: Any, edges: str, entry: str | None = None, **options: Any) -> Team:
    """A graph with edges such as "a>b b>c:word"."""
    built, by_name = DiGraphBuilder(), {member.name: member for member in members}
    for member in members:
        built.add_node(member)
    for edge in edges.split():
        ends, _, word = edge.partition(":")
        source, target = ends.split(">")
        built.add_edge(by_name[source], by_name[target], word or None)
    if entry:
        built.set_entry_point(by_name[entry])
    return GraphFlow(list(members), built.build(), **options)


@kind("c", "Third.")
def graph_linear(cast: Cast) -> Team:
    return _graph(cast.agent("a", "First."), cast.agent("b", "Second."), cast.agent("c", "Third."), edges="a>b b>c")


@kind("d", "Joined.", at_once=True, hangs_at=2, resumes=False)
def graph_parallel(cast: Cast) -> Team:
    b, c = cast.agent("b", [["look", {"at": "b"}]], tools=[look]), cast.agent("c", "Right.")
    return _graph(cast.agent("a", "Split."), b, c, cast.agent("d", "Joined."), edges="a>b a>c b>d c>d")


@kind("c", "Yes, it is.", resumes=False)
def graph_conditional(cast: Cast) -> Team:
    return _graph(
        cast.agent("a", "I say yes."),
        cast.agent("b", "No, it isn't."),
        cast.agent("c", "Yes, it is."),
        edges="a>b:no a>c:yes",
    )


@kind("c", "Printed.", hangs_at=2, resumes=False)
def graph_loop(cast: Cast) -> Team:
    a, b = cast.agent("a", "Once.", "Twice."), cast.agent("b", "again", "approved")
    return _graph(a, b, cast.agent("c", "Printed."), edges="a>b b>a:again b>c:approved", entry="a", max_turns=9)


@kind("MagenticOneOrchestrator", "The final answer.", hangs_at=1, resumes=False)
def magentic_one(cast: Cast) -> Team:
    return MagenticOneGroupChat(cast.pair("A draft.", "It is good."), cast.client)
