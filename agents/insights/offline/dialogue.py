"""A whole conversation as one plan: the questions one after the other, then answers and remarks.

A question that leans on the one before is laid over it slot by slot. The earlier question is read
from the title of its report, which the grammar understands. Pure.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Final

from askstream.agents.insights.offline import dates, lexicon
from askstream.agents.insights.offline.conversation import ASK, Conversation, Input
from askstream.agents.insights.offline.grammar import Slots, read
from askstream.agents.insights.offline.names import Facts, Named
from askstream.agents.insights.offline.plan import No, Plan
from askstream.agents.insights.offline.understanding import check_words, job_of, present, refusal, understood

_LONG_TALK: Final = 300  # characters; in longer texts the last question alone may be answered
_POINTS_BACK: Final = r"\b(?:it|its|they|them|their|those|these)\b"
_OPENERS: Final = r"\b(?:so,? )?(?:what|how much|how many|which|who|why|when|show|give|list|compare|tell me)\b"
# Filters that exclude each other: a follow-up that names the first drops the others.
_WITHIN: Final[Mapping[str, tuple[str, ...]]] = {
    "region": ("customer", "sales_person"), "segment": ("customer",), "category": ("product",),
    "product": ("category",), "customer": ("region", "segment", "sales_person"),
    "sales_person": ("region", "customer"),
}  # fmt: skip
_HIDDEN: Final[Mapping[str, str]] = {
    "SQL": "(?:the )?(?:sql|queries|query|code)", "charts": "(?:the |any )?(?:charts?|graphs?|pictures?|diagrams?)",
    "tables": "(?:the |any )?tables?", "details": "(?:the )?details?",
}  # fmt: skip
_GONE: Final = "without|no|leave out|leaving out|remove|drop|skip|hide|omit"
_SHORT: Final = r"\b(?:shorter|short|briefly|brief|too long|less text|more concise|condense)\b"
_CHOICES: Final = ("revenue", "orders", "units", "margin", "report")
_VAGUE: Final = (
    "Which figure of {part} do you mean: 1) revenue, 2) orders, 3) units, 4) gross margin or 5) all of them{when}?"
)


def understand(talk: Conversation, facts: Facts) -> Plan | str:
    """The plan of the last question, or the question that the planner asks back."""
    earlier: Slots | None = None
    names: list[Named] = []
    for question, report in zip_longest(talk.questions[:-1], talk.reports, fillvalue=""):
        earlier = _of_report(report, facts) or _slots(question, earlier, names, facts) or earlier
        names = _listed(report, facts)
    plan, slots = _last(talk.questions[-1], earlier, names, facts)
    if slots and not talk.inputs and talk.may_ask and _is_vague(slots, plan):
        return _ask(slots, plan)
    return _heard(plan, slots, talk.inputs, facts)


def _last(question: str, earlier: Slots | None, names: list[Named], facts: Facts) -> tuple[Plan, Slots | None]:
    try:
        slots = _continued(question, earlier, names, facts)
        return _first_plan(question, slots, facts), slots
    except No as no:
        return refusal(no, read(question, facts), facts), None


def _first_plan(question: str, slots: Slots, facts: Facts) -> Plan:
    try:
        return understood(slots, facts)
    except No:
        if len(question) < _LONG_TALK:
            raise
        places = [match.start() for match in re.finditer(_OPENERS, question, re.IGNORECASE)]
        tail = question[places[-1] :] if places else ""
        plan = understood(read(tail, facts), facts)
        return replace(plan, notes=(f"Only the last question of the text was read: “{tail.strip()}”", *plan.notes))


def _slots(question: str, earlier: Slots | None, names: list[Named], facts: Facts) -> Slots | None:
    """None if it gets no answer, and so isn't what a follow-up leans on."""
    try:
        slots = _continued(question, earlier, names, facts)
        understood(slots, facts)
    except No:
        return None
    return slots


def _of_report(report: str, facts: Facts) -> Slots | None:
    """Read a report's title. Return None if the report is no answer."""
    head = report.partition("\n")[0]
    slots = read(head.removeprefix("# "), facts)
    try:
        check_words(slots, facts)
        return slots if head.startswith("# ") and job_of(slots) not in (None, "schema") else None
    except No:
        return None


def _listed(report: str, facts: Facts) -> list[Named]:
    """The members in the first column of a report's first table, in order."""
    holders = {name: dimension for dimension, members in facts.members.items() for name in members}
    table = report.partition("\n| ---")[2].partition("\n\n")[0]
    cells = [line.split("|")[1].strip() for line in table.split("\n") if line.startswith("| ")]
    return [Named(0, 0, holders[cell], cell) for cell in cells if cell in holders]


