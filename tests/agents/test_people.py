"""A person can be asked by every kind of team, in every way that a team can ask; nobody reads the server's console."""

import asyncio
import builtins
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest
from autogen_agentchat.agents import AssistantAgent, MessageFilterAgent, SocietyOfMindAgent, UserProxyAgent
from autogen_agentchat.agents._message_filter_agent import MessageFilterConfig
from autogen_agentchat.conditions import HandoffTermination, MaxMessageTermination, TextMentionTermination
from autogen_agentchat.teams import (
    BaseGroupChat,
    DiGraphBuilder,
    GraphFlow,
    MagenticOneGroupChat,
    RoundRobinGroupChat,
    Swarm,
)
from autogen_agentchat.tools import AgentTool, TeamTool
from autogen_core.models import ChatCompletionClient

from askstream.agents import console
from askstream.agents.human import NO_PROMPT, NO_REPLY
from askstream.server.events.errors import RunFailed
from askstream.server.runs.orchestrator import Answer, Inquiry, Reply
from tests.agents import fake_provider
from tests.agents.fake_provider import Body, Provider, provider
from tests.agents.human_runs import APPROVED, HumanRun, sent_back
from tests.agents.sample_teams import Make, Recorder, agent, answered, forked, orchestrator, task

NOBODY = Reply(value=None, answered=False)


class Viewer(Recorder):
    """A sink whose person answers in memory. It records how many events came before each question."""

    def __init__(self, *replies: str | Reply) -> None:
        super().__init__()
        self.replies = [reply if isinstance(reply, Reply) else Reply(value=reply) for reply in replies]
        self.said_before: list[list[str]] = []

    async def ask(self, inquiry: Inquiry) -> Reply:
        self.said_before.append([name for name, _ in self.said()])
        return await super().ask(inquiry)

    @property
    def questions(self) -> list[tuple[str, str]]:
        return [(asked.agent_name, asked.prompt) for asked in self.asked]


def echo(body: Body, _: int) -> fake_provider.Reply:
    """A model that repeats the last message, after it has called its one tool."""
    system, messages = str(body["messages"][0]["content"]), body["messages"]
    tools = [tool["function"]["name"] for tool in body.get("tools", [])]
    if tools and messages[-1]["role"] != "tool":
        return fake_provider.Reply(calls=[(tools[0], '{"task": "Ask."}')])
    name = system[8] if system.startswith("You are ") else "Team"
    return fake_provider.Reply(text=[f"{name} heard {messages[-1]['content']}"])


async def run(fake: Provider, make: Make, sink: Recorder) -> Answer:
    async with orchestrator(fake, make) as team:
        return answered(await team.run(task(), sink))


# --- kinds of teams --------------------------------------------------------------------------------------------------


def society(client: ChatCompletionClient) -> BaseGroupChat:
    inner = RoundRobinGroupChat([agent(client, "B"), UserProxyAgent("U")], max_turns=2)
    return RoundRobinGroupChat([SocietyOfMindAgent("S", inner, client), agent(client, "A")], max_turns=2)


def nested(client: ChatCompletionClient) -> BaseGroupChat:
    inner = RoundRobinGroupChat([agent(client, "B"), UserProxyAgent("U")], max_turns=2, name="Inner")
    return RoundRobinGroupChat([inner, agent(client, "A")], max_turns=2)


def conditional(client: ChatCompletionClient) -> BaseGroupChat:
    writer, person, last = members = agent(client, "B"), UserProxyAgent("U"), agent(client, "A")
    built = DiGraphBuilder().add_node(writer).add_node(person).add_node(last)
    built.add_edge(writer, person).add_edge(person, writer, "again").add_edge(person, last, "so it is")
    built.set_entry_point(writer)
    return GraphFlow(list(members), built.build(), termination_condition=MaxMessageTermination(9))


def filtered(client: ChatCompletionClient) -> BaseGroupChat:
    person = MessageFilterAgent("F", UserProxyAgent("U"), MessageFilterConfig(per_source=[]))
    return RoundRobinGroupChat([agent(client, "B"), person, agent(client, "A")], max_turns=3)


