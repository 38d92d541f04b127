"""What a whole conversation comes to: the questions one after the other, then what was answered and remarked. Pure."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest

from askstream.agents.insights.offline import clarity, remarks
from askstream.agents.insights.offline.conversation import Input
from askstream.agents.insights.offline.followups import continued, follows
from askstream.agents.insights.offline.limits import foreseen, possible
from askstream.agents.insights.offline.names import Facts
from askstream.agents.insights.offline.plan import from_report
from askstream.agents.insights.offline.understanding import Understanding, alone


def understand(questions: Sequence[str], facts: Facts, reports: Sequence[str] = ()) -> Understanding:
    """The last question, read after those before it. A report tells better than its question how that was understood:
    answers and remarks went into it."""
    earlier: Understanding | None = None
    for question, report in zip_longest(questions[:-1], reports[: len(questions[:-1])], fillvalue=""):
        found = from_report(report) or _understood(question, facts, earlier)
        earlier = found if found.job not in ("unknown", "schema") else earlier
    return _understood(questions[-1] if questions else "", facts, earlier)


def heard(plan: Understanding, inputs: Sequence[Input], facts: Facts) -> Understanding:
    """The plan after what a person said to it."""
    for one in inputs:
        match one.kind:
            case "answer":
                plan = clarity.answered(plan, one.text, facts)
            case "silence":
                plan = clarity.unanswered(plan)
            case "remark":
                plan = remarks.obeyed(plan, one.text, facts)
    return foreseen(plan)  # an answer or a remark may have asked for more


def _understood(question: str, facts: Facts, earlier: Understanding | None) -> Understanding:
    asked = possible(question, facts)
    if asked.refused:
        return replace(
            alone(asked.question, facts), job="unknown", against=None, assumptions=(), ambiguous=(), cannot=asked.cannot
        )
    leans = earlier and follows(asked.question, earlier, facts)
    found = continued(asked.question, earlier, facts) if earlier and leans else alone(asked.question, facts)
    return foreseen(replace(found, cannot=asked.cannot))
