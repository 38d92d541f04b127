"""What a remark on a report changes in the plan: what is shown, the measure, the periods, the part, the breakdown, a
forecast. What it can't be made to change is said, with the reason. Pure, and never raises."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from askstream.agents.insights.measures import DIMENSIONS
from askstream.agents.insights.offline import words
from askstream.agents.insights.offline.followups import compares, continued, merged
from askstream.agents.insights.offline.intent import Reading, dimension_of, job_of, measures_of, read
from askstream.agents.insights.offline.names import Facts
from askstream.agents.insights.offline.plan import items
from askstream.agents.insights.offline.understanding import FORECAST, PARTS, Understanding, alone, leaves_out, meant

_MOST_CLAUSES: Final = 10
_NO_REMARK: Final = "it was sent back without a remark"  # what the team is told where a person said no more
_LONGEST_QUOTE: Final = 80
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
_NOT_SHOWN: Final = ("Left open", "No data on", "From the question before")
_INCIDENTAL: Final = ("By", "Order", "Grain", "Months ahead")
_NAMES: Final[Mapping[str, str]] = {
    "SQL": "the SQL",
    "tables": "the tables",
    "charts": "the charts",
    FORECAST: "a forecast",
} | {dimension: f"a list by {dimension.replace('_', ' ')}" for dimension in DIMENSIONS}
_MEANS: Final = "the measure, the periods, the part of the business, a breakdown, a forecast, and what is shown"


def obeyed(plan: Understanding, remark: str, facts: Facts) -> Understanding:
    """The plan as the remark wants it; `changed` and `refused` tell what came of each part of it."""
    before = replace(plan, changed=(), refused=(), carried=())
    now, refused = before, list[str]()
    said = "" if remark.startswith(_NO_REMARK) else remark
    clauses = [clause.strip() for clause in _CLAUSES.split(said, _MOST_CLAUSES) if clause.strip()]
    for clause in clauses:
        tried = replace(_asked(_presented(now, clause, facts), clause, facts), carried=())
        if _is_same(tried, now):
            refused.append(f"“{_quoted(clause)}”: {_reason(now, tried, clause, facts)}")
        else:
            now = replace(tried, assumptions=_still_assumed(now, tried))
    refused = refused if clauses else ["There was no remark: rules can't tell what is to be another way."]
    changed = differences(before, now)
    if not changed and not refused:  # "by region, and why", after which another clause wants the list back
        refused = ["Taken together, the parts of this remark leave the report as it is."]
    return replace(now, changed=tuple(changed), refused=tuple(refused))


def differences(before: Understanding, now: Understanding) -> list[str]:
    """What another plan does differently, each in words."""
    old, new = _plainly(before), _plainly(now)
    changed = [name for name in dict.fromkeys((*old, *new)) if old.get(name) != new.get(name)]
    # What a new kind of answer brings with it of itself is no news.
    told = [
        name
        for name in changed
        if (name in old and name in new) or name not in _INCIDENTAL or (name == "By" and name in new)
    ]
    if before.job in ("unknown", "schema") and "Task" in changed:
        return [new["Task"]]
    return [_told(name, old.get(name, ""), new.get(name, "")) for name in told]


def _told(name: str, old: str, new: str) -> str:
    instead = f" instead of {old}" if old else ""
    match name:
        case "Measures" if not new:
            return f"no longer of {old.lower()}"
        case "Measures":
            return _measured(old.lower().split(", "), new.lower().split(", ")) if old else f"of {new.lower()}"
        case "Task" | "Period":
            return f"{new}{instead}"
        case "Only":
            members = ", ".join(part.partition(" = ")[2] for part in new.split("; "))
            return f"only {members}" if new else "no longer a part of the business alone"
        case "Compared with":
            return f"compared with {new}{instead}" if new else f"no longer compared with {old}"
        case "In addition":
            return _more_or_less("with {} as well", "without {}", old, new)
        case "Shown without":
            return _more_or_less("without {}", "with {}", old, new)
        case _:
            return f"{name.lower()} {new or 'nothing'}{instead}"


def _more_or_less(more: str, less: str, old: str, new: str) -> str:
    """What came to a list and what left it."""
    before, now = old.split(", "), new.split(", ")
    came = [more.format(_NAMES.get(one, one)) for one in now if one and one not in before]
    return ", ".join([*came, *(less.format(_NAMES.get(one, one)) for one in before if one and one not in now)])


def _measured(old: Sequence[str], new: Sequence[str]) -> str:
    if len(new) == 1:
        return f"only {new[0]}" if new[0] in old else f"{new[0]} instead of {', '.join(old)}"
    came = [f"with {name}" for name in new if name not in old]
    gone = [f"without {name}" for name in old if name not in new]
    return ", ".join([*([f"{new[0]} first"] if new[0] != old[0] else []), *came, *gone])


def _plainly(plan: Understanding) -> dict[str, str]:
    """The plan's items, as far as the report shows them."""
    told = {name: re.sub(r" \([\d.QH-]+\)$", "", text) for name, text in items(_effective(plan)).items()}
    return {name: text for name, text in told.items() if name not in _NOT_SHOWN}


def _effective(plan: Understanding) -> Understanding:
    """Without what an answer of its kind makes nothing of."""
    match plan.job:
        case "unknown":
            return replace(plan, measures=(), filters={}, against=None, also=(), without=())
        case "schema":
            return replace(plan, measures=(), filters={}, against=None)
        case "stock":
            only = {name: members for name, members in plan.filters.items() if name == "product"}
            return replace(plan, measures=(), filters=only, against=None)
        case "customers":
            return replace(plan, measures=(), against=None)
        case "rank" | "why" | "forecast":
            return replace(plan, measures=plan.measures[:1])
        case _:
            return plan


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
    dimension = dimension_of(reading, "unknown")
    if dimension and plan.job in ("report", "compare", "why") and not measures_of(reading):
        also = tuple(dict.fromkeys((*plan.also, dimension)))
        return replace(plan, also=also, filters=merged(plan.filters, reading, facts, dimension))
    found = continued(text, plan, facts)
    if compares(reading) and not found.against:
        return replace(plan, assumptions=found.assumptions)
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


# --- what is said about it -------------------------------------------------------------------------------------------


def _reason(now: Understanding, tried: Understanding, clause: str, facts: Facts) -> str:
    new = [note for note in tried.assumptions if note not in now.assumptions and not note.startswith("The data ends")]
    if new:
        return " ".join(new)
    text = words.corrected(words.plain(clause))
    reading = read(text, facts)
    if leaves_out(reading) and not meant(reading, facts):
        return "the others are too many to be named one by one."
    if items(tried) != items(now):
        return "an answer of this kind can't show that."
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