def by_team_tool(client: ChatCompletionClient) -> BaseGroupChat:
    inner = RoundRobinGroupChat([agent(client, "B"), UserProxyAgent("U")], max_turns=2)
    tool = TeamTool(inner, "ask", "Asks.", return_value_as_last_message=True)
    return RoundRobinGroupChat([agent(client, "A", tools=[tool], reflect_on_tool_use=True)], max_turns=1)


def by_agent_tool(client: ChatCompletionClient) -> BaseGroupChat:
    tool = AgentTool(UserProxyAgent("U"), return_value_as_last_message=True)
    return RoundRobinGroupChat(
        [agent(client, "B"), agent(client, "A", tools=[tool], reflect_on_tool_use=True)], max_turns=2
    )


@pytest.mark.parametrize("make", [society, nested, conditional, filtered, by_team_tool, by_agent_tool])
async def test_a_person_is_asked_inside_of_any_team(make: Make) -> None:
    """Once, after what the agents said before; the agents get the reply, and the person's text is no answer."""
    sink = Viewer("so it is")
    async with provider(echo) as fake:
        answer = await run(fake, make, sink)
        assert any("so it is" in str(body["messages"]) for body in fake.requests)
    assert sink.questions == [("U", "Enter your response:")]
    assert "B" in sink.said_before[0]
    assert answer.agent_name == "A"
    assert answer.final_response.startswith("A heard")
    assert not any("person's answer" in draft.message for draft in sink.drafts)


async def test_a_loop_asks_again() -> None:
    """A graph goes back to the writer until the person is content; each question has its own reply."""
    sink = Viewer("again", "again", "so it is")
    async with provider(echo) as fake:
        answer = await run(fake, conditional, sink)
    assert len(sink.asked) == 3
    assert [name for name, _ in sink.said()] == ["B", "U", "B", "U", "B", "U", "A"]
    assert answer.total_messages == 7


async def test_magentic_one_asks_a_person() -> None:
    """It chooses the person as the next speaker."""

    def leader(body: Body, _: int) -> fake_provider.Reply:
        if "is_request_satisfied" not in str(body["messages"][-1]["content"]):
            return fake_provider.Reply(text=["It is so."])
        done = {"reason": "all said", "answer": "blue" in str(body["messages"])}
        no = {"reason": "no", "answer": False}
        model_calls = {
            "is_request_satisfied": done,
            "is_in_loop": no,
            "is_progress_being_made": {"reason": "yes", "answer": True},
            "next_speaker": {"reason": "knows", "answer": "U"},
            "instruction_or_question": {"reason": "ask", "answer": "Which colour?"},
        }
        return fake_provider.Reply(text=[orjson.dumps(model_calls).decode()])

    def make(client: ChatCompletionClient) -> BaseGroupChat:
        return MagenticOneGroupChat([UserProxyAgent("U")], client, max_turns=3)

    sink = Viewer("blue")
    async with provider(leader) as fake:
        answer = await run(fake, make, sink)
    assert [name for name, _ in sink.questions] == ["U"]
    assert ("U", "blue") in sink.said()
    assert answer.agent_name == "MagenticOneOrchestrator"


async def test_two_agents_of_one_run_ask_at_once() -> None:
    """Parallel nodes of a graph; each gets its own reply."""

    def make(client: ChatCompletionClient) -> BaseGroupChat:
        return forked([agent(client, "A"), UserProxyAgent("U"), UserProxyAgent("V")])

    class Echoing(Viewer):
        async def ask(self, inquiry: Inquiry) -> Reply:
            self.replies = [Reply(value=f"to {inquiry.agent_name}")]
            return await super().ask(inquiry)

    sink = Echoing()
    async with provider(echo) as fake:
        await run(fake, make, sink)
    assert sorted(sink.said()[1:]) == [("U", "to U"), ("V", "to V")]


async def test_a_team_in_one_go_waits_for_a_review() -> None:
    """Sent back with a remark, it works again in the same place; then it is approved."""

    def make(client: ChatCompletionClient) -> BaseGroupChat:
        return forked([agent(client, name) for name in "ABC"])

    sink = Viewer(sent_back("Shorter."), APPROVED)
    async with provider(echo) as fake, orchestrator(fake, make) as team:
        answer = answered(await team.run(replace(task(), review=True), sink))
        assert len(fake.requests) == 6
    assert "REVIEW: Shorter." in answer.final_response
    assert len(sink.asked) == 2


