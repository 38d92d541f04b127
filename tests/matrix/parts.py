"""Teams whose parts are special: agents in agents, tools, code, structured texts, images, memory, custom messages."""

import os
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from autogen_agentchat.agents import BaseChatAgent, CodeExecutorAgent, MessageFilterAgent, SocietyOfMindAgent
from autogen_agentchat.agents._message_filter_agent import MessageFilterConfig, PerSourceFilter
from autogen_agentchat.base import ChatAgent, Response, Team
from autogen_agentchat.conditions import TextMentionTermination
from autogen_agentchat.messages import BaseChatMessage, MultiModalMessage, StructuredMessage, TextMessage
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_agentchat.tools import AgentTool, TeamTool
from autogen_core import CancellationToken, Image
from autogen_core.memory import ListMemory, MemoryContent, MemoryMimeType
from autogen_core.models import ModelInfo
from autogen_ext.code_executors.local import LocalCommandLineCodeExecutor
from autogen_ext.models.openai import OpenAIChatCompletionClient
from autogen_ext.tools.mcp import McpWorkbench, StdioServerParams
from PIL import Image as Pictures
from pydantic import BaseModel

from askstream.agents import component
from askstream.agents.autogen_internals import members
from tests.matrix.classics import DRAFTS, writer_and_critic
from tests.matrix.kinds import Cast, kind, slow
from tests.matrix.script import scripted

INFO = ModelInfo(vision=False, function_calling=True, json_output=False, family="unknown", structured_output=False)
MCP_SERVER = str(Path(__file__).parents[1] / "agents" / "mcp_server.py")


def _inner(cast: Cast) -> RoundRobinGroupChat:
    approved = TextMentionTermination("APPROVE")
    return RoundRobinGroupChat(cast.pair(*DRAFTS), termination_condition=approved, name="inner")


@kind("society", "We agree on a draft.")
def society_of_mind(cast: Cast) -> Team:
    script = scripted(cast.kind, "society", ("We agree on a draft.",))
    society = SocietyOfMindAgent("society", _inner(cast), cast.client, instruction=script)
    return RoundRobinGroupChat([society], max_turns=1)


@kind("asker", "The expert says 42.")
def agent_tool(cast: Cast) -> Team:
    tool = AgentTool(cast.agent("expert", "It is 42."), return_value_as_last_message=True)
    calls = [["expert", {"task": "Is it 42?"}]]
    asker = cast.agent("asker", calls, "The expert says 42.", tools=[tool], reflect_on_tool_use=True)
    return RoundRobinGroupChat([asker], max_turns=1)


@kind("asker", "They agree.")
def team_tool(cast: Cast) -> ChatAgent:
    tool = TeamTool(_inner(cast), "experts", "Experts.", return_value_as_last_message=True)
    calls = [["experts", {"task": "Write."}]]
    return cast.agent("asker", calls, "They agree.", tools=[tool], max_tool_iterations=3)


@kind("critic", "I see the question alone.")
def message_filter(cast: Cast) -> Team:
    sees = MessageFilterConfig(per_source=[PerSourceFilter(source="user")])
    writer, critic = cast.pair("A draft.", "I see the question alone.")
    return RoundRobinGroupChat([writer, MessageFilterAgent("filter", critic, sees)], max_turns=2)


@kind("reader", "I have read it.", hangs_at=2)
def team_in_team(cast: Cast) -> Team:
    return RoundRobinGroupChat([_inner(cast), cast.agent("reader", "I have read it.")], max_turns=2)


@asynccontextmanager
async def _runs_code(cast: Cast, code: str) -> AsyncGenerator[Team]:
    """One agent runs its own code, one another's; each piece in a process."""
    text = f"Here:\n```python\n{code}\n```"
    with tempfile.TemporaryDirectory() as folder:
        executor = LocalCommandLineCodeExecutor(work_dir=folder)
        script = scripted(cast.kind, "coder", (text, "It printed 42."))
        coder = CodeExecutorAgent("coder", executor, model_client=cast.client, system_message=script)
        runner = CodeExecutorAgent("runner", executor, sources=["writer"])
        yield RoundRobinGroupChat([coder, cast.agent("writer", text), runner], max_turns=3)


@kind("runner", "42\n")
def code_executor(cast: Cast) -> Any:
    return _runs_code(cast, "print(6 * 7)")


@slow
def slow_code(cast: Cast) -> Any:
    return _runs_code(cast, "import time; time.sleep(600)")


@asynccontextmanager
async def _asks_mcp(cast: Cast, tool: str) -> AsyncGenerator[ChatAgent]:
    """A real MCP server over stdio."""
    async with McpWorkbench(StdioServerParams(command=sys.executable, args=[MCP_SERVER])) as bench:
        calls = [[tool, {"at": "it"}]]
        yield cast.agent("guide", calls, "I saw it.", workbench=bench, reflect_on_tool_use=True)