# --- follow-ups ----------------------------------------------------------------------------------


def _continued(question: str, earlier: Slots | None, names: list[Named], facts: Facts) -> Slots:
    slots = read(question, facts)
    if slots.position is not None:
        if earlier is None or not names or slots.position >= len(names):
            raise No("I don't see which one “the first one” is: ask for it by its name.")
        slots.named.append(names[slots.position])
        slots.position = None
        return _of_one(slots, earlier)
    pointing = re.search(_POINTS_BACK, question.lower())
    if pointing and not (slots.jobs and (earlier is None or not (earlier.by or earlier.nouns))):
        _check_pointing(pointing[0], earlier)
    return overlaid(earlier, slots) if earlier and (pointing or leans(slots)) else slots


def _check_pointing(word: str, earlier: Slots | None) -> None:
    """ "It" is the part that the question before was about; of a list it could be any."""
    if earlier is None or earlier.by or earlier.nouns:
        raise No(f"I don't see what “{word}” is: ask for it by its name.")


def leans(slots: Slots) -> bool:
    """Whether the question needs the one before: it begins so, or names too little of its own."""
    words = slots.text.lower().split()
    own = job_of(slots)
    whole = bool(own and slots.dates.periods and (slots.measures or slots.jobs or slots.nouns))
    if re.match(rf"\W*(?:{lexicon.LEANS})", slots.text.lower()):
        return not whole
    if own == "why" and not slots.measures and not slots.dates.periods:
        return True
    if own is None or (own == "figure" and not slots.measures and slots.direction):
        return bool(present(slots) or slots.named or slots.dates.periods)
    if own == "list" and slots.by and not slots.measures and len(words) <= 4:
        return True
    return bool(slots.measures) and len(words) <= 2 and not slots.dates.periods and not slots.jobs


def _of_one(slots: Slots, earlier: Slots) -> Slots:
    """One member of a list: a figure of it, under the filters of the list."""
    base = replace(earlier, by=[], nouns=[], order=None, count=None, limit=None, grain="", share=False, jobs=[])
    many = re.search(r"\bhow many\b", slots.text.lower()) is not None
    slots.measures = slots.measures or (["units"] if many else [])
    return overlaid(base, slots)


def overlaid(old: Slots, new: Slots) -> Slots:
    """The old slots, with those that the new question fills."""
    found = replace(new, jobs=new.jobs or old.jobs, measures=new.measures or old.measures, per=old.per)
    found.text = f"{old.text} {new.text}"
    shaped = bool(new.by or new.nouns or new.grain)
    if new.jobs:
        found.measures = new.measures or (old.measures if "report" not in new.jobs else [])
    elif shaped:
        found.jobs = []
    else:
        found.by, found.nouns, found.grain = list(old.by), list(old.nouns), old.grain
        found.order, found.count = new.order or old.order, new.count or old.count
        found.limit, found.share = new.limit or old.limit, new.share or old.share
        found.nothing, found.bought = new.nothing or old.nothing, new.bought or old.bought
        if new.measures and old.jobs and old.jobs[0] not in ("why", "report", "forecast"):
            found.jobs = []
    found.days = new.days or old.days
    found.compared = new.compared or (old.compared and not new.dates.periods and not shaped)
    _over_names(found, old, new, shaped=shaped)
    _over_dates(found, old, new)
    return found


def _over_names(found: Slots, old: Slots, new: Slots, *, shaped: bool) -> None:
    gone: set[str] = set(new.by + new.nouns) if shaped else set()
    for one in new.named:
        if not one.left_out:
            gone |= {one.dimension, *_WITHIN[one.dimension]}
    dropped = {one.name for one in new.named}
    kept = [one for one in old.named if (one.left_out or one.dimension not in gone) and one.name not in dropped]
    # Positions tell what stands behind "without orders"; those of the old text come first.
    found.named = [*(replace(one, start=one.start - 10_000) for one in kept), *new.named]


def _over_dates(found: Slots, old: Slots, new: Slots) -> None:
    periods = old.dates.periods
    if new.compared and len(new.dates.periods) == 1 and periods:
        found.dates = replace(new.dates, periods=(max(periods), *new.dates.periods), linked=True)
    elif new.dates.periods or not periods:
        found.dates = new.dates if new.dates.periods or new.dates.ahead else old.dates
    elif new.dates.relation and not new.compared:
        later = max(periods)
        year = new.dates.relation == "year_before"
        moved = later.year_before() if year else dates.before_by(new.dates.step, later)
        pair = len(periods) == 2 and not year
        found.dates = replace(old.dates, periods=(moved,), relation=None, notes=())
        found.compared = found.compared and not pair and bool(found.jobs)
    elif new.dates.relation:
        found.dates = replace(old.dates, periods=(max(periods),), relation=new.dates.relation, step=new.dates.step)
    else:
        single = bool(new.by or new.grain) and len(periods) == 2
        found.dates = replace(old.dates, periods=(max(periods),)) if single else old.dates
        if new.dates.ahead:
            found.dates = new.dates