# --- ways to ask -----------------------------------------------------------------------------------------------------


async def by_thread(prompt: str, _token: Any) -> str:
    return await asyncio.to_thread(input, prompt)


async def by_executor(prompt: str, _token: Any) -> str:
    return await asyncio.get_running_loop().run_in_executor(None, input, prompt)


async def in_the_loop(prompt: str, _token: Any) -> str:
    return f"{input(prompt)} and {input('Sure? ')}"  # noqa: ASYNC250 - what people write


def asks_until_clear(prompt: str) -> str:
    reply = input(prompt)
    while reply != "yes":
        reply = input("Answer yes. ")
    return reply


by_lambda: Callable[[str], str] = lambda prompt: input(prompt)  # noqa: E731, PLW0108 - what people write
in_capitals: Callable[[str], str] = lambda _: input().upper()  # noqa: E731
FUNCTIONS: list[tuple[Callable[..., Any] | None, list[str], list[str], str]] = [
    (None, ["Enter your response:"], ["yes"], "yes"),
    (input, ["Enter your response:"], ["yes"], "yes"),
    (by_lambda, ["Enter your response:"], ["yes"], "yes"),
    (in_capitals, [NO_PROMPT], ["yes"], "YES"),
    (asks_until_clear, ["Enter your response:", "Answer yes."], ["no", "yes"], "yes"),
    (by_thread, ["Enter your response:"], ["yes"], "yes"),
    (by_executor, ["Enter your response:"], ["yes"], "yes"),
    (in_the_loop, ["Enter your response:", "Sure?"], ["yes", "no"], "yes and no"),
]


@pytest.mark.parametrize(("function", "prompts", "replies", "said"), FUNCTIONS)
@pytest.mark.parametrize("suspends", [True, False])
async def test_every_input_function_is_served(
    function: Any, prompts: list[str], replies: list[str], said: str, suspends: bool
) -> None:
    """A team that can be stopped and resumed is stopped for each question; any other waits in memory."""

    def make(client: ChatCompletionClient) -> BaseGroupChat:
        team = RoundRobinGroupChat([agent(client, "B"), UserProxyAgent("U", input_func=function)], max_turns=2)
        return team if suspends else RoundRobinGroupChat([team], max_turns=1)

    async with provider(echo) as fake:
        play = HumanRun(fake, make)
        play.sink.replies = [] if suspends else [Reply(value=reply) for reply in replies]
        answer = await play.run(task(), [Reply(value=reply) for reply in replies] if suspends else [])
        assert len(fake.requests) == 1
    assert [(asked.agent_name, asked.prompt) for asked in [*play.inquiries, *play.sink.asked]] == [
        ("U", prompt) for prompt in prompts
    ]
    assert play.sink.said()[-1] == ("U", said)
    assert answer.agent_name == "B"


def asks(colour: str = "red") -> str:
    """Asks a person."""
    return input(f"Not {colour}? ")


async def asks_at_once() -> str:
    """Calls `input` in the event loop."""
    return input("Now? ")  # noqa: ASYNC250 - the fault that is tested


async def test_a_synchronous_tool_asks_a_person() -> None:
    """In its thread, in the name of the agent that calls it; the model gets the reply."""

    def make(client: ChatCompletionClient) -> BaseGroupChat:
        return RoundRobinGroupChat([agent(client, "A", tools=[asks], reflect_on_tool_use=True)], max_turns=1)

    sink = Viewer("blue")
    async with provider(echo) as fake:
        answer = await run(fake, make, sink)
    assert sink.questions == [("A", "Not red?")]
    assert answer.final_response == "A heard blue"


