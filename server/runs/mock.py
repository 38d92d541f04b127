"""The mock events of `GET /test-stream`: no model, no team, and the same log, bus and transports as any other run."""

import asyncio

from askstream.server.events import AgentResponse, AgentThinking, Draft, ToolExecution, Usage
from askstream.server.runs.orchestrator import Answer, Sink, Task

# Long enough to see events arrive one by one; behind a proxy that buffers they arrive together.
PAUSE_SECONDS = 0.2

_TOOL = ToolExecution(
    tool_name="test_tool",
    parameters={"test": True},
    call_id="test",
    status="finished",
    result="ok",
    duration_ms=0,
    progress=75,
)
_DRAFTS = [
    Draft("TestAgent", "Thinking about the test...", AgentThinking(progress=25)),
    Draft("TestAgent", "The test is going well.", AgentResponse(progress=50)),
    Draft("TestAgent", "Running test_tool", _TOOL),
]


class Mock:
    """An Orchestrator that emits the same events every time."""

    model = "mock (no model)"

    def __init__(self, pause_seconds: float = PAUSE_SECONDS) -> None:
        self._pause = pause_seconds

    async def run(self, task: Task, sink: Sink) -> Answer:
        for draft in _DRAFTS:
            await asyncio.sleep(self._pause)
            await sink.emit(draft)
        await asyncio.sleep(self._pause)
        return Answer(
            final_response="This is a test: no model was asked.",
            total_messages=1,
            usage=Usage(),
            agent_name="TestAgent",
        )
