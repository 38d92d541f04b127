"""Asking back, where a question about a part of the business leaves open what is meant; and what the answer changes."""

import re
from dataclasses import replace
from typing import Final

from askstream.agents.insights.measures import MEASURES
from askstream.agents.insights.offline import mentions
from askstream.agents.insights.offline.conversation import ASK
from askstream.agents.insights.offline.followups import continued
from askstream.agents.insights.offline.intent import job_of, measures_of, read
from askstream.agents.insights.offline.names import Facts
from askstream.agents.insights.offline.understanding import (
    KEY_MEASURES,
    NO_MEASURE,
    NO_PERIOD,
    Ambiguity,
    Understanding,
    with_ambiguity,
)
from askstream.agents.insights.periods import Period

TITLE: Final = "**Plan, once this is clear**"
_CHOICES: Final = (*((name,) for name in KEY_MEASURES), KEY_MEASURES)  # by number, from 1
_ORDINALS: Final = ("first", "second", "third", "fourth", "fifth")
_NUMBERS: Final = ("one", "two", "three", "four", "five")
_ALL: Final = "all|all of them|everything|each|every|full|overview|reports?|summary|both"
_OF_ITS_OWN: Final = ("why", "rank", "trend", "customers", "stock", "forecast")
_UNHELPFUL: Final = "The answer named neither a figure nor a period that I know."


def is_needed(plan: Understanding) -> bool:
    """How we are doing as a whole is what the report tells; of a part of the business there is no usual report."""
    return plan.job == "report" and "measure" in plan.ambiguous and bool(plan.filters)


def question(plan: Understanding) -> str:
    """What the planner says in place of a plan; its last line is the question."""
    part = _part(plan)
    *first, last = (f"{n}) {_label(names)}" for n, names in enumerate(_CHOICES, 1))
    figures = f"{', '.join(first)} or {last}"
    asked = f"Which figure of {part} do you mean"
    if "period" in plan.ambiguous:
        asked += f", and for which period: {figures}; {_periods(plan)}?"
    else:
        asked += f", for {plan.period.label}: {figures}?"
    return f"{TITLE}\n\nOf {part} there is no usual report, and its figures may point different ways.\n\n{ASK} {asked}"


def answered(plan: Understanding, text: str, facts: Facts) -> Understanding:
    """The plan with what the answer says; what that leaves open is assumed, and stated."""
    reading = read(text, facts)
    named, own = measures_of(reading), job_of(reading) in _OF_ITS_OWN
    chosen = named or (() if own else _chosen(reading.text))
    everything = chosen == KEY_MEASURES or (not chosen and not own and reading.says(_ALL))
    asked = replace(
        plan,
        job="report" if everything or not chosen else "compare",
        measures=chosen or KEY_MEASURES,
        ambiguous=(),
    )
    found = continued(text, asked, facts)
    still = _still_open(plan, measure=bool(chosen or everything or own), period=bool(reading.dates.periods))
    helped = still != plan.ambiguous or reading.filters
    notes = (*_kept(plan), *found.assumptions) if helped else (*_kept(plan), _UNHELPFUL, *found.assumptions)
    return with_ambiguity(
        replace(found, ambiguous=still, assumptions=tuple(dict.fromkeys(notes)), carried=(), missing=plan.missing)
    )


def unanswered(plan: Understanding) -> Understanding:
    """The plan as the assumptions have it, with word of why there are any."""
    asked = "which figure and which period were" if "period" in plan.ambiguous else "which figure was"
    return replace(plan, assumptions=(f"Nobody answered {asked} meant.", *plan.assumptions))


def _part(plan: Understanding) -> str:
    names = [f"the {n}" if d == "region" else n for d, members in plan.filters.items() for n in members]
    return ", ".join(names)


def _label(names: tuple[str, ...]) -> str:
    return MEASURES[names[0]].label.lower() if len(names) == 1 else "all of them"


def _periods(plan: Understanding) -> str:
    today = plan.covers.end
    last = {unit: mentions.last_whole(unit, today).label for unit in ("month", "quarter")}
    year = Period(today.replace(month=1, day=1), today).label
    return f"last month ({last['month']}), last quarter ({last['quarter']}) or this year ({year})"


def _chosen(text: str) -> tuple[str, ...]:
    """The measures that are chosen by number: "1", "the second", "1 and 3"."""
    found: list[str] = []
    for word in re.findall(r"(?<![\w-])(\d|[a-z]+)(?:st|nd|rd|th)?(?![\w-])", text):
        place = next((words.index(word) for words in (_ORDINALS, _NUMBERS) if word in words), None)
        place = int(word) - 1 if word.isdigit() else place
        if place is not None and 0 <= place < len(_CHOICES):
            found += _CHOICES[place]
    return tuple(dict.fromkeys(found))


def _still_open(plan: Understanding, *, measure: bool, period: bool) -> tuple[Ambiguity, ...]:
    settled = {"measure": measure, "period": period}
    return tuple(one for one in plan.ambiguous if not settled[one])


def _kept(plan: Understanding) -> tuple[str, ...]:
    """What was assumed besides what was asked."""
    return tuple(note for note in plan.assumptions if not note.startswith((NO_MEASURE, NO_PERIOD)))
