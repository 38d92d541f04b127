"""The part of the analyst: what the figures mean, and why they are so."""

from askstream.agents.insights.offline import observations
from askstream.agents.insights.offline.conversation import Conversation
from askstream.agents.insights.offline.data import PAST
from askstream.agents.insights.offline.evidence import Evidence, from_markdown
from askstream.agents.insights.offline.plan import MORE, stated
from askstream.agents.insights.offline.reasons import reasons
from askstream.agents.insights.offline.script import Script
from askstream.agents.insights.offline.statement import TITLE, parted, say
from askstream.agents.insights.offline.understanding import Understanding


def analyse(conversation: Conversation) -> Script:
    plan = stated(conversation.said_by("planning"))
    data = [one for text in conversation.said_by("data") for one in from_markdown(text)]
    if plan is None:
        return say("There is nothing that rules could analyse here.", [])
    text = yield from _found(plan, data, conversation)
    past = [one for one in data if one.title == PAST]
    return text if text.startswith(MORE) or not past else _with_forecast(text, observations.foretold(plan, past))


def _found(plan: Understanding, data: list[Evidence], conversation: Conversation) -> Script:
    if plan.job in ("report", "why", "compare") and plan.against:
        said = [*conversation.said_before_by("analysis"), *conversation.said_by("analysis")]
        rounds = sum(text.startswith(MORE) for text in said)
        # What was fetched as a proof before a remark still proves it.
        known = [one for text in conversation.said_before_by("data") for one in from_markdown(text)]
        return (yield from reasons(plan, plan.against, [*known, *data], conversation.questions[-1], rounds))
    return (yield from _observed(plan, data))


def _with_forecast(text: str, forecast: str) -> str:
    (words, evidence), (ahead, table) = parted(text), parted(forecast)
    return "\n\n".join(part for part in (TITLE, words, f"**Ahead.** {ahead}", evidence, table) if part)


def _observed(plan: Understanding, data: list[Evidence]) -> Script:
    match plan.job:
        case "rank":
            return (yield from observations.movers(plan, data))
        case "stock":
            return (yield from observations.missed_sales(data))
        case "figure":
            return (yield from observations.year_earlier(plan))
        case "forecast":
            return observations.foretold(plan, data)
        case "trend" | "report":
            return observations.trend(plan, data)
        case "customers":
            return observations.customers(plan, data)
        case "why" | "compare":
            return say("There is no period before it in the data, so a change can't be told.", [])
        case "schema" | "unknown":
            return say("There is nothing to analyse in that.", [])
