"""The offline analyst: one pure function from chat messages and tools to text or tool calls. No model, no memory."""

from collections.abc import Sequence
from typing import Final

from askstream.agents.insights.offline import analysis, data, planning, report
from askstream.agents.insights.offline.conversation import Json, Reply, Say, read
from askstream.agents.insights.offline.script import play

_STRANGER: Final = (
    "I am the offline analyst: rules, not a language model. I know one job, that of the bundled Business Insights "
    "team, and this isn't an agent of it. With a model's key (`OPENAI_API_KEY`) a language model answers in my place."
)


def reply(messages: Sequence[Json], tools: Sequence[Json] = ()) -> Reply:
    """What the analyst answers to a chat request, in OpenAI's shapes. The same request gives the same answer."""
    conversation = read(messages, tools)
    if not conversation.questions:
        return Say("Please ask a question." if conversation.role else _STRANGER)
    match conversation.role:
        case "planning":
            return play(planning.plan(conversation), conversation)
        case "data":
            return play(data.fetch(conversation), conversation)
        case "analysis":
            return play(analysis.analyse(conversation), conversation)
        case "report":
            return play(report.write(conversation), conversation)
        case None:
            return Say(_STRANGER)