async def test_an_async_tool_that_would_block_the_loop_fails_its_call() -> None:
    """With a sentence that says how to do it; nobody is asked, and the run goes on."""

    def make(client: ChatCompletionClient) -> BaseGroupChat:
        return RoundRobinGroupChat([agent(client, "A", tools=[asks_at_once], reflect_on_tool_use=True)], max_turns=1)

    sink = Viewer()
    async with provider(echo) as fake:
        answer = await run(fake, make, sink)
    assert sink.asked == []
    assert "await asyncio.to_thread(input, prompt)" in answer.final_response


async def test_outside_of_a_run_input_is_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the loop and in its threads, before and after a run."""
    monkeypatch.setattr(builtins, "input", lambda prompt="": f"console: {prompt}")
    console.replace_input()
    assert input("a") == "console: a"  # noqa: ASYNC250 - it returns at once
    sink = Viewer("so it is")
    async with provider(echo) as fake:
        await run(fake, society, sink)
        assert input("b") == "console: b"  # noqa: ASYNC250
        assert await asyncio.to_thread(input, "c") == "console: c"
    assert len(sink.asked) == 1


async def test_a_thread_that_waits_for_a_person_ends_with_its_run() -> None:
    """Cancelled, the run leaves no thread that waits for ever; a tool that catches exceptions can't go on asking."""
    ended: list[BaseException] = []
    asked = asyncio.Event()

    def stubborn() -> str:
        """Asks again whatever happens."""
        while True:
            try:
                return input("?")
            except Exception:  # noqa: BLE001 - the tool's fault is what is tested
                continue
            except BaseException as problem:
                ended.append(problem)
                raise

    def make(client: ChatCompletionClient) -> BaseGroupChat:
        return RoundRobinGroupChat([agent(client, "A", tools=[stubborn])], max_turns=1)

    class Silent(Recorder):
        async def ask(self, inquiry: Inquiry) -> Reply:
            asked.set()
            return await asyncio.get_running_loop().create_future()

    async with provider(echo) as fake, orchestrator(fake, make) as team:
        running = asyncio.ensure_future(team.run(task(), Silent()))
        await asyncio.wait_for(asked.wait(), 10)
        running.cancel()
        await asyncio.wait({running})
        async with asyncio.timeout(10):
            await asyncio.get_running_loop().shutdown_default_executor()
    assert [type(problem) for problem in ended] == [asyncio.CancelledError]


# --- nobody answers --------------------------------------------------------------------------------------------------


async def test_a_team_that_asks_again_although_nobody_answers_ends_with_its_last_message() -> None:
    """It was notified once. Waiting again, it might wait for ever."""
    sink = Viewer(NOBODY)

    def loops(client: ChatCompletionClient) -> BaseGroupChat:
        writer, person, last = members = agent(client, "B"), UserProxyAgent("U"), agent(client, "A")
        built = DiGraphBuilder().add_node(writer).add_node(person).add_node(last)
        built.add_edge(writer, person).add_edge(person, writer, "Nobody").add_edge(person, last, "so it is")
        built.set_entry_point(writer)
        return GraphFlow(list(members), built.build(), termination_condition=MaxMessageTermination(9))

    async with provider(echo) as fake:
        answer = await run(fake, loops, sink)
    assert [name for name, _ in sink.said()] == ["B", "U", "B"]
    assert answer.final_response == f"B heard {NO_REPLY}"


async def test_inside_a_turn_it_ends_too() -> None:
    """The whole team has turns, and the one that asks is within."""

    def make(client: ChatCompletionClient) -> BaseGroupChat:
        inner = RoundRobinGroupChat([agent(client, "B"), UserProxyAgent("U")], max_turns=4, name="Inner")
        return RoundRobinGroupChat([agent(client, "A"), inner], max_turns=2)

    sink = Viewer(NOBODY)
    async with provider(echo) as fake:
        answer = await run(fake, make, sink)
    assert [name for name, _ in sink.said()] == ["A", "B", "U", "B"]
    assert answer.agent_name == "B"
    assert answer.total_messages == 4


