"""Clean-up never replaces a result: autogen_ext's real MCP workbench and its real code executor."""

import asyncio
import gc
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent, CodeExecutorAgent
from autogen_agentchat.base import Response
from autogen_agentchat.messages import BaseChatMessage
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import CancellationToken
from autogen_core.models import ChatCompletionClient
from autogen_ext.code_executors.local import LocalCommandLineCodeExecutor
from autogen_ext.tools.mcp import McpWorkbench, StdioServerParams, StreamableHttpServerParams

from askstream.server.events import ToolExecution
from tests.agents.fake_provider import Body, Reply, provider
from tests.agents.sample_teams import Recorder, agent, answered, orchestrator, task
from tests.timing import GLANCE, PATIENCE

# Warnings of autogen_ext: of the executor's danger, and of a workbench that nobody stopped. The server ends its tasks.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Using LocalCommandLineCodeExecutor",
    "ignore:No approval function set",
    "ignore:Use `streamable_http_client`:DeprecationWarning",
    "ignore:Cannot safely stop actor",
    "ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning",
)
SERVER = str(Path(__file__).with_name("mcp_server.py"))


@pytest.fixture
def http_url() -> Iterator[str]:
    """The address of an MCP server of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, SERVER, str(port)], stderr=subprocess.DEVNULL)
    try:
        _until_it_listens(port)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.terminate()
        process.wait()


def _until_it_listens(port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(GLANCE)
    raise AssertionError("the MCP server never listened")


def looks(body: Body, _: int) -> Reply:
    if body["messages"][-1]["role"] == "tool":
        return Reply(text=["I have ", str(body["messages"][-1]["content"])])
    return Reply(calls=[("look", '{"at": "it"}')])


@pytest.mark.parametrize("way", ["stdio", "http"])
async def test_a_call_of_an_mcp_workbench_keeps_its_result(way: str, request: pytest.FixtureRequest) -> None:
    """It links a coroutine, where a future belongs, into the token that is cancelled after the turn."""
    if way == "http":
        params: Any = StreamableHttpServerParams(url=request.getfixturevalue("http_url"))
    else:
        params = StdioServerParams(command=sys.executable, args=[SERVER], read_timeout_seconds=PATIENCE)

    def make(model_client: ChatCompletionClient) -> Any:
        one = AssistantAgent("A", model_client, workbench=McpWorkbench(params), reflect_on_tool_use=True)
        return RoundRobinGroupChat([one, agent(model_client, "B")], max_turns=1)

    sink = Recorder()
    async with provider(looks) as fake, orchestrator(fake, make) as team:
        async with asyncio.timeout(3 * PATIENCE):
            answer = answered(await team.run(task(), sink))
    gc.collect()  # the workbench complains when it is collected; not within another test
    assert "it seen" in answer.final_response
    assert [body.status for body in sink.bodies(ToolExecution)] == ["started", "finished"]


async def test_a_code_executor_runs_its_code_and_keeps_the_result(tmp_path: Path) -> None:
    """In a process of its own."""
    code = "Here it is:\n```python\nprint(6 * 7)\n```"

    def make(model_client: ChatCompletionClient) -> Any:
        runs = CodeExecutorAgent("Runner", LocalCommandLineCodeExecutor(work_dir=tmp_path))
        return RoundRobinGroupChat([agent(model_client, "Writer"), runs], max_turns=2)

    async with provider([Reply(text=[code])]) as fake, orchestrator(fake, make) as team:
        async with asyncio.timeout(3 * PATIENCE):
            answer = answered(await team.run(task(), Recorder()))
    assert answer.final_response.strip() == "42"


class Linking(AssistantAgent):
    """Puts a callback that fails into the token, as careless tools do."""

    async def on_messages(self, messages: Sequence[BaseChatMessage], cancellation_token: CancellationToken) -> Response:
        return await super().on_messages(messages, cancellation_token)

    def on_messages_stream(self, messages: Any, cancellation_token: CancellationToken) -> Any:
        def fail() -> None:
            raise SystemExit(2)

        cancellation_token.add_callback(fail)
        return super().on_messages_stream(messages, cancellation_token)


async def test_a_callback_that_fails_after_a_turn_changes_nothing() -> None:
    def make(model_client: ChatCompletionClient) -> Any:
        return RoundRobinGroupChat([Linking("A", model_client)], max_turns=1)

    async with provider([Reply(text=["done"])]) as fake, orchestrator(fake, make) as team:
        assert answered(await team.run(task(), Recorder())).final_response == "done"


async def test_a_state_that_cannot_be_saved_changes_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    """The log says that the run can't be resumed, and why."""

    class Unsaved(AssistantAgent):
        async def save_state(self) -> Any:
            raise SystemExit("no state")

    def make(model_client: ChatCompletionClient) -> Any:
        return RoundRobinGroupChat([Unsaved("A", model_client), agent(model_client, "B")], max_turns=2)

    async with provider([Reply(text=["done"])]) as fake, orchestrator(fake, make) as team:
        assert answered(await team.run(task(), Recorder())).final_response == "done"
    assert "SystemExit: no state" in caplog.text