# --- asking back, answers and remarks ------------------------------------------------------------


def _is_vague(slots: Slots, plan: Plan) -> bool:
    named = re.search(r"\b(?:reports?|overview|summary|dashboard|briefing)\b", slots.text.lower())
    return plan.job == "report" and bool(plan.only) and not slots.measures and not named


def _ask(slots: Slots, plan: Plan) -> str:
    names = [f"the {n}" if d == "region" else n for d, members in plan.only.items() for n in members]
    when = "" if slots.dates.periods else ", and for which period (last month, last quarter, this year)"
    question = _VAGUE.format(part=" and ".join(names), when=when)
    return f"**Plan, once this is clear**\n\nIts figures may point different ways.\n\n{ASK} {question}"


def _heard(plan: Plan, slots: Slots | None, inputs: Sequence[Input], facts: Facts) -> Plan:
    """The plan after what a person said to it."""
    for one in inputs:
        if one.kind == "silence":
            plan = replace(plan, notes=("Nobody answered which figure was meant; all four are assumed", *plan.notes))
        elif one.kind == "answer" and slots:
            plan, slots = _answered(plan, slots, one.text, facts)
        else:
            plan, slots = _remarked(plan, slots, one.text, facts)
    return plan


def _answered(plan: Plan, slots: Slots, text: str, facts: Facts) -> tuple[Plan, Slots]:
    chosen = re.match(r"\W*(?:option |the )?([1-5]|first|second|third|fourth|fifth)\b", text.lower())
    words = ("first", "second", "third", "fourth", "fifth")
    if chosen:
        place = words.index(chosen[1]) if chosen[1] in words else int(chosen[1]) - 1
        text = f"{_CHOICES[place]} {text[chosen.end() :]}"
    text = re.sub(r"\ball(?: of them)?\b", "report", text)
    new = read(text, facts)
    base = slots if "report" in new.jobs else replace(slots, jobs=[], text=new.text)
    try:
        check_words(new, facts)
        found = overlaid(base, new)
        if not found.measures and not found.jobs:
            found.jobs = ["report"]
        return understood(found, facts), found
    except No as no:
        notes = ("The answer named no figure that I know", *plan.notes)
        return replace(plan, notes=notes, refused=no.reasons), slots


def _remarked(plan: Plan, slots: Slots | None, text: str, facts: Facts) -> tuple[Plan, Slots | None]:
    """Change a plan as a remark asks. The new plan lists its changes; a remark that isn't understood whole has none."""
    rest, hidden = _hidden(text, plan)
    changed = [f"Without {name}" for name in hidden if name not in plan.hidden]
    old = replace(plan, changed=(), refused=(), hidden=hidden)
    rest = re.sub(
        r"\b(?:add|use|take|please|instead(?: of \w+)?|rather than \w+|it|for|with)\b", " ", rest, flags=re.IGNORECASE
    )
    if not re.search(r"\w", rest):
        told = tuple(changed) or ()
        return replace(old, changed=told, refused=() if told else ("There was no remark that I know.",)), slots
    new = read(rest, facts)
    try:
        check_words(new, facts)
        if slots is None:
            raise No("There is no answer to change.")
        found = overlaid(slots, new)
        made = replace(understood(found, facts), hidden=hidden)
    except No as no:
        reasons = tuple(f"“{text.strip()}”: {reason}" for reason in no.reasons)
        return replace(old, changed=tuple(changed), refused=reasons), slots
    same = replace(made, notes=()) == replace(old, notes=())
    if same:
        return replace(old, refused=("The report does that already.",), changed=tuple(changed)), slots
    return replace(made, changed=(*changed, f"“{text.strip()}”")), found


def _hidden(text: str, plan: Plan) -> tuple[str, tuple[str, ...]]:
    """The remark without what it says about the report's form, and the parts that go."""
    hidden = list(plan.hidden)
    for name, pattern in _HIDDEN.items():
        found = re.search(rf"\b(?:{_GONE}) {pattern}\b", text, re.IGNORECASE)
        if found:
            text = text.replace(found[0], " ")
            hidden.append(name)
    short = re.sub(_SHORT, " ", text, flags=re.IGNORECASE)
    if short != text:
        hidden.append("details")
        text = re.sub(r"\b(?:make|it|is|the|report|please|this|much)\b", " ", short, flags=re.IGNORECASE)
    return text, tuple(dict.fromkeys(hidden))
