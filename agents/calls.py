"""A run's calls of its models: waits while a model's server is away, and gives up memory if the context is full.

Nothing is repeated once a piece of the answer has come: two halves of two answers would be a text that no model wrote.
"""

import asyncio
import logging
import random
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import TypeVar

from autogen_core import CancellationToken
from autogen_core.models import CreateResult, LLMMessage

from askstream.agents import failures, model_errors
from askstream.agents.chunk_buffer import ChunkBuffer
from askstream.agents.context import RunMemory
from askstream.agents.memory import ContextWindow
from askstream.agents.model_errors import Absence
from askstream.agents.waits import WaitPolicy, Waits
from askstream.server.events import AgentThinking, Draft

log = logging.getLogger(__name__)

T = TypeVar("T")

# The emitter of what no agent does, such as the choice of the next speaker.
SYSTEM = "System"

# OpenAI's library imports it, and hundreds of modules with it, at its first answer of a given structure.
_FOR_STRUCTURE = "openai.resources.beta.beta"


async def prepare(json_output: object) -> None:
    """Import in a thread what a call with this `json_output` needs. In the loop it would block all runs for long."""
    if isinstance(json_output, type) and "openai" in sys.modules and _FOR_STRUCTURE not in sys.modules:
        with suppress(ImportError):  # the client may need none of it
            await asyncio.to_thread(import_module, _FOR_STRUCTURE)


class ModelCaller:
    """Makes the model calls of one run."""

    def __init__(
        self,
        buffer: ChunkBuffer,
        policy: WaitPolicy | None = None,
        memory: RunMemory | None = None,
    ) -> None:
        self._buffer, self._policy = buffer, policy or WaitPolicy()
        self._memory = memory or RunMemory("", ContextWindow())

    async def call(
        self,
        attempt: Callable[[Sequence[LLMMessage]], Awaitable[T]],
        messages: Sequence[LLMMessage],
        *,
        agent_name: str | None,
        token: CancellationToken | None,
    ) -> T:
        """Return the result of `attempt` with `messages`. Raises what the last attempt raised, or RunFailed
        `model_unavailable` after a wait. Cancelling the call or `token` ends a wait at once."""
        waits = Waits(self._policy)
        while True:
            try:
                return await attempt(self._memory.fit(messages))
            except Exception as problem:
                if self._memory.shrink(problem, messages):
                    continue
                absent = model_errors.absence(problem)
                pause = absent and waits.next(absent, time.monotonic(), random.random())  # noqa: S311 - no secret
                if absent is None or pause is None:
                    if absent is None or waits.since is None or not waits.count:
                        raise
                    raise failures.still_away(absent.what, time.monotonic() - waits.since) from problem
            await self._wait(absent, pause, agent_name or SYSTEM, token)

    async def stream(
        self,
        begin: Callable[[Sequence[LLMMessage]], AsyncGenerator[str | CreateResult, None]],
        messages: Sequence[LLMMessage],
        *,
        agent_name: str | None,
        token: CancellationToken | None,
    ) -> tuple[str | CreateResult, AsyncGenerator[str | CreateResult, None]]:
        """Return an answer's first piece, and the stream of the rest. Close it."""
        return await self.call(lambda fitting: _first(begin(fitting)), messages, agent_name=agent_name, token=token)

    async def _wait(self, absent: Absence, pause: float, agent_name: str, token: CancellationToken | None) -> None:
        log.info("the model's server %s; trying again in %.1f s", absent.what, pause)
        text = f"Waits for the model: its server {absent.what}. The next try is in {pause:.1f} s."
        await self._buffer.emit(Draft(agent_name, text, AgentThinking()))
        sleeping = asyncio.ensure_future(asyncio.sleep(pause))
        if token is not None:
            token.link_future(sleeping)
        try:
            await sleeping
        finally:
            sleeping.cancel()


async def _first(
    stream: AsyncGenerator[str | CreateResult, None],
) -> tuple[str | CreateResult, AsyncGenerator[str | CreateResult, None]]:
    try:
        return await anext(stream), stream
    except StopAsyncIteration:
        raise failures.cut_short() from None
    except BaseException:
        await stream.aclose()
        raise
