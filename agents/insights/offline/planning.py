"""The planner's part: look at the schema, understand the question, or ask back, and say what is to be done; after a
remark, what is to be done another way; order what was missing."""

from askstream.agents.insights.offline import clarity
from askstream.agents.insights.offline.conversation import Act, Call, Conversation, asks
from askstream.agents.insights.offline.dialogue import heard, understand
from askstream.agents.insights.offline.names import facts_from
from askstream.agents.insights.offline.plan import FOREIGN, MORE, continued, requests_in, to_text
from askstream.agents.insights.offline.script import Script

SCHEMA_CALL = Call("describe_schema", {})


def plan(conversation: Conversation) -> Script:
    asked = [text for text in conversation.said_by("analysis") if text.startswith(MORE)]
    ordered = requests_in(conversation.said_by("planning"))
    open_ones = [request for request in requests_in(asked) if request not in ordered]
    if open_ones:
        return continued(open_ones)
    (schema,) = yield Act("Which data is there, and up to which day?", (SCHEMA_CALL,))
    facts = facts_from(schema.data)
    if facts is None:
        reason = f" ({schema.message})" if schema.error else ""
        return (
            f"{FOREIGN}\n\nThis isn't the bundled sales warehouse{reason}. I work by rules that know that warehouse "
            "only, so DataAgent describes what the database holds, and ReportAgent says so. Questions about it need a "
            "language model: set `OPENAI_API_KEY`."
        )
    understood = understand(conversation.questions, facts, conversation.reports)
    asked = bool(conversation.inputs) or any(map(asks, conversation.said_by("planning")))
    if clarity.is_needed(understood) and not asked:
        return clarity.question(understood)
    return to_text(heard(understood, conversation.inputs, facts))
