"""The offline analyst: one pure function from chat messages and tools to text or tool calls."""

from collections.abc import Sequence
from typing import Final

from askstream.agents.insights.offline import agents, report
from askstream.agents.insights.offline.conversation import Json, Reply, Say, read
from askstream.agents.insights.offline.script import play

_STRANGER: Final = (
    "I am the offline analyst: rules, not a language model. I know one job, that of the bundled Business "
    "Insights team, and this isn't an agent of it. With a model's key (`OPENAI_API_KEY`) a language model "
    "answers in my place."
)
_ROLES: Final = {"planning": agents.plan, "data": agents.fetch, "analysis": agents.analyse, "report": report.write}


def reply(messages: Sequence[Json], tools: Sequence[Json] = ()) -> Reply:
    """The answer to a chat request, in OpenAI's shapes. Equal requests get equal answers."""
    talk = read(messages, tools)
    if talk.role is None:
        return Say(_STRANGER)
    if not talk.questions:
        return Say("Please ask a question.")
    return play(_ROLES[talk.role](talk), talk)
