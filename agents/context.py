"""The part of a run's prompts that may be left out if the model's context is full: the memory of earlier questions."""

from collections.abc import Sequence

from autogen_core.models import LLMMessage, SystemMessage, UserMessage

from askstream.agents import model_errors
from askstream.agents.memory import USER, ContextWindow


class RunMemory:
    """The messages before a run's question, in all prompts of the run. Exchanges are left out oldest first, whole."""

    def __init__(self, question: str, window: ContextWindow) -> None:
        self._question, self._window = question, window
        self._dropped = 0  # exchanges

    def fit(self, messages: Sequence[LLMMessage]) -> Sequence[LLMMessage]:
        """The messages without the exchanges that were dropped."""
        if not self._dropped:
            return messages
        begin, ends = self._exchanges(messages)
        dropped = min(self._dropped, len(ends))
        return [*messages[:begin], *messages[ends[dropped - 1] :]] if dropped else messages

    def shrink(self, problem: Exception, messages: Sequence[LLMMessage]) -> bool:
        """Drop half of the exchanges that are left in `messages`, at least one. False if `problem` is another one than
        a full context, or nothing is left to drop."""
        if not model_errors.is_context_full(problem):
            return False
        self._window.learn(problem)
        left = len(self._exchanges(messages)[1]) - self._dropped
        if left <= 0:
            return False
        self._dropped += (left + 1) // 2
        return True

    def _exchanges(self, messages: Sequence[LLMMessage]) -> tuple[int, list[int]]:
        """The index of the first remembered message, and the index after each remembered exchange."""
        asked = [
            at for at, message in enumerate(messages) if isinstance(message, UserMessage) and message.source == USER
        ]
        now = next((at for at in reversed(asked) if messages[at].content == self._question), None)
        begin = next((at for at, message in enumerate(messages) if not isinstance(message, SystemMessage)), 0)
        if now is None or now <= begin:
            return begin, []
        return begin, [*(at for at in asked if begin < at < now), now]
