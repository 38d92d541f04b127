"""Ends a model call that is silent for too long, and says what the silence was.

A model may be silent before its first token for three reasons: its server answers other calls first, it reads a long
prompt, or it hangs. After the first token there is only the last.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from askstream.server.events.errors import RunFailed

# Shorter prompts are read within seconds, even without a GPU. A token has about four characters.
LONG_PROMPT = 8_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceLimits:
    """Seconds until a call's first token, and between two tokens."""

    first_token: float = 120.0
    later: float = 60.0


@dataclass(slots=True)
class LastHeard:
    """When any call of a client got a token last, in loop time. All calls of the client share it."""

    at: float = float("-inf")


class SilenceWatch:
    """Watches one call. Enter it before the first read of the stream, and call `heard` and `waits` after and before
    each other read: while the reader is busy elsewhere, the model isn't blamed.

    It raises RunFailed `model_unavailable` out of the read that takes too long.
    """

    def __init__(self, limits: SilenceLimits, last: LastHeard, messages: Sequence[object]) -> None:
        self._limits, self._last, self._messages = limits, last, messages
        self._loop = asyncio.get_running_loop()
        self._began = self._since = self._loop.time()
        self._begun = self._expired = False
        self._task: asyncio.Task[Any] | None = None  # set while it reads
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        self.waits()
        self._check()

    def waits(self) -> None:
        self._since = self._loop.time()
        self._task = asyncio.current_task()

    def heard(self) -> None:
        self._task = None
        self._begun = True
        self._last.at = self._loop.time()

    def __exit__(
        self, _kind: type[BaseException] | None, problem: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        task, self._task = self._task, None
        if not self._expired or task is None or not isinstance(problem, asyncio.CancelledError):
            return
        if task.uncancel() == 0:  # else the run was cancelled as well
            raise RunFailed("model_unavailable", self._sentence()) from None

    def _check(self) -> None:
        """Cancel a read that has taken too long, else look again when one could have. One timer serves the call."""
        limit = self._limits.later if self._begun else self._limits.first_token
        left = self._since + limit - self._loop.time() if self._task else limit
        if left > 0:
            # The first token makes the limit the later one, whatever the timer was set to.
            self._timer = self._loop.call_later(min(left, self._limits.later), self._check)
        elif self._task is not None:
            self._expired = True
            self._task.cancel()

    def _sentence(self) -> str:
        if self._begun:
            return _STOPPED.format(self._limits.later)
        seconds, characters = self._limits.first_token, sum(len(str(message)) for message in self._messages)
        if self._last.at > self._began:
            return _QUEUED.format(seconds)
        return _READS.format(seconds, characters // 4) if characters > LONG_PROMPT else _HANGS.format(seconds)


_QUEUED = (
    "The model didn't begin to answer within {:.0f} s, while it answered others: this call waited in its queue. Ask "
    "again when less is going on, or raise ASKSTREAM_FIRST_TOKEN_SECONDS."
)
_READS = (
    "The model didn't begin to answer within {:.0f} s: its prompt is long, about {:,} tokens, and it was probably "
    "still reading. Ask for less, or raise ASKSTREAM_FIRST_TOKEN_SECONDS."
)
_HANGS = (
    "The model didn't begin to answer within {:.0f} s, though its prompt is short: its server hangs, or is busy with "
    "something else. Check it, or raise ASKSTREAM_FIRST_TOKEN_SECONDS."
)
_STOPPED = (
    "The model began to answer, then sent nothing for {:.0f} s: its server hangs. Check it, or raise "
    "ASKSTREAM_TOKEN_SILENCE_SECONDS."
)