@kind("guide", "I saw it.")
def mcp_workbench(cast: Cast) -> Any:
    return _asks_mcp(cast, "look")


@slow
def slow_mcp_tool(cast: Cast) -> Any:
    return _asks_mcp(cast, "stare")


class Verdict(BaseModel):
    """A structured answer."""

    good: bool
    words: list[str]


VERDICT = Verdict(good=True, words=["short", "clear"])


@kind("judge", VERDICT.model_dump_json(), hangs_at=1)
def structured_output(cast: Cast) -> Team:
    judge = cast.agent("judge", VERDICT.model_dump_json(), output_content_type=Verdict)
    return RoundRobinGroupChat(
        [cast.agent("writer", "A draft."), judge], max_turns=2, custom_message_types=[StructuredMessage[Verdict]]
    )


class Nameless(BaseChatMessage):
    """A message type without a `type`, which AutoGen sends, but can't read back from a state."""

    score: int

    def to_text(self) -> str:
        return f"Scored {self.score}."

    def to_model_text(self) -> str:
        return self.to_text()

    def to_model_message(self) -> Any:
        return TextMessage(source=self.source, content=self.to_text()).to_model_message()


class Score(Nameless):
    """One with it."""

    type: Literal["Score"] = "Score"
    reasons: list[str]


class Custom(BaseChatAgent):
    """An agent of one's own. It answers with a message that `_make` returns."""

    def __init__(self, name: str, make: Callable[[str], BaseChatMessage]) -> None:
        super().__init__(name, f"Is {name}.")
        self._make = make

    @property
    def produced_message_types(self) -> Sequence[type[BaseChatMessage]]:
        return (Score, Nameless, MultiModalMessage)

    async def on_messages(self, messages: Sequence[BaseChatMessage], cancellation_token: CancellationToken) -> Response:
        return Response(chat_message=self._make(self.name))

    async def on_reset(self, cancellation_token: CancellationToken) -> None: ...


@kind("writer", "Thanks for the score.")
def custom_agent_and_message(cast: Cast) -> Team:
    scorer: Any = Custom("scorer", lambda name: Score(source=name, score=7, reasons=["Clear."]))
    writer = cast.agent("writer", "A draft.", "Thanks for the score.")
    return RoundRobinGroupChat([writer, scorer], max_turns=3, custom_message_types=[Score])


@kind("writer", "Thanks for the score.", resumes=False)
def custom_message_without_type(cast: Cast) -> Team:
    scorer: Any = Custom("scorer", lambda name: Nameless(source=name, score=7))
    writer = cast.agent("writer", "A draft.", "Thanks for the score.")
    return RoundRobinGroupChat([writer, scorer], max_turns=3, custom_message_types=[Nameless])


def picture(width: int, height: int) -> Image:
    return Image(Pictures.new("RGB", (width, height), "red"))


@kind("writer", "A red square.")
def images(cast: Cast) -> Team:
    painter: Any = Custom("painter", lambda name: MultiModalMessage(source=name, content=["Look:", picture(8, 4)]))
    return RoundRobinGroupChat([cast.agent("writer", "Paint!", "A red square."), painter], max_turns=3)


@kind("writer", "In metres, then.", hangs_at=0)
@asynccontextmanager
async def memory(cast: Cast) -> AsyncGenerator[Team]:
    known = ListMemory()
    await known.add(MemoryContent(content="They want metres.", mime_type=MemoryMimeType.TEXT))
    yield RoundRobinGroupChat([cast.agent("writer", "In metres, then.", memory=[known])], max_turns=1)


@kind("writer", "It is done.")
def thoughts(cast: Cast) -> Team:
    lines: list[Any] = [{"thought": "Hm.", "text": "Not yet."}, {"thought": "Now.", "text": "It is done."}]
    return RoundRobinGroupChat([cast.agent("writer", *lines, model_client_stream=True)], max_turns=2)


@kind("writer", "A draft.")
@asynccontextmanager
async def component_json(cast: Cast) -> AsyncGenerator[Team]:
    """A team as `dump_component` writes it, with the key and the address of the environment."""
    key: dict[str, Any] = {"api_key": "sk-of-the-author", "base_url": os.environ["OPENAI_BASE_URL"]}
    author: Any = OpenAIChatCompletionClient(model="fake", model_info=INFO, **key)
    described = writer_and_critic(replace(cast, client=author)).dump_component()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "team.json"
        path.write_text(described.model_dump_json())
        team = component.load(path)
    yield team
    for client in (vars(member)["_model_client"] for member in members(team)):
        await client.close()
