"""What a remark on a report changes in the plan: what is shown, the measure, the periods, the part, the breakdown, a
forecast. What it can't be made to change is said, with the reason. Pure, and never raises."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from agents.offline import words
from agents.offline.followups import compares, continued, merged
from agents.offline.intent import Reading, dimension_of, job_of, measures_of, read
from agents.offline.names import Facts
from agents.offline.plan import items
from agents.offline.understanding import FORECAST, PARTS, Understanding, alone

_MOST_CLAUSES: Final = 10
_LONGEST_QUOTE: Final = 80
_FEW: Final = 12  # members of a dimension: so many can be named when all but one are meant
_ASKED_FOR: Final = (
    "use|compare|add|show|make|leave|drop|without|with|only|just|by|in|for|write|remove|please|include|translate|don't|"
    "not|no|skip|hide|omit|explain|take|keep|break|split|exclude|shorter|longer"
)
_CLAUSES: Final = re.compile(rf"[.;!?\n]+(?:\s|$)|(?:,\s*|\s+)(?:and|but|also|then)\s+(?=(?:{_ASKED_FOR})\b)|,\s+(?=(?:"
                            rf"{_ASKED_FOR})\b)", re.IGNORECASE)  # fmt: skip
_OUT: Final = (
    "without|no|not|drop|remove|leave out|leave|omit|hide|skip|exclude|excluding|except|except for|ignore|cut|delete|"
    "don't|do not|less|minus"
)
_IN: Final = "with|add|include|show|bring back|put back|keep|want|need|plus|give"
_THINGS: Final[Mapping[str, str]] = {
    "SQL": r"sql|quer(?:y|ies)|code",
    "tables": "tables?",
    "charts": "charts?|graphs?|plots?|diagrams?",
    FORECAST: r"forecast\w*|prediction|outlook|projection",
}
_VERB: Final = re.compile(rf"(?<![\w'])(?:(?P<out>{_OUT})|(?P<into>{_IN}))(?![\w'])")
_THING: Final = re.compile(rf"(?<!\w)(?:{'|'.join(_THINGS.values())})(?!\w)")
_SHORTER: Final = re.compile(
    r"\b(?:short(?:er|en)?|brief(?:er|ly)?|concise|condense\w*|too long|(?:less|fewer) details?)\b"
)
_LONGER: Final = re.compile(r"\b(?:longer|more details?|more detailed|in full|too short)\b")
_INSTEAD: Final = re.compile(r"\b(?:instead of|rather than|in place of)\b", re.IGNORECASE)
_AS_WELL: Final = "add|also|too|as well|include|plus|in addition|beside"
_MEANS: Final = "the measure, the periods, the part of the business, a breakdown, a forecast, and what is shown"


def obeyed(plan: Understanding, remark: str, facts: Facts) -> Understanding:
    """The plan as the remark wants it; `changed` and `refused` tell what came of each part of it."""
    before = replace(plan, changed=(), refused=(), carried=())
    now, refused = before, list[str]()
    clauses = [clause.strip() for clause in _CLAUSES.split(remark, _MOST_CLAUSES) if clause.strip()]
    for clause in clauses:
        tried = _presented(now, clause, facts)
        tried = _asked(tried, clause, facts)
        if _is_same(tried, now):
            refused.append(f"“{_quoted(clause)}”: {_reason(now, tried, clause, facts)}")
        else:
            now = replace(tried, assumptions=_still_assumed(now, tried), carried=())
    refused = refused if clauses else ["The remark says nothing."]
    return replace(now, changed=tuple(differences(before, now)), refused=tuple(refused))


def differences(before: Understanding, now: Understanding) -> list[str]:
    """What another plan does differently, each in words."""
    old, new = _plainly(before), _plainly(now)
    return [
        f"{name.lower()}: {new.get(name, 'nothing')}" + (f" instead of {old[name]}" if name in old else "")
        for name in dict.fromkeys((*old, *new))
        if old.get(name) != new.get(name)
    ]


def _plainly(plan: Understanding) -> dict[str, str]:
    told = {name: re.sub(r" \([\d.QH-]+\)$", "", text) for name, text in items(plan).items()}
    return {name: text for name, text in told.items() if name not in ("Left open", "No data on")}


def _is_same(one: Understanding, other: Understanding) -> bool:
    return _plainly(one) == _plainly(other)


# --- what is shown, and what is added --------------------------------------------------------------------------------


def _presented(plan: Understanding, clause: str, facts: Facts) -> Understanding:
    text = words.corrected(words.plain(clause))
    without = {*plan.without, *(["details"] if _SHORTER.search(text) else [])}
    if _LONGER.search(text):
        without.discard("details")
    also = plan.also
    for thing, out in _things(text):
        if thing == FORECAST:
            also = tuple(one for one in also if one != FORECAST) if out else tuple(dict.fromkeys((*also, FORECAST)))
        else:
            without = {*without, thing} if out else without - {thing}
    if plan.job == FORECAST:
        also = plan.also
    ahead = read(clause, facts).dates.ahead if also != plan.also else 0
    shown = tuple(part for part in PARTS if part in without)
    return replace(plan, without=shown, also=also, ahead=ahead or plan.ahead)


def _things(text: str) -> list[tuple[str, bool]]:
    """The parts of a report that the text names, and whether each is to go: the verb before it decides. A forecast
    that is only named is wanted; with anything else nobody knows."""
    found: list[tuple[str, bool]] = []
    for match in _THING.finditer(text):
        thing = next(name for name, pattern in _THINGS.items() if re.fullmatch(pattern, match[0]))
        verbs = list(_VERB.finditer(text[: match.start()]))
        if verbs or thing == FORECAST:
            found.append((thing, bool(verbs and verbs[-1]["out"])))
    return found


# --- what is asked ---------------------------------------------------------------------------------------------------


def _asked(plan: Understanding, clause: str, facts: Facts) -> Understanding:
    """As for a question that leans on the one before; without what has to do with the presentation."""
    wanted, unwanted = _instead(clause)
    text = _THING.sub(" ", words.corrected(words.plain(wanted)))
    reading = read(text, facts)
    if not _says_something(reading):
        return plan
    if plan.job in ("unknown", "schema"):
        return _if_known(plan, alone(wanted, facts))
    if _leaves_out(reading):
        return _but_for(plan, reading, facts)
    dimension = dimension_of(reading, "unknown")
    if dimension and plan.job in ("report", "compare", "why") and not measures_of(reading):
        also = tuple(dict.fromkeys((*plan.also, dimension)))
        return replace(plan, also=also, filters=merged(plan.filters, reading, dimension))
    found = continued(text, plan, facts)
    named = (*plan.measures, *found.measures) if reading.says(_AS_WELL) else found.measures
    gone = measures_of(read(unwanted, facts)) if unwanted else ()
    measures = tuple(name for name in dict.fromkeys(named) if name not in gone) or found.measures
    return _if_known(plan, replace(found, measures=measures))


def _instead(clause: str) -> tuple[str, str]:
    """What is wanted, and instead of what: "orders instead of revenue", "instead of revenue use orders"."""
    wanted, *rest = _INSTEAD.split(clause, maxsplit=1)
    if not rest:
        return clause, ""
    if wanted.strip():
        return wanted, rest[0]
    unwanted, _, wanted = rest[0].strip().partition(" ")
    return wanted, unwanted


def _says_something(reading: Reading) -> bool:
    when = reading.dates
    named = measures_of(reading) or when.periods or when.relation or reading.filters
    return bool(named or dimension_of(reading, "unknown") or compares(reading)) or job_of(reading) in ("why", "trend")


def _if_known(plan: Understanding, found: Understanding) -> Understanding:
    """A remark that leads to nothing must not cost the report that there is."""
    return replace(plan, assumptions=found.assumptions) if found.job == "unknown" else found


def _leaves_out(reading: Reading) -> bool:
    return reading.says(rf"(?:{_OUT})(?: the)? MEMBER")


def _but_for(plan: Understanding, reading: Reading, facts: Facts) -> Understanding:
    """All but those who are named, where the others are few enough to be named themselves."""
    filters = dict(plan.filters)
    for dimension, members in reading.filters.items():
        there = filters.get(dimension, facts.members[dimension])
        others = tuple(name for name in there if name not in members)
        if others and len(others) <= _FEW:
            filters[dimension] = others
    return replace(plan, filters=filters)


# --- what is said about it -------------------------------------------------------------------------------------------


def _reason(now: Understanding, tried: Understanding, clause: str, facts: Facts) -> str:
    new = [note for note in tried.assumptions if note not in now.assumptions and not note.startswith("The data ends")]
    if new:
        return " ".join(new)
    text = words.corrected(words.plain(clause))
    reading = read(text, facts)
    if _leaves_out(reading):
        return "the others are too many to be named one by one."
    if _says_something(reading) or _things(text) or _SHORTER.search(text) or _LONGER.search(text):
        return "the report does that already, as far as it can."
    return f"I work by rules, and can change {_MEANS}."


def _still_assumed(before: Understanding, now: Understanding) -> tuple[str, ...]:
    """The assumptions that stand after the change: those about what stayed, and the new ones."""
    if (before.job, before.measures, before.period, before.against) == (now.job, now.measures, now.period, now.against):
        return before.assumptions
    stayed = {"No measure": before.measures == now.measures, "No period": before.period == now.period}
    kept = [note for note in before.assumptions if stayed.get(note[:10].rstrip(), note.startswith("Profit"))]
    return tuple(dict.fromkeys((*kept, *now.assumptions)))


def _quoted(text: str) -> str:
    """Somebody's words in a line of ours, without what Markdown would take for more than words."""
    plain = " ".join(re.sub(r"[^\w\s.,:?'%€&/+-]", "", text).split())
    return plain if len(plain) <= _LONGEST_QUOTE else f"{plain[:_LONGEST_QUOTE].rstrip()}…"