async def test_a_team_that_waited_in_memory_goes_on_from_its_last_turn() -> None:
    """Its server died: the turn in which it asked is repeated, and asks again. One without turns is interrupted."""

    def make(client: ChatCompletionClient) -> BaseGroupChat:
        inner = RoundRobinGroupChat([agent(client, "B"), UserProxyAgent("U")], max_turns=2, name="Inner")
        return RoundRobinGroupChat([agent(client, "A"), inner], max_turns=2)

    class Dies(Recorder):
        async def ask(self, inquiry: Inquiry) -> Reply:
            raise ConnectionError

    async with provider(echo) as fake:
        died = Dies()
        async with orchestrator(fake, make) as team:
            with pytest.raises(RunFailed):
                await team.run(task(), died)
        sink = Viewer("yes")
        async with orchestrator(fake, make) as team:
            await team.run(replace(task(checkpoint=died.checkpoints[-1]), attempt=2), sink)
        assert [name for name, _ in sink.said()] == ["B", "U"]
        async with orchestrator(fake, conditional) as team:
            with pytest.raises(RunFailed) as caught:
                await team.run(replace(task(), attempt=2), Viewer("yes"))
    assert caught.value.code == "interrupted"


# --- messages --------------------------------------------------------------------------------------------------------


def chat(client: ChatCompletionClient) -> BaseGroupChat:
    return RoundRobinGroupChat([agent(client, "A"), UserProxyAgent("U")], termination_condition=_bye())


def chat_in_a_loop(client: ChatCompletionClient) -> BaseGroupChat:
    return RoundRobinGroupChat([chat(client)], max_turns=1)


def _bye() -> TextMentionTermination:
    return TextMentionTermination("bye", sources=["U"])


@pytest.mark.parametrize("make", [chat, chat_in_a_loop])
async def test_a_conversation_is_not_cut_as_a_runaway(make: Make) -> None:
    """Each answer begins the count of messages anew, up to a limit of its own."""
    replies = [Reply(value=text) for text in ("one", "two", "three", "bye")]

    async def talk(conversation: int) -> Answer:
        play = HumanRun(fake, make, max_messages=3, conversation_messages=conversation)
        play.sink.replies = [] if make is chat else list(replies)
        return await play.run(task(), replies if make is chat else [])

    async with provider(echo) as fake:
        assert (await talk(8)).total_messages == 8
        with pytest.raises(RunFailed, match="7 messages") as caught:
            await talk(7)
    assert caught.value.code == "message_limit"


async def test_a_team_that_talks_to_itself_is_cut_after_an_answer_too() -> None:
    """The count begins anew, and no more."""

    def make(client: ChatCompletionClient) -> BaseGroupChat:
        members: list[Any] = [UserProxyAgent("U"), *(agent(client, name) for name in "ABC")]
        return RoundRobinGroupChat(members, max_turns=4)

    async with provider(echo) as fake:
        with pytest.raises(RunFailed, match="3 messages"):
            await HumanRun(fake, make, max_messages=3).run(task(), [Reply(value="yes")])


# --- handoffs --------------------------------------------------------------------------------------------------------

DEFAULT = "Transferred to user, adopting the role of user immediately."


@pytest.mark.parametrize(
    ("texts", "asked"),
    [
        ([("Which order?", True)], "Which order?"),
        ([("Which order is it?", False), ("", True)], "Which order is it?"),
        ([("Hello.", False), ("Which one?", True)], "Which one?"),
        ([("", True)], DEFAULT),
    ],
)
async def test_a_handoff_asks_the_real_question(texts: list[tuple[str, bool]], asked: str) -> None:
    """The agent's thought beside the handoff, else the text that it wrote before."""
    left = list(texts)

    def model(body: Body, _: int) -> fake_provider.Reply:
        if not left:
            return fake_provider.Reply(text=["DONE"])
        text, hands_over = left.pop(0)
        calls = [("transfer_to_user", "{}")] if hands_over else []
        return fake_provider.Reply(text=[text] if text else [], calls=calls)

    def make(client: ChatCompletionClient) -> BaseGroupChat:
        ends = HandoffTermination("user") | TextMentionTermination("DONE")
        return Swarm([AssistantAgent("A", client, handoffs=["user"])], termination_condition=ends)

    async with provider(model) as fake:
        play = HumanRun(fake, make)
        await play.run(task(), [Reply(value="42")])
    assert [inquiry.prompt for inquiry in play.inquiries] == [asked]
