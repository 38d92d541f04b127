"""The rules for a model's answer, whichever client it came through: it isn't empty, and its end is known."""

from collections.abc import Mapping
from typing import Any

from autogen_core.models import CreateResult, RequestUsage

from askstream.agents import failures
from askstream.server.events import Usage
from askstream.server.events.errors import RunFailed

# Added to a text that the model couldn't finish. Viewers and the other agents must not take it for a whole one.
CUT_MARK = "\n\n[cut here: the model reached its output limit, or the end of its context]"


def mark(result: CreateResult, options: Mapping[str, Any]) -> str:
    """The text to add to an agent's answer: CUT_MARK, or nothing. Raises RunFailed for an answer that is of no use:
    an empty one, a filtered one, or one of a structure that was cut."""
    if result.finish_reason == "content_filter":
        raise RunFailed("model_refused", failures.FILTERED)
    if not isinstance(result.content, str):
        return ""
    if result.finish_reason == "length" and (not result.content.strip() or options.get("json_output")):
        raise RunFailed("model_cut_short", failures.AT_LIMIT)
    if not result.content.strip():
        raise RunFailed("model_empty", failures.EMPTY)
    return CUT_MARK if result.finish_reason == "length" else ""


def usage(result: CreateResult) -> Usage:
    """The tokens of a call. AutoGen has 0 and 0 where the server didn't count: no prompt has no tokens."""
    return Usage() if result.cached else counted(result.usage)


def counted(spent: RequestUsage) -> Usage:
    if not (spent.prompt_tokens or spent.completion_tokens):
        return Usage(None, None)
    return Usage(spent.prompt_tokens, spent.completion_tokens)
