"""Where teams play in tests: a sink that keeps what it is given, and an orchestrator over a fake provider."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from agents.assembly import Own
from agents.human import Customs
from agents.models import ModelSettings, connect
from agents.orchestrator import AutoGenOrchestrator
from agents.teams import Factory
from server.events import AgentChunk, AgentResponse, AgentThinking, Draft, ToolExecution
from server.runs.orchestrator import Answer, Inquiry, Task
from tests.agents.fake_provider import Provider

B = TypeVar("B", AgentChunk, AgentResponse, AgentThinking, ToolExecution)


class Recorder:
    """A Sink that keeps everything, and can be waited on."""

    def __init__(self) -> None:
        self.drafts: list[Draft] = []
        self.checkpoints: list[bytes] = []
        self._told = asyncio.Event()

    async def emit(self, draft: Draft) -> None:
        self.drafts.append(draft)
        self._told.set()

    async def checkpoint(self, state: bytes) -> None:
        self.checkpoints.append(state)

    async def until(self, wanted: Callable[[Draft], bool]) -> Draft:
        """Waits for the first draft of that kind."""
        while True:
            for draft in self.drafts:
                if wanted(draft):
                    return draft
            self._told.clear()
            await asyncio.wait_for(self._told.wait(), 10)

    def bodies(self, kind: type[B]) -> list[B]:
        return [draft.body for draft in self.drafts if isinstance(draft.body, kind)]

    def said(self) -> list[tuple[str, str]]:
        """Who answered what, in order."""
        return [(draft.agent_name, draft.message) for draft in self.drafts if isinstance(draft.body, AgentResponse)]

    def written(self, message_id: str | None) -> str:
        """The text that the pieces of this id make up."""
        return "".join(body.delta for body in self.bodies(AgentChunk) if body.message_id == message_id)


@asynccontextmanager
async def orchestrator(
    fake: Provider,
    make: Callable[..., Any],
    *,
    max_messages: int = 40,
    max_retries: int = 0,
    patience: float = 10.0,
    customs: Customs | None = None,
) -> AsyncGenerator[AutoGenOrchestrator]:
    """An orchestrator of the team that `make` makes of a model client."""
    settings = ModelSettings(
        model="fake",
        base_url=fake.base_url,
        names="field",
        max_retries=max_retries,
        timeout_seconds=patience,
        info={"structured_output": True},
    )
    source = Own(Factory("tests:make", make, "first"))
    source.customs = customs or source.customs
    made = AutoGenOrchestrator(model="fake", client=lambda: connect(settings), source=source, max_messages=max_messages)
    try:
        yield made
    finally:
        await made.close()


def answered(outcome: Answer | Inquiry) -> Answer:
    """What a run came to that needed nobody."""
    assert isinstance(outcome, Answer)
    return outcome


def task(question: str = "Why?", *, run_id: str = "r", checkpoint: bytes | None = None) -> Task:
    return Task(run_id=run_id, session_id="s", question=question, checkpoint=checkpoint)
